"""Split groups into passes of a token budget, which is halved where memory runs out.

A micro-batch that does not fit is undone and split; the budget stays at half of its tokens for the
rest of the run. The split of a step into micro-batches changes nothing but rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from alignlab.errors import RunFailed
from alignlab.files import read_json, write_json
from alignlab.models.packed import TokenGroup, by_group, micro_batches
from alignlab.models.scorer import Scorer, TokenLogps, eval_mode
from alignlab.training.distributed import SINGLE_PROCESS, DistributedContext

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")


class Pass(NamedTuple):
    """Forward (and backward) pass of a process."""

    number: int
    """Index of the pass among those of this process, in the same call."""
    batch: list[int]
    """Indices of the groups."""
    counts: bool
    """False for a pass that only keeps sharded processes in step; its result must be ignored."""


class TokenBudget:
    """Limit on the tokens of one pass through the model.

    Args:
        tokens: initial limit.
        world: processes that share the groups.
        file: file of a lowered budget, for a resumed run; None stores none.
    """

    def __init__(
        self, tokens: int, world: DistributedContext = SINGLE_PROCESS, file: Path | None = None
    ) -> None:
        self.first = self.tokens = tokens
        self.world, self._file = world, file
        if file is not None:
            stored = world.broadcast_from_main(lambda: read_json(file) if file.is_file() else None)
            self.tokens = min(tokens, stored["token_budget"]) if stored else tokens

    @property
    def lowered(self) -> int | None:
        """Return the budget where memory ran out, else None."""
        return self.tokens if self.tokens < self.first else None

    def passes(
        self,
        groups: Sequence[TokenGroup],
        work: Callable[[Pass], T],
        undo: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[Pass, T]]:
        """Run passes over this process's part of the groups, one micro-batch after the other.

        Args:
            groups: groups of all processes.
            work: function of a pass, repeated on smaller batches where memory runs out. With
                sharded weights every process makes the same number of calls.
            undo: reverts the effects of a failed pass.

        Yields:
            Each successful pass and the value of `work`, once.

        Raises:
            RunFailed: a single group does not fit, or memory ran out with sharded weights: the
                other processes wait in the middle of a pass, and the run has to be resumed.
        """
        parts = self.world.parts(groups)
        queue = self._split(groups, parts[self.world.rank])
        number = 0
        while queue:
            one = Pass(number, queue[0], True)
            done = self._tried(work, one)
            if done:
                queue.pop(0)
                yield one, done[0]
            else:
                undo()
                clear_device_cache(garbage_collection=True)
                self._lower(groups, queue[0])
                queue = self._split(groups, [i for batch in queue for i in batch])
            number += 1
        if self.world.sharded:
            smallest = min(range(len(groups)), key=lambda i: groups[i].tokens)
            most = max(len(self._split(groups, part)) for part in parts)
            for extra in range(number, most):
                one = Pass(extra, [smallest], False)
                yield one, work(one)

    def agree(self) -> None:
        """Lower the budget to the lowest of all processes."""
        lowest = min(self.world.all_gather(self.tokens))
        if lowest < self.tokens:
            self.tokens = lowest
        if self.world.is_main and self._file is not None and self.tokens < self.first:
            write_json(self._file, {"token_budget": self.tokens})

    def score(
        self, scorer: Scorer[TokenLogps], groups: Sequence[TokenGroup]
    ) -> list[tuple[float, ...]]:
        """Compute the log-probability in nats of every response of every group, no gradient."""

        def sums(scored: TokenLogps, members: Sequence[TokenGroup]) -> list[tuple[float, ...]]:
            return by_group(scored.sequence_N().tolist(), members)

        return self.read(scorer, groups, sums)

    def read(
        self,
        scorer: Scorer[S],
        groups: Sequence[TokenGroup],
        take: Callable[[S, Sequence[TokenGroup]], Sequence[T]],
    ) -> list[T]:
        """Compute one value per group from its scores, without gradient or dropout.

        Args:
            scorer: scorer of micro-batches.
            groups: groups of all processes.
            take: returns one value per group of a micro-batch, which must hold no GPU tensor.

        Returns:
            Values of all groups, in order, on every process.
        """
        found: dict[int, T] = {}

        def work(one: Pass) -> Sequence[T]:
            members = [groups[i] for i in one.batch]
            with torch.no_grad(), scorer.scored(members) as scored:
                return take(scored, members)

        with eval_mode(scorer.base):
            for one, taken in self.passes(groups, work):
                if one.counts:
                    found.update(zip(one.batch, taken, strict=True))
        everywhere = {i: each for part in self.world.all_gather(found) for i, each in part.items()}
        return [everywhere[i] for i in range(len(groups))]

    def _split(self, groups: Sequence[TokenGroup], indices: Sequence[int]) -> list[list[int]]:
        """Split the groups with these indices into micro-batches of the budget."""
        batches = micro_batches([groups[i] for i in indices], self.tokens)
        return [[indices[j] for j in batch] for batch in batches]

    def _tried(self, work: Callable[[Pass], T], one: Pass) -> list[T]:
        """Return the result of a pass; empty where memory ran out."""
        try:
            return [work(one)]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return []  # the error is not returned: its traceback holds tensors

    def _lower(self, groups: Sequence[TokenGroup], batch: Sequence[int]) -> None:
        """Set the budget to half the tokens of a batch that ran out of memory."""
        tokens = sum(groups[i].tokens for i in batch)
        if len(batch) == 1:
            raise RunFailed(
                f"group {groups[batch[0]].id}: out of memory on its {tokens} tokens alone; "
                "gradient_checkpointing=true or shorter lengths help, or more processes with "
                "parallel=fsdp"
            )
        self.tokens = max(1, tokens // 2)
        log.warning(
            "out of memory on %d tokens: token_budget is %d from here on", tokens, self.tokens
        )
        if self.world.sharded:
            if self._file is not None:
                write_json(self._file, {"token_budget": self.tokens})
            raise RunFailed(
                f"out of memory on {tokens} tokens; repeat the command to resume with "
                f"token_budget {self.tokens}"
            )


def out_of_memory(error: BaseException) -> bool:
    """Return True for an error of a GPU or the CPU that is out of memory."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, Exception) and should_reduce_batch_size(error))
