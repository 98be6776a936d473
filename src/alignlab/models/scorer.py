"""Score responses under a model, packed where that is exact and padded elsewhere.

A probe (`probe.py`) compares the packed forward with the model's own on a few short groups. Models
that fail it (state-space layers, attention outside transformers' interface, sinks, a nonlinear
head) run on padded batches of whole sequences; the reason and its cost are logged once.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from alignlab.models import attention, flex
from alignlab.models.adapters import base_of, linear_head
from alignlab.models.footprint import pass_memory
from alignlab.models.head import at_least_float32, row_logps
from alignlab.models.kernels import flex_wanted
from alignlab.models.noise import EmbeddingNoise as EmbeddingNoise
from alignlab.models.noise import noisy
from alignlab.models.onednn import OneDNNLinears
from alignlab.models.packed import (
    PackedBatch,
    Targets,
    TokenGroup,
    make_targets,
    micro_batches,
    pack,
    rounded_up,
)
from alignlab.models.probe import ProbeResult, judge_path, once_per_model, probe_groups
from alignlab.models.tiles import TileLayout, layout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenLogps:
    """Log-probabilities of every response token of a micro-batch."""

    logp_R: Tensor
    """Log-probability in nats, with gradient."""
    targets: Targets

    def sequence_N(self) -> Tensor:
        """Sum log-probabilities over each sequence's response tokens, in float64; (N,)."""
        total = torch.zeros(
            len(self.targets.length_N), dtype=torch.float64, device=self.logp_R.device
        )
        return total.index_add(0, self.targets.sequence_R, self.logp_R.double())


S = TypeVar("S")
"""Values of a micro-batch."""
T = TypeVar("T")


class Stream(NamedTuple):
    """Packed micro-batch with the model's hidden state at each position."""

    batch: PackedBatch
    hidden_Td: Tensor


class Rows(NamedTuple):
    """Micro-batch as padded sequences of prompt and response."""

    token_NT: Tensor
    mask_NT: Tensor
    length_N: tuple[int, ...]
    """Tokens of each sequence."""


class Scorer(ABC, Generic[S]):
    """Scorer of groups of responses, packed where that is exact, else padded.

    Args:
        model: a transformers model, or a peft model around one.
        padded_because: reason to use padded batches without a probe.
        through: caller of forward passes for sharded weights, which are gathered only during a
            pass; None calls them directly.
        tokenizer: tokenizer of the model, for a probe on likely text.
    """

    path: str
    """Name of the packed path; scorers of one path share a probe's verdict."""

    def __init__(
        self,
        model: Any,
        *,
        padded_because: str | None = None,
        through: Callable[[Callable[[], S]], S] | None = None,
        tokenizer: Any = None,
    ) -> None:
        self.base = base_of(model)
        self._through = through
        self._tokenizer = tokenizer
        self.limit: int | None = None
        """Longest prompt plus response of the packed forward, in tokens; None sets no limit."""
        self.padded_because = padded_because
        """Reason for padded batches; None when they are packed."""
        self._warned = False
        self._layout: Callable[[PackedBatch], TileLayout | flex.Spans] = layout
        if padded_because is None:
            found = once_per_model(self.base, self.path, self._probe, self._of_stand_in)
            self.padded_because, self.limit = found.reason, found.limit
            if found.reason is None and flex_wanted(self.base):
                self._attend_by_flex(found)

    def _attend_by_flex(self, tiles: ProbeResult) -> None:
        """Attend by FlexAttention where its probe gives the same verdict as that of the tiles."""
        self._layout = flex.spans
        path = f"{self.path}, FlexAttention"
        found = once_per_model(self.base, path, self._probe, self._of_stand_in)
        if found != tiles:
            log.warning("FlexAttention is not used: %s", found.reason or "it ignores the window")
            self._layout = layout

    def _of_stand_in(self, base: Any) -> ProbeResult:
        """Judge the path on a model that stands in for a sharded one, by the same layout."""
        other = self._unprobed(base)
        other._layout = self._layout
        return other._probe()

    def _unprobed(self, base: Any) -> Scorer[Any]:
        """Return a scorer of another model that is not probed."""
        return type(self)(base, padded_because="it is probed", tokenizer=self._tokenizer)

    @contextmanager
    def scored(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None = None
    ) -> Iterator[S]:
        """Score groups; take gradients inside the `with` block."""
        longest = max(group.longest for group in groups)
        if self.padded_because is None and self.limit is not None and longest > self.limit:
            self.padded_because = (
                f"a sequence of {longest} tokens exceeds the attention window of {self.limit}"
            )
        if self.padded_because and not self._warned:
            self._warned = True
            log.warning(
                "plain per-sequence batches: %s; %s", self.padded_because, padding_cost(groups)
            )
        forward = self._packed if self.padded_because is None else self._padded
        with self._run(forward(groups, noise)) as found:
            yield found

    def packs(self, groups: Sequence[TokenGroup]) -> bool:
        """Return True where groups would be packed rather than padded."""
        longest = max(group.longest for group in groups)
        return self.padded_because is None and (self.limit is None or longest <= self.limit)

    @contextmanager
    def _run(self, forward: AbstractContextManager[S]) -> Iterator[S]:
        """Enter a forward pass, through the caller for sharded weights where there is one."""
        with ExitStack() as stack:
            enter = partial(stack.enter_context, forward)
            yield enter() if self._through is None else self._through(enter)

    @abstractmethod
    def _packed(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> AbstractContextManager[S]:
        """Compute values on the packed stream (`_stream`)."""

    @abstractmethod
    def _padded(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> AbstractContextManager[S]:
        """Compute values by the model's own forward on padded sequences (`_rows`)."""

    @abstractmethod
    def _values(self, found: S) -> Tensor:
        """Return the values that the probe compares."""

    @abstractmethod
    def _head_unserved(self) -> str | None:
        """Return why the head cannot run on the packed stream; None when it can."""

    @contextmanager
    def _stream(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None, root: int = 0
    ) -> Iterator[Stream]:
        """Run the model's body on groups packed into one stream (`root`: see `pack`)."""
        batch = pack(groups, self.base.device, root)
        lengths = torch.tensor([g.longest for g in groups])
        length_1T = lengths.repeat_interleave(torch.tensor([g.tokens for g in groups]))[None]
        length_1T = pad(length_1T, (0, batch.token_1T.shape[1] - batch.tokens), value=1)
        with (
            attention.packed(configs_of(self.base), self._layout(batch)) as self._seen,
            noisy(self.base, length_1T, noise),
            OneDNNLinears() if self.base.device.type == "cpu" else nullcontext(),
        ):
            hidden = self.base.base_model(
                input_ids=batch.token_1T, position_ids=batch.position_1T, use_cache=False
            )[0]
            yield Stream(batch, hidden[0])

    def _rows(self, groups: Sequence[TokenGroup], fill: int = 0) -> Rows:
        """Pad the groups' sequences at their ends."""
        sequences = [g.prompt_T + r for g in groups for r in g.responses]
        lengths = tuple(map(len, sequences))
        token_NT = np.full((len(sequences), max(lengths)), fill, dtype=np.int64)
        mask_NT = np.zeros_like(token_NT)
        for n, sequence in enumerate(sequences):
            token_NT[n, : len(sequence)] = sequence
            mask_NT[n, : len(sequence)] = 1
        device = self.base.device
        return Rows(
            torch.from_numpy(token_NT).to(device), torch.from_numpy(mask_NT).to(device), lengths
        )

    def _logits(
        self, rows: Rows, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Tensor:
        """Compute logits by the model's own forward; (N, T, V)."""
        length_N1 = torch.tensor([[g.longest] for g in groups for _ in g.responses])
        with noisy(self.base, length_N1, noise):
            logits: Tensor = self.base(
                input_ids=rows.token_NT, attention_mask=rows.mask_NT, use_cache=False
            ).logits
        return logits

    def _probed(self, groups: list[TokenGroup]) -> list[TokenGroup]:
        """Return the groups on which a probe compares the two paths."""
        return groups

    def _probe(self) -> ProbeResult:
        """Judge whether the packed forward is right for this model."""
        name = type(self.base).__name__
        outside = ProbeResult(f"{name} does not use transformers' attention interface")
        if not getattr(self.base, "_supports_attention_backend", False):
            return outside
        if self.base.base_model is self.base:
            return ProbeResult(f"{name} has no body apart from its head")
        if reason := self._head_unserved():
            return ProbeResult(reason)
        groups = self._probed(probe_groups(_text_config(self.base).vocab_size, self._tokenizer))

        def values(forward: Any) -> Tensor:
            with self._run(forward(groups, None)) as found:
                return self._values(found)

        try:
            verdict = judge_path(
                self.base,
                partial(values, self._padded),
                partial(values, self._packed),
                lambda: self._seen.windows,
            )
        except (attention.UnsupportedAttention, TypeError, ValueError, RuntimeError) as error:
            return ProbeResult(f"{name}: {str(error).splitlines()[0]}")
        if not self._seen.calls:
            return outside
        if verdict.reason:
            return ProbeResult(f"packed groups give {name} {verdict.reason}")
        return verdict


class ResponseScorer(Scorer[TokenLogps]):
    """Scorer of responses by their log-probabilities under a decoder."""

    path = "packed decoder"

    @contextmanager
    def _packed(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[TokenLogps]:
        with self._stream(groups, noise) as (batch, hidden_Td):
            filling = (0, rounded_up(len(batch.row_R)) - len(batch.row_R))
            hidden_Rd = hidden_Td.index_select(0, pad(batch.row_R, filling))
            yield self._predicted(hidden_Rd, batch.targets)

    def _predicted(self, hidden_Rd: Tensor, targets: Targets) -> TokenLogps:
        """Compute log-probabilities from predicting rows, which filling follows."""
        head = linear_head(self.base)
        assert head is not None
        count = len(targets.token_R)
        logps = row_logps(
            hidden_Rd,
            head.weight_Vd,
            head.bias_V,
            pad(targets.token_R, (0, len(hidden_Rd) - count)),
            softcap=soft_cap(self.base),
        )
        return TokenLogps(logps[:count], targets)

    @contextmanager
    def _padded(
        self, groups: Sequence[TokenGroup], noise: EmbeddingNoise | None
    ) -> Iterator[TokenLogps]:
        rows = self._rows(groups)
        width = rows.token_NT.shape[1]
        targets = make_targets(groups, self.base.device)
        logits = self._logits(rows, groups, noise)
        row_R = padded_rows(groups, width, logits.device)
        chosen_RV = at_least_float32(logits.flatten(0, 1).index_select(0, row_R))
        yield self._of_logits(chosen_RV, targets)

    def _of_logits(self, logits_RV: Tensor, targets: Targets) -> TokenLogps:
        """Compute log-probabilities from the logits of the predicting rows."""
        token_logit_R = logits_RV.gather(1, targets.token_R[:, None])[:, 0]
        return TokenLogps(token_logit_R - torch.logsumexp(logits_RV, dim=1), targets)

    def _values(self, found: TokenLogps) -> Tensor:
        return found.logp_R

    def _head_unserved(self) -> str | None:
        return head_unserved(self.base)


def head_unserved(base: Any) -> str | None:
    """Return why a vocabulary head cannot run on single rows; None when it can."""
    if linear_head(base) is None:
        return f"the vocabulary head of {type(base).__name__} is not a linear layer"
    return None


def soft_cap(base: Any) -> float | None:
    """Return the cap c on a model's logits, c * tanh(z / c); None without one."""
    found: float | None = getattr(_text_config(base), "final_logit_softcapping", None)
    return found


@contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Switch a model to eval mode (no dropout) inside the block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def read_groups(
    scorer: Scorer[S],
    groups: Sequence[TokenGroup],
    token_budget: int,
    take: Callable[[S, Sequence[TokenGroup]], Sequence[T]],
) -> list[T]:
    """Compute one value per group from its scores, in order; without gradient or dropout.

    Args:
        scorer: scorer of micro-batches.
        groups: prompts with responses.
        token_budget: most tokens of one forward pass.
        take: function of (scores, groups) of a micro-batch that returns one value per group.
    """
    found: dict[int, T] = {}
    memory = pass_memory(scorer, token_budget, gradient=False)
    if memory is not None:
        memory.check(groups)
    with eval_mode(scorer.base), torch.no_grad():
        for batch in micro_batches(groups, token_budget, memory.fits if memory else None):
            members = [groups[i] for i in batch]
            with scorer.scored(members) as scored:
                found.update(zip(batch, take(scored, members), strict=True))
    return [found[i] for i in range(len(groups))]


def padded_rows(groups: Sequence[TokenGroup], width: int, device: torch.device) -> Tensor:
    """Return the flat positions at which padded sequences predict the response tokens; (R,)."""
    lengths = [(len(group.prompt_T), len(r)) for group in groups for r in group.responses]
    found = [n * width + prompt - 1 + np.arange(own) for n, (prompt, own) in enumerate(lengths)]
    return torch.from_numpy(np.concatenate(found)).to(device)


def configs_of(model: Any) -> list[Any]:
    """Return the distinct configurations that a model's layers read."""
    found = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    return list(found.values())


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()


def padding_cost(groups: Sequence[TokenGroup]) -> str:
    """Describe the cost of a batch of padded sequences against the packed one."""
    width = max(group.longest for group in groups)
    positions = width * sum(len(group.responses) for group in groups)
    body = positions / sum(group.tokens for group in groups)
    head = positions / sum(group.response_tokens for group in groups)
    return (
        f"the first batch reads {body:.1f} times the positions of a packed one, and holds the "
        f"logits of {head:.1f} times the rows"
    )
