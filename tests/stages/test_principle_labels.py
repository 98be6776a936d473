"""Labels by random principles, by hand; conditioned prompts; files of principles."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlab.errors import BadInput, RunFailed
from alignlab.feedback.principled import Principled, with_principles
from alignlab.feedback.principles import Principle, read_negated, read_principles
from alignlab.feedback.specs import judge as source_of
from alignlab.measuring.instructability import differing_pairs, instructability
from alignlab.sandbox.points import FILE, POINTS
from alignlab.stages.principle_labels import (
    PrincipleSettings,
    compare_by_principles,
    label_by_principles,
)
from alignlab.types import Feedback, Message, Prompt, Score, Unscored
from tests.stages.making import context, prompt, responses

TRUE, SHORT = Principle("true", "false"), Principle("short", "long")
EXACT = PrincipleSettings(draws=8, stop=0.0, most=2, negated=0.0, label_noise=0.0)


class Scores:
    """Scores by the text of a response."""

    def __init__(self, name: str, known: dict[str, float]) -> None:
        self.name, self.known = name, known

    def rate(self, items, seed):
        return [
            Feedback(p.id, (r.id,), self.name, Score(self.known[r.text], ()))
            for p, several in items
            for r in several
        ]


class Reader:
    """Reward that follows the first principle in the prompt; without one, 0."""

    name = "reader"

    def rate(self, items, seed):
        signs = {"true": 1.0, "false": -1.0}
        return [
            Feedback(
                p.id, (r.id,), self.name,
                Score(signs.get(p.text.rpartition("- ")[2], 0.0) * len(r.text), ()),
            )
            for p, several in items
            for r in several
        ]  # fmt: skip


PROMPTS = [prompt(0), prompt(1)]
ANSWERS = [*responses(PROMPTS[0], "a", "bb"), *responses(PROMPTS[1], "a", "ccc")]
BY_TRUE = Scores("true", {"a": 1.0, "bb": 0.0, "ccc": 1.0})
BY_SHORT = Scores("short", {"a": 0.0, "bb": -3.0, "ccc": -4.0})


def compared(tmp_path: Path, unit="variance"):
    return compare_by_principles(context(tmp_path), [BY_TRUE, BY_SHORT], PROMPTS, ANSWERS, unit)


def test_differences_are_in_units_of_their_variance_or_std(tmp_path: Path) -> None:
    """True: 1, 0, mean square 1/2. Short: 3, 4, mean square 12.5."""
    found = [pair.difference_P for pair in compared(tmp_path / "a")]
    assert found == [pytest.approx((2.0, 3 / 12.5)), pytest.approx((0.0, 4 / 12.5))]
    found = [pair.difference_P for pair in compared(tmp_path / "b", "std")]
    assert found[0] == pytest.approx((1 / 0.5**0.5, 3 / 12.5**0.5))


def labels(tmp_path: Path, settings: PrincipleSettings, **how):
    at = context(tmp_path)
    pairs = compare_by_principles(at, [BY_TRUE, BY_SHORT], PROMPTS, ANSWERS, "variance")
    return label_by_principles(at, [TRUE, SHORT], pairs, settings, **how)


def test_the_largest_difference_shown_decides(tmp_path: Path) -> None:
    groups = labels(tmp_path, EXACT)
    assert len(groups) == 16
    assert {g.responses[0].text for g in groups} == {"a"}
    assert all("- true" in g.prompt.text and "- short" in g.prompt.text for g in groups)
    assert len({g.prompt.id for g in groups}) == 16


def test_negation_turns_labels_around(tmp_path: Path) -> None:
    always = PrincipleSettings(draws=2, stop=0.0, most=2, negated=1.0, label_noise=0.0)
    groups = labels(tmp_path, always)
    assert {g.responses[1].text for g in groups} == {"a"}
    assert all("- false" in g.prompt.text and "- long" in g.prompt.text for g in groups)


def test_labels_follow_the_principles_in_the_prompt(tmp_path: Path) -> None:
    """Of "a" and "bb", "true" decides wherever it is shown (2 against 0.24)."""
    settings = PrincipleSettings(draws=40, stop=0.5, label_noise=0.0)
    groups = [g for g in labels(tmp_path, settings) if g.responses[0].text in ("a", "bb")]
    first = [g for g in groups if {r.text for r in g.responses} == {"a", "bb"}]
    for group in first:
        shown = set(group.prompt.text.partition("Judge by:\n- ")[2].split("\n- "))
        sign = 1 if "true" in shown else -1 if "false" in shown else 1 if "short" in shown else -1
        assert (group.responses[0].text == "a") == (sign > 0)
    assert {g.responses[0].text for g in first} == {"a", "bb"}


def test_draws_that_decide_nothing_are_dropped(tmp_path: Path) -> None:
    """The second pair is equal by "true" alone."""
    one = PrincipleSettings(draws=30, stop=1.0, label_noise=0.0)
    groups = labels(tmp_path, one)
    second = [g for g in groups if "ccc" in {r.text for r in g.responses}]
    assert 0 < len(second) < 30
    assert all("true" not in g.prompt.text and "false" not in g.prompt.text for g in second)


def test_noise_and_coin_and_unread(tmp_path: Path) -> None:
    turned = labels(tmp_path / "a", PrincipleSettings(stop=0.0, negated=0.0, label_noise=1.0))
    assert {g.responses[1].text for g in turned} == {"a"}
    coin = labels(tmp_path / "b", EXACT, labels="coin")
    assert {g.responses[0].text for g in coin} == {"a", "bb", "ccc"}
    unread = labels(tmp_path / "c", EXACT, shown=False)
    assert {g.prompt.text for g in unread} == {p.text for p in PROMPTS}


def test_principles_follow_the_last_turn() -> None:
    asked = Prompt("p", (Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "So?")))
    found = with_principles(asked, ["true", "short"])
    assert found.messages[:2] == asked.messages[:2]
    assert found.text == "So?\n\nJudge by:\n- true\n- short"
    assert with_principles(asked, []) is asked


def test_a_source_sees_the_principles_drawn_for_a_prompt() -> None:
    seen: list[str] = []

    class Seen(Reader):
        def rate(self, items, seed):
            seen.extend(p.text for p, _ in items)
            return super().rate(items, seed)

    source = Principled(Seen(), ["true", "short", "kind"], 1)
    source.rate([(p, ANSWERS[:1]) for p in PROMPTS * 2], 0)
    assert seen[:2] == seen[2:]
    assert all(text.count("\n- ") == 1 for text in seen)
    with pytest.raises(BadInput, match="expected 0 to 1, found 2"):
        Principled(Reader(), ["true"], 2)


def test_a_reward_that_reads_principles_follows_both_wordings(tmp_path: Path) -> None:
    """ "bb" is longer than "a": right where "true" is against it only by the negation."""
    pairs = differing_pairs(context(tmp_path), [BY_TRUE], PROMPTS, ANSWERS)
    assert [[(a.text, b.text) for _, a, b in several] for several in pairs] == [[("a", "bb")]]
    found = instructability(context(tmp_path / "i"), Reader(), [TRUE], pairs, model="rm")
    assert {v.metric: v.values for v in found} == {
        "shown": (0.0,), "negated": (0.0,), "absent": (0.5,), "followed: true": (0.0, 0.0),
    }  # fmt: skip


def test_pairs_differ_by_one_principle_alone(tmp_path: Path) -> None:
    """Brevity is no matter for "true"; "true" must be equal for brevity."""
    pairs = differing_pairs(context(tmp_path), [BY_TRUE, BY_SHORT], PROMPTS, ANSWERS)
    shown = [[(a.text, b.text) for _, a, b in several] for several in pairs]
    assert shown == [[("a", "bb")], [("a", "ccc")]]


def test_files_of_principles(tmp_path: Path) -> None:
    file = tmp_path / "principles.txt"
    file.write_text("# style\n- kind ||| unkind\n\nshort ||| long\n")
    assert read_negated(file) == [Principle("kind", "unkind"), Principle("short", "long")]
    assert read_principles(file) == ["kind", "short"]
    source = source_of(f"principled,file={file},count=1:longer", make_completer=lambda s: None)
    assert source.name == "longer by 1 of kind, short"
    file.write_text("kind\n")
    with pytest.raises(BadInput, match=r"expected .* found 'kind'"):
        read_negated(file)
    assert [p.text for p in read_negated(FILE)] == [*POINTS, "brief"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind ||| unkind\nkind ||| rude\n", "line 2: .*each once, found 'kind' again"),
        ("kind ||| unkind ||| rude\n", "line 1: .*found 'kind ||| unkind ||| rude'"),
        ("\nkind ||| kind\n", 'line 2: expected "principle ||| its negation"'),
        ("kind |||\n", 'line 1: expected "principle ||| its negation"'),
        ("||| unkind\n", "line 1: expected a principle"),
    ],
)
def test_bad_files_of_principles_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "principles.txt"
    file.write_text(text)
    with pytest.raises(BadInput, match=message.replace("|", r"\|")):
        read_negated(file)


def test_a_principle_by_which_nothing_is_scored_is_refused(tmp_path: Path) -> None:
    class Silent:
        name = "silent"

        def rate(self, items, seed):
            return [
                Feedback(p.id, (r.id,), self.name, Unscored("?")) for p, rs in items for r in rs
            ]

    with pytest.raises(RunFailed, match="silent: scored none of 4 answers by a principle"):
        compare_by_principles(context(tmp_path), [Silent()], PROMPTS, ANSWERS, "std")
