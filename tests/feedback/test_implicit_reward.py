"""DPO's implicit reward: the log-ratio itself, its sign, its scale."""

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.specs import judge
from alignlab.models.chat_template import encode_prompt, encode_response
from alignlab.models.load import load
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import TokenGroup
from alignlab.types import Unscored
from tests.feedback import reward_folders
from tests.feedback.worlds import prompt, response, says


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("policies")
    return [reward_folders.decoder(base / str(seed), seed=seed) for seed in (0, 1)]


TEXTS = ("yes", "a longer answer")


def rewards(policy, reference, options=""):
    spec = f"implicit_reward:{policy}?reference={reference}{options}"
    source = judge(spec, make_completer=lambda s: says("x"))
    items = [(prompt(), [response(str(i), t) for i, t in enumerate(TEXTS)])]
    return [f.verdict.value for f in source.rate(items, seed=0)]


def logps(folder):
    lm = load(folder)
    answers = tuple(tuple(encode_response(lm, t)) for t in TEXTS)
    group = TokenGroup("p", tuple(encode_prompt(lm, prompt().messages)), answers)
    (found,) = response_logprobs(lm, [group])
    return found.sums, [len(a) for a in answers]


def test_it_is_beta_times_the_log_ratio(folders):
    (own, lengths), (other, _) = map(logps, folders)
    wanted = [0.3 * (a - b) for a, b in zip(own, other, strict=True)]
    assert rewards(*folders, "&beta=0.3") == pytest.approx(wanted)
    per_token = [w / n for w, n in zip(wanted, lengths, strict=True)]
    assert rewards(*folders, "&beta=0.3&per_token=true") == pytest.approx(per_token)


def test_exchanging_the_models_flips_the_sign_and_itself_is_zero(folders):
    policy, reference = folders
    there, back = rewards(policy, reference), rewards(reference, policy)
    assert there == pytest.approx([-r for r in back])
    assert any(abs(r) > 0.01 for r in there)
    assert rewards(policy, policy) == [0.0, 0.0]


def test_what_is_too_long_is_unscored(folders):
    spec = f"implicit_reward:{folders[0]}?reference={folders[1]}"
    source = judge(spec, make_completer=lambda s: says("x"))
    (found,) = source.rate([(prompt(), [response("1", "x" * 300)])], seed=0)
    assert found.verdict == Unscored("longer than 256 tokens")


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("", r"POLICY\?reference=REF"),
        ("folder", r"POLICY\?reference=REF"),
        ("a?reference=b&beta=0", "beta"),
    ],
)
def test_what_is_missing_is_told(rest, why):
    with pytest.raises(BadInput, match=why):
        judge(f"implicit_reward:{rest}", make_completer=lambda s: says("x"))
