"""Layout of preferences: `{"prompt": ..., "chosen": ..., "rejected": ...}`.

Texts or turns, as in TRL. The prompt may be in another column (`question`, `instruction` with
`input`, `query`, `messages`, `conversations`) or implicit: the common turns of two dialogues, or
the common prefix of two texts, cut back to a whole word. `score_chosen` and `score_rejected` (or
`chosen_rating` and `rejected_rating`, ...) are used where both are present. `chosen_probability`
(or `chosen_probs`) is a soft label: the probability that the chosen answer is the better one.
"""

from __future__ import annotations

import re

from alignlab.data.build_records import (
    BuildResult,
    Dropped,
    Origin,
    ResponseDraft,
    origin_of,
    pair,
    user,
    with_changes,
    with_probability,
)
from alignlab.data.conversations import (
    PROMPTS,
    SYSTEM,
    answer_turns,
    compared,
    is_turns,
    prompt_of,
    turns,
    with_system,
)
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.errors import bad_record
from alignlab.types import Message

SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_reward", "rejected_reward"),
)
"""Columns of both answers' scores; the first pair that is there is used."""
PROBABILITIES = ("chosen_probability", "chosen_probs")
"""Columns of the probability that the chosen answer is better; the first that is there is used."""
IMPLICIT = "prompt taken from the texts' common beginning"
_LABEL = re.compile(
    r"(.*[_ -])?(ids?|index|idx|uuid|hash|source|dataset|split|subset|category|categories|topic|"
    r"domain|tags?|type|lang(uage)?|locale|license|url|date|timestamp|models?|generator|annotators?|"
    r"scores?|ratings?|difficulty|rank|winner|reason|status)(_?\d+)?",
    re.IGNORECASE,
)
"""Names of metadata columns, whose text cannot be the prompt."""


@row_format(
    "preference",
    columns=[
        ("chosen", "rejected"),
        *((name, "chosen", "rejected") for name in PROMPTS if name != "conversations"),
        ("instruction", "input", "chosen", "rejected"),
    ],
)
def preference(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of a chosen and a rejected answer."""
    return [preferred(row, origin_of(row, "preference"))]


def preferred(row: Row, origin: Origin) -> BuildResult:
    """Build the pair of one row in any of the layout's forms."""
    scores = None
    for chosen, rejected in SCORES:
        if row.has(chosen) and row.has(rejected):
            scores = (row.number(chosen), row.number(rejected))
            break
    probability = _probability(row)
    if probability == 0.5:
        return Dropped("equal probabilities")
    if scores is not None and probability is not None and probability < 0.5:
        return Dropped("scores contradict the probability")
    return with_probability(_paired(row, origin, scores or (0.0, -1.0)), probability)


def _probability(row: Row) -> float | None:
    """Read the probability that the chosen answer is the better one.

    Raises:
        BadInput: it is no number in [0, 1].
    """
    name = next((name for name in PROBABILITIES if row.has(name)), None)
    if name is None:
        return None
    found = row.number(name)
    if not 0 <= found <= 1:
        raise row.bad(name, "a probability in [0, 1]")
    return found


def _paired(row: Row, origin: Origin, scores: tuple[float, float]) -> BuildResult:
    """Build the pair of one row, the chosen answer first."""
    if is_turns(row, "chosen"):
        return _dialogues(row, origin, scores)
    better, worse = (answer_turns(row, side) for side in ("chosen", "rejected"))
    # Columns that are empty in every record are not prompt columns.
    if any(name in (row.reading.columns if row.reading else row.values) for name in PROMPTS):
        asked = prompt_of(row, tuple(turn.content for turn in (*better, *worse)))
        return compared((*asked, *better), (*asked, *worse), origin, scores)
    return _implicit(row, origin, scores)


def _dialogues(row: Row, origin: Origin, scores: tuple[float, float]) -> BuildResult:
    chosen, rejected = turns(row, "chosen"), answer_turns(row, "rejected")
    if not _holds_prompt(chosen):
        asked = prompt_of(row, tuple(turn.content for turn in (*chosen, *rejected)))
        return compared((*asked, *chosen), (*asked, *rejected), origin, scores)
    # Some data sets repeat the prompt: in its column and at the start of both dialogues.
    if row.has("prompt"):
        asked = prompt_of(row)
        if not all(message in chosen for message in asked if message.role != "system"):
            return Dropped("prompt differs from the dialogue's")
    return compared(with_system(row, chosen), with_system(row, rejected), origin, scores)


def _holds_prompt(dialogue: tuple[Message, ...]) -> bool:
    return any(message.role == "user" for message in dialogue)


def _implicit(row: Row, origin: Origin, scores: tuple[float, float]) -> BuildResult:
    """Build the pair of two texts with the prompt as their common prefix.

    Raises:
        BadInput: a column of unknown meaning holds text, which may be the prompt.
    """
    assert row.reading is not None
    for unread in row.reading.unread():
        name = str(unread.name)
        known = _LABEL.fullmatch(name) or name in SYSTEM
        if isinstance(unread.value, str) and not known and name not in row.reading.ignored:
            expected = (
                f"the prompt in a column named {', '.join(PROMPTS[:4])} (?ignore={name} if chosen "
                "and rejected open with the prompt)"
            )
            raise bad_record(row.file, row.line, name, expected, repr(unread.value))
    chosen, rejected = row.text("chosen"), row.text("rejected")
    shared = _common_words(chosen, rejected)
    asked = with_system(row, user(shared.rstrip()))
    better = ResponseDraft(chosen[len(shared) :], scores[0])
    worse = ResponseDraft(rejected[len(shared) :], scores[1])
    return with_changes(pair(asked, better, worse, origin), IMPLICIT)


def _common_words(one: str, other: str) -> str:
    """Return the longest common prefix of two texts that ends in white space."""
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    common = one[: min(len(one), len(other)) if length is None else length]
    ends = [match.end() for match in re.finditer(r"\s+", common)]
    return common[: ends[-1]] if ends else ""
