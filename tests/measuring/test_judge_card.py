"""Judge cards: sets and pairs, guesses, biases, the rules of the verdict, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import alignlab as al
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.judge_quality import ordered_pairs
from alignlab.feedback.conversion import JudgeByScore
from alignlab.measuring import card_cache
from alignlab.measuring.card_sets import CardSet, by_identity, find_sets, read_set
from alignlab.measuring.card_table import by_set
from alignlab.measuring.card_verdict import LEAST_PAIRS, verdict_of
from alignlab.measuring.judge_card import CardSettings, RememberedScores, card_rows, own_writer
from alignlab.report.headline import Headline, with_judge
from alignlab.types import EvalResult, Feedback, Preference, StudyDescription
from tests.conftest import shared_path
from tests.evaluation.asking import Pairs, Scores, figures, jsonl
from tests.evaluation.benchmarks.test_judge_benchmarks import group, pairs_of

QUICK = CardSettings(attacked=0, repeated=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Cards are stored in the test's folder."""
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))


def card_set(name, groups, judged_by="people"):
    pairs = tuple(ordered_pairs(groups, 0))
    return CardSet(name, judged_by, pairs, len(pairs), by_identity(pairs, pairs), {})


def rows_of(judge, *groups, settings=QUICK, **options):
    return card_rows(judge, [card_set("made", groups)], settings, **options)


class Ordered(Pairs):
    """Shown both orders: the first shown always wins."""

    def _one(self, prompt, a, b):
        return Feedback(prompt.id, (a.id, b.id), "ordered", Preference(None, (0, 1)))


def test_a_bias_for_the_first():
    rows = rows_of(Ordered(len), *[group(f"g{i}", "x", "22", "1") for i in range(8)])
    got = figures([r for r in rows if r.group is None], "pairs")
    assert (got["consistent"], got["first_wins"]) == (0.0, 1.0)
    assert (got["agreement"], got["accuracy"], got["accuracy_over_coin"]) == (0.0, 0.5, 0.0)
    assert got["accuracy_over_longer"] == -0.5  # the longer answer is right on all
    assert "accuracy_if_consistent" not in got


def test_a_bias_for_length_and_for_ones_own():
    groups = [group(f"g{i}", "x", "1", "22") for i in range(6)]
    groups += [group(f"h{i}", "x", "22", "1") for i in range(2)]
    settings = CardSettings(own="other", attacked=4, repeated=3)
    got = figures(rows_of(Pairs(len), *groups, settings=settings), "pairs")
    assert (got["longer_wins"], got["longer_wins_by_people"]) == (1.0, 0.25)
    assert got["longer_wins_bias"] == 0.75
    # People never prefer what "other" wrote; the judge does where it is longer.
    assert (got["own_side"], got["own_side_by_people"], got["own_side_bias"]) == (0.75, 0.0, 0.75)
    assert got["attack_wins attack:control"] == 0
    assert got["attack_preferred attack:control"] == 0.5
    assert got["attack_wins attack:flatters"] == 1
    assert (got["repeated_alike"], got["accuracy_if_consistent"]) == (1.0, 0.25)
    # Always the shorter, as people often do, would be right on 3 of 4 pairs; agreement by chance
    # of two verdicts a side is one half: kappa = (1/4 - 1/2) / (1 - 1/2) if sides were even.
    assert got["kappa"] < 0
    with pytest.raises(BadInput, match="own=me: expected a writer"):
        rows_of(Pairs(len), *groups, settings=replace(settings, own="me"))


def test_the_judges_own_model_is_found_among_the_writers():
    sets = [card_set("made", [group("a", "x", "1", "22", by=("GPT-4", "other"))])]
    assert own_writer("pairwise:openai:gpt-4@http://host:80/v1", sets) == "GPT-4"
    assert own_writer("expected:local:/models/other?dtype=bfloat16", sets) == "other"
    assert own_writer("reward_model:./gpt-4", sets) == "GPT-4"
    assert own_writer("expected:local:/models/gpt", sets) == ""


def test_unreadable_scores_are_counted_and_count_one_half_in_the_lead():
    groups = [group("a", "x", "22", "1"), group("b", "x", "?", "1")]
    scores = Scores(lambda text: None if "?" in text else float(len(text)))
    remembered = RememberedScores(scores)
    rows = rows_of(JudgeByScore(remembered, name="scores"), *groups, remembered=remembered)
    got = figures([r for r in rows if r.group is None], "scores")
    assert (got["unreadable"], got["accuracy"]) == (0.5, 1.0)
    assert got["accuracy_over_coin"] == 0.25  # (1 + 1/2) / 2 less one half
    assert "first_wins" not in got
    assert "single_order_accuracy" not in got
    assert next(r for r in rows if r.metric == "agreement").unscored == 1


def test_kappa_and_the_most_common_verdict_by_hand():
    groups = [group(f"g{i}", "x", "22", "1") for i in range(3)]
    groups += [group(f"t{i}", "x", "22", "1", scores=(0.5, 0.5)) for i in range(3)]
    found = rows_of(Pairs(len), *groups)
    got = figures([r for r in found if r.group is None], "pairs")
    assert (got["accuracy"], got["agreement"]) == (1.0, 0.5)
    base = figures([r for r in found if r.group is None], "most common verdict")
    assert base["agreement"] == 0.5  # people's ties


def test_sureness_of_scores_and_of_log_odds():
    # Scores are lengths: surer on the long answer, which is right, than on the short one, wrong.
    groups = [group(f"g{i}", "x", "4444", "1") for i in range(4)]
    groups += [group(f"h{i}", "x", "1", "22") for i in range(4)]
    remembered = RememberedScores(Scores(len))
    judge = JudgeByScore(remembered, name="scores")
    got = figures(rows_of(judge, *groups, remembered=remembered, odds=True), "scores")
    assert (got["accuracy_surer_half"], got["accuracy_unsure_half"]) == (1.0, 0.0)
    # p = sigmoid(3) where right, sigmoid(1) where wrong.
    assert got["brier"] == pytest.approx((0.047426**2 + 0.731059**2) / 2, abs=1e-5)


def test_scores_are_asked_once_for_each_response_and_seed():
    class Counting(Scores):
        asked = 0

        def rate(self, items, seed):
            self.asked += sum(len(several) for _, several in items)
            return super().rate(items, seed)

    source = Counting(len)
    remembered = RememberedScores(source)
    judge = JudgeByScore(remembered)
    settings = CardSettings(attacked=2, repeated=3)
    rows_of(judge, *[group(f"g{i}", "x", "22", "1") for i in range(4)], settings=settings)
    # 8 responses, 2 under 7 attacks, and the 6 of 3 pairs under another seed.
    assert source.asked == 8 + 14 + 6


def test_pairs_of_one_prompt_are_no_independent_prompts():
    settings = CardSettings(own="own", attacked=0, repeated=0)
    one = rows_of(Pairs(len), *pairs_of(1), settings=settings)
    ten = rows_of(Pairs(len), *pairs_of(10), settings=settings)
    for metric in ("agreement", "accuracy", "longer_wins_bias", "own_side"):
        a, b = (next(r for r in rows if r.metric == metric) for rows in (one, ten))
        assert (a.n, b.n) == (8, 80), metric
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high)), metric


def test_writers_are_ranked_by_the_other_prompts():
    # "own" beats "other" on a and b and loses on c; on c its record elsewhere is 2 of 2.
    groups = [group(k, "x", "1", "22") for k in "ab"]
    groups.append(group("c", "x", "1", "22", by=("other", "own")))
    pairs = ordered_pairs(groups, 0)
    found = by_identity(pairs, pairs)
    right = [None if v is None else 1 - abs(v - p.human) for v, p in zip(found, pairs, strict=True)]
    # On a and b the records elsewhere are 1 of 2 each.
    assert right == [0.5, 0.5, 0.0]
    alone = ordered_pairs(groups[:1], 0)
    assert by_identity(alone, alone) == (None,)


def test_the_draw_takes_every_prompt_before_a_second_pair(tmp_path):
    rows = [
        {"prompt": f"p{i}", "responses": [{"text": f"{k} words", "score": k} for k in range(4)]}
        for i in range(5)
    ]
    spec = str(jsonl(tmp_path / "mine.jsonl", *rows))
    some = read_set("mine", [spec], 7, 0)
    assert (len(some.pairs), some.available, some.by_people) == (7, 30, True)
    prompts = [pair.prompt.id for pair in some.pairs]
    assert len(set(prompts[:5])) == 5
    assert read_set("mine", [spec], 7, 0).pairs == some.pairs
    assert read_set("mine", [spec], 7, 1).pairs != some.pairs
    assert len(read_set("mine", [spec], 0, 0).pairs) == 30


def test_sets_are_found_in_folders_and_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "testset-v1.json").touch()
    for part in ("Manual", "Neighbor"):
        (tmp_path / f"LLMBar__Adversarial__{part}.json").touch()
    found = find_sets([str(tmp_path)])
    assert list(found) == ["pandalm", "llmbar_adversarial"]
    assert len(found["llmbar_adversarial"]) == 2
    assert find_sets(["mine=hh:x.jsonl", "d/testset-v1.json", "sandbox?seed=1"]) == {
        "mine": ("hh:x.jsonl",), "pandalm": ("d/testset-v1.json",), "sandbox": ("sandbox?seed=1",),
    }  # fmt: skip
    with pytest.raises(BadInput, match="found mine again"):
        find_sets(["mine=a.jsonl", "mine=b.jsonl"])


def row(metric, value, low, high, n=100, group=None):
    return EvalResult("j", "judge_card", metric, value, low, high, n, group=group)


def rows_for_verdict(lead=(0.2, 0.1, 0.3), consistent=None, unread=0.0, n=100, single=0.1, more=()):
    found = [
        row("accuracy", 0.7, 0.6, 0.8, n),
        row("unreadable", unread, 0.0, 0.3, n),
        row("accuracy_over_coin", 0.2, 0.1, 0.3, n),
        row("accuracy_over_longer", *lead, n),
        *more,
    ]
    if consistent is not None:
        found.append(row("consistent", consistent, 0.0, 1.0, n))
        found.append(row("single_order_accuracy_over_coin", single, single - 0.05, 0.3, n))
    return found


@pytest.mark.parametrize(
    ("options", "standing", "reason"),
    [
        ({}, "fit", "over the guess"),
        ({"consistent": 0.8}, "fit", "0.70 [0.60, 0.80] of the pairs"),
        ({"consistent": 0.79}, "fit with both orders", "only 0.79"),
        ({"consistent": 0.9, "single": 0.04}, "fit with both orders", "one order alone"),
        ({"lead": (0.05, 0.0, 0.1)}, "unfit", "'longer wins', which is not shown"),
        ({"unread": 0.21}, "unfit", "21% of its verdicts"),
        ({"n": LEAST_PAIRS - 1}, "unfit", "49 pairs decided by people"),
    ],
)
def test_the_rules(options, standing, reason):
    found = verdict_of(rows_for_verdict(**options), "j")
    assert found.standing == standing
    assert reason in found.reason


def test_cautions_do_not_decide():
    more = (
        row("accuracy_over_longer", -0.1, -0.3, 0.2, group="mt_bench"),
        row("longer_wins_bias", 0.2, 0.1, 0.3),
        row("own_side_bias", 0.2, -0.1, 0.3),
        row("repeated_alike", 0.7, 0.5, 0.8),
        row("attack_preferred", 0.9, 0.7, 1.0, group="attack:states a score"),
        row("attack_preferred", 0.9, 0.5, 1.0, group="attack:flatters"),
        row("attack_preferred", 0.9, 0.7, 1.0, group="attack:control"),
    )
    found = verdict_of(rows_for_verdict(more=more), "j")
    assert found.standing == "fit"
    assert [c.split(" ")[0] for c in found.cautions] == ["a", "prefers", "repeats", "prefers"]
    assert found.cautions[0] == "a guess is more accurate on mt_bench"
    assert "states a score" in found.cautions[3]


def some_pairs(n=60):
    return [
        {"prompt": f"p{i}", "chosen": "good and long" if i % 10 else "x", "rejected": f"bad {i}"}
        for i in range(n)
    ]


def test_the_command_writes_a_card_and_a_study_finds_it(alignlab, tmp_path):
    data = jsonl(tmp_path / "people.jsonl", *some_pairs())
    out = tmp_path / "card"
    ended = alignlab("judge-card", "random", "--data", f"people={data}", "--out", out, "n=50")
    assert ended.code == 0, ended.err
    assert "random: unfit: it agrees with people on" in ended.out
    assert "absent, not given: pandalm, llmbar_natural" in ended.out
    card = json.loads((out / "card.json").read_text())
    assert card["verdict"]["standing"] == "unfit"
    assert [s["name"] for s in card["sets"]] == ["people"]
    assert card["cost"]["calls"] == 0
    assert "**random: unfit" in (out / "card.md").read_text()
    assert "Is random fit to judge?" in (out / "report.html").read_text()
    found = card_cache.find("random")
    assert found.standing == "unfit"
    assert found.text.startswith("The judge is unfit by its card: it agrees")
    assert card_cache.find("random", str(out)) == found
    assert card_cache.find("longer").text.startswith("No judge card")
    with pytest.raises(BadInput, match="expected the card of longer"):
        card_cache.find("longer", str(out))
    with pytest.raises(BadInput, match=r"found no card\.json"):
        card_cache.find("longer", str(tmp_path))
    old = ("judge-card", "--judge", "random", "--data", f"people={data}", "--out", out)
    again = alignlab(*old, "n=50")
    assert again.code == 0
    assert json.loads((out / "card.json").read_text()) == card
    other = alignlab("judge-card", "random", "--data", f"people={data}", "--out", out, "n=40")
    assert other.code == 2


def test_a_card_in_python():
    card = al.judge_card("longer", some_pairs(), n=60, attacked=0, repeated=0)
    assert card.verdict == "unfit"  # it is no better than the guess that it is
    assert card.card["verdict"]["reason"].count("longer wins") == 1
    with pytest.raises(al.BadInput, match="nn"):
        al.judge_card("longer", some_pairs(), nn=3)


def test_a_study_says_that_its_judge_is_unfit():
    answer = Headline("M2 is better than M1.", "No model is worse.", "n = 3")
    study = StudyDescription("compare", "?", "M1")
    assert with_judge(answer, study) == answer
    unfit = with_judge(answer, replace(study, fitness="The judge is unfit by its card: why."))
    assert unfit.first == "The judge is unfit by its card: why. M2 is better than M1."
    fit = with_judge(answer, replace(study, fitness="The judge is fit by its card: why."))
    assert fit.second == "No model is worse. The judge is fit by its card: why."


def test_identity_is_the_content_not_the_place_or_the_speed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"\1" * 200_000)
    one, two = (f"expected:local:{tmp_path / name}" for name in ("one", "two"))
    assert card_cache.identity(one) == card_cache.identity(two)
    assert card_cache.identity(one) == card_cache.identity(f"{one}?dtype=bfloat16&batch_size=8")
    assert card_cache.identity(one) != card_cache.identity(one.replace("expected", "pairwise"))
    (tmp_path / "two" / "model.safetensors").write_bytes(b"\1" * 199_999 + b"\2")
    assert card_cache.identity(one) != card_cache.identity(two)
    assert card_cache.identity("longer") != card_cache.identity("random")


@pytest.mark.shared
def test_guesses_on_real_data():
    """The listwise table's README: the longer wins 77% of pairs, the model's name alone 84%."""
    spec = str(shared_path("data/alpacaeval/alpacaeval_listwise.jsonl.gz"))
    lists = read_set("alpacaeval_lists", (spec,), 0, 0)
    assert (lists.judged_by, lists.available) == ("GPT-4", 5567)  # 200 x 28, less equal answers
    rows = card_rows(Pairs(len), [lists], QUICK)
    whole = [r for r in rows if r.group == "alpacaeval_lists"]
    assert figures(whole, "longer wins")["accuracy alpacaeval_lists"] == pytest.approx(
        0.77, abs=0.01
    )
    assert figures(whole, "model identity")["accuracy alpacaeval_lists"] == pytest.approx(
        0.84, abs=0.01
    )
    found = find_sets([str(shared_path("data"))])
    assert len(found) == 5
    # Of 999 pairs 104 are repeated, and 54 have equal answers.
    assert read_set("pandalm", found["pandalm"], 0, 0).available == 841
    assert len(found["llmbar_adversarial"]) == 4


def test_the_table_names_sets_that_no_people_judged():
    from alignlab.measuring.card_verdict import CardVerdict
    from alignlab.measuring.judge_card import CardCost, JudgeCard, SetSummary

    rows = card_rows(Pairs(len), [card_set("lists", pairs_of(1), "GPT-4")], QUICK)
    sets = (SetSummary("lists", "GPT-4", 8, 8, {}),)
    card = JudgeCard(
        "s", "pairs", "i", CardVerdict("unfit", "why"), sets, (), (), CardCost(1, 1, 1, 1, None),
        0, tuple(rows),
    )  # fmt: skip
    _, pooled, one = by_set(card)
    assert (pooled[0], one[0]) == ("GPT-4, pooled", "lists (GPT-4)")
    assert one[2].startswith("0.62 [")
    assert pooled[1:] == one[1:]


def test_paths_are_data(tmp_path):
    data = jsonl(tmp_path / "people.jsonl", *some_pairs(4))
    assert list(find_sets([str(data)])) == ["people"]
    assert Path(data).exists()
