"""Split groups into passes of a token budget and of the memory that is free.

On a CPU, where too much memory means a kill and no exception, passes are planned (`footprint`). On
an accelerator the budget is halved where memory runs out: a micro-batch that does not fit is undone
and split, and the budget stays at half of its tokens for the rest of the run. The split of a step
into micro-batches changes nothing but rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from alignlab.errors import RunFailed
from alignlab.files import read_json, write_json
from alignlab.models.footprint import PassMemory, pass_memory
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
        self._reserved, self._checkpointing = 0, False
        self._memory: dict[tuple[int, bool], PassMemory | None] = {}
        self._room: int | None = None
        if file is not None:
            stored = world.broadcast_from_main(lambda: read_json(file) if file.is_file() else None)
            self.tokens = min(tokens, stored["token_budget"]) if stored else tokens
            self._room = (stored or {}).get("pass_bytes")

    def plan(
        self,
        scorer: Scorer[Any],
        groups: Sequence[TokenGroup],
        *,
        reserved: int = 0,
        checkpointing: bool = False,
    ) -> None:
        """Plan training passes by the memory that is free, before the first one.

        Args:
            scorer: scorer of the model in training.
            groups: all groups to be trained on; the longest possible where they are not known yet.
            reserved: bytes of gradients and optimiser states, which are allocated later.
            checkpointing: True where layers are recomputed in the backward pass.

        Raises:
            BadInput: not even a single group fits.
        """
        self._reserved, self._checkpointing = reserved, checkpointing
        memory = self.memory_of(scorer, gradient=True)
        if memory is not None:
            memory.check(groups)

    def memory_of(self, scorer: Scorer[Any], *, gradient: bool) -> PassMemory | None:
        """Return the memory plan of a scorer's passes; None where memory is no concern."""
        key = (id(scorer.base), gradient)
        if key not in self._memory:
            self._memory[key] = (
                None
                if self.world.sharded
                else pass_memory(
                    scorer,
                    self.tokens,
                    gradient=gradient,
                    checkpointing=self._checkpointing and gradient,
                    reserved=self._reserved,
                    room=self._room,
                )
            )
        return self._memory[key]

    @property
    def lowered(self) -> int | None:
        """Return the budget where memory ran out, else None."""
        return self.tokens if self.tokens < self.first else None

    def passes(
        self,
        groups: Sequence[TokenGroup],
        work: Callable[[Pass], T],
        undo: Callable[[], None] = lambda: None,
        memory: PassMemory | None = None,
    ) -> Iterator[tuple[Pass, T]]:
        """Run passes over this process's part of the groups, one micro-batch after the other.

        Args:
            groups: groups of all processes.
            work: function of a pass, repeated on smaller batches where memory runs out. With
                sharded weights every process makes the same number of calls.
            undo: reverts the effects of a failed pass.
            memory: memory plan of the passes.

        Yields:
            Each successful pass and the value of `work`, once.

        Raises:
            RunFailed: a single group does not fit, or memory ran out with sharded weights: the
                other processes wait in the middle of a pass, and the run has to be resumed.
        """
        parts = self.world.parts(groups)
        queue = self._split(groups, parts[self.world.rank], memory)
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
                left = [i for batch in queue for i in batch]
                queue = self._split(groups, left, memory)
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
        if self.world.is_main and (self.tokens < self.first or self._binding()):
            self._store()

    def _binding(self) -> int | None:
        """Return the bytes of a pass where memory splits micro-batches."""
        return next((m.room for m in self._memory.values() if m is not None and m.binds), None)

    def _store(self) -> None:
        """Write the limits of passes: a resumed run splits its steps in the same way."""
        if self._file is not None:
            room = self._binding()
            limits = {} if room is None else {"pass_bytes": room}
            write_json(self._file, {"token_budget": self.tokens, **limits})

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

        memory = self.memory_of(scorer, gradient=False)
        if memory is not None:
            memory.check(groups)
        with eval_mode(scorer.base):
            for one, taken in self.passes(groups, work, memory=memory):
                if one.counts:
                    found.update(zip(one.batch, taken, strict=True))
        everywhere = {i: each for part in self.world.all_gather(found) for i, each in part.items()}
        return [everywhere[i] for i in range(len(groups))]

    def _split(
        self,
        groups: Sequence[TokenGroup],
        indices: Sequence[int],
        memory: PassMemory | None = None,
    ) -> list[list[int]]:
        """Split the groups with these indices into micro-batches of the budget."""
        fits = None if memory is None else memory.fits
        batches = micro_batches([groups[i] for i in indices], self.tokens, fits)
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
            self._store()
            raise RunFailed(
                f"out of memory on {tokens} tokens; repeat the command to resume with "
                f"token_budget {self.tokens}"
            )


def out_of_memory(error: BaseException) -> bool:
    """Return True for an error of a GPU or the CPU that is out of memory."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, Exception) and should_reduce_batch_size(error))
