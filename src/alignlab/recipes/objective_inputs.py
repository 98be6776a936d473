"""Groups that the branches of `compare_objectives` share, and the records they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignlab.errors import BadInput
from alignlab.objectives.base import Objective
from alignlab.recipes.study import Answered
from alignlab.training.record_kinds import Record, record_kind
from alignlab.types import (
    Checkpoint,
    CritiquedResponse,
    Demonstration,
    Feedback,
    PreferenceGroup,
    Prompt,
)


@dataclass(frozen=True)
class ObjectiveInputs:
    """Groups and their feedback, shared by all branches."""

    answered: Answered
    """Responses that were scored, M1's or the data's."""
    feedback: tuple[Feedback, ...]
    groups: tuple[PreferenceGroup, ...]
    """Scored responses in groups, best first."""
    reward_model: Checkpoint | None = None
    """Reward model trained on the groups."""
    dev: tuple[Prompt, ...] = ()
    """Prompts on which the checkpoints of policy gradients are compared."""

    @property
    def words(self) -> dict[str, str]:
        """Return response id -> the critic's comment, for comments longer than a number."""
        texts = {f.response_ids[0]: (*f.raw, f.rationale)[0].strip() for f in self.feedback}
        return {response: text for response, text in texts.items() if text}

    def records(
        self,
        objective: Objective,
        groups: Sequence[PreferenceGroup],
        demonstrations: Sequence[Demonstration],
        branch: str,
    ) -> Sequence[Record]:
        """Convert groups to the records of an objective.

        Args:
            groups: the shared groups, or the same responses with other scores.
            demonstrations: records of objectives that imitate demonstrations.
            branch: name in the message.

        Raises:
            BadInput: the objective learns from words, and the critic gives numbers only.
        """
        kind = record_kind(objective)
        if kind is Demonstration:
            return demonstrations
        if kind is CritiquedResponse:
            return self._commented(branch)
        if objective.max_responses == 2:
            return [ends for g in groups if (ends := g.best_and_worst()) is not None]
        return groups

    def _commented(self, branch: str) -> list[CritiquedResponse]:
        """Pair responses with the critic's comments."""
        prompts, comments = {p.id: p for p in self.answered.prompts}, self.words
        found = [
            CritiquedResponse(prompts[r.prompt_id], r, comments[r.id])
            for r in self.answered.responses
            if r.id in comments
        ]
        if not found:
            raise BadInput(
                f"branch {branch}: expected feedback in words, found numbers alone; take another "
                "critic (feedback=llm:...) or leave the branch out (branches=[...])"
            )
        return found
