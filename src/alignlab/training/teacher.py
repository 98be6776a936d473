"""Load the teacher of a distillation, and refuse one with another tokenizer than the student's."""

from __future__ import annotations

from typing import Any

from alignlab.errors import BadInput
from alignlab.models.load import LanguageModel, load
from alignlab.models.logits import LogitScorer
from alignlab.objectives.base import Objective
from alignlab.objectives.distill import Distill
from alignlab.training.distributed import DistributedContext

PROBES = ("Hello, world! 3.14159", "naïve  café\n\tdef f(x): return x", "读书 🙂")
"""Texts that equal tokenizers split alike."""


def teacher_of(
    objective: Objective, lm: LanguageModel, dtype: str, world: DistributedContext
) -> LogitScorer | None:
    """Return the scorer of the objective's teacher on the student's device; None without one.

    Raises:
        BadInput: no teacher is named, its tokenizer differs from the student's, or weights are
            sharded over processes.
    """
    if not isinstance(objective, Distill):
        return None
    if not objective.teacher:
        raise BadInput(
            "distill: teacher: expected a model with the student's tokenizer, found none; name a "
            "folder or hub id"
        )
    if world.sharded:
        raise BadInput("distill: expected whole weights on every process; use parallel=data")
    teacher = load(objective.teacher, dtype=dtype, device=lm.device)
    refuse_other_tokenizer(lm.tokenizer, teacher.tokenizer, objective.teacher)
    model = teacher.model.requires_grad_(False).eval()
    return LogitScorer(model, tokenizer=teacher.tokenizer)


def refuse_other_tokenizer(student: Any, teacher: Any, name: str) -> None:
    """Refuse a teacher whose tokens are not the student's: its logits would be of other tokens.

    Args:
        student: tokenizer of the student.
        teacher: tokenizer of the teacher.
        name: the teacher's name, for the message.

    Raises:
        BadInput: a token has another number, or a text is split otherwise.
    """
    own, other = student.get_vocab(), teacher.get_vocab()
    wrong = next((t for t in sorted(own) if other.get(t) != own[t]), None)
    wrong = wrong or next((t for t in sorted(other) if t not in own), None)
    if wrong is not None:
        found = (
            f"token {wrong!r} is number {own.get(wrong)} of the student, {other.get(wrong)} of it"
        )
    else:
        split = next((text for text in PROBES if student.encode(text) != teacher.encode(text)), "")
        if not split:
            return
        found = f"{split!r} is split otherwise"
    raise BadInput(
        f"distill: teacher {name}: expected the student's tokenizer, since logits are compared "
        f"token by token; {found}. A teacher with other tokens can demonstrate or judge instead"
    )
