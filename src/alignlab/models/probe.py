"""Tell a wrong forward path from rounding.

A faster path is compared with the model's own, on text that the tokenizer makes likely. In float32
both must agree. In half precision each is compared with float32: rounding alone moves a token's
log-probability by up to a nat on some models, so that the faster path passes where it is no
further from float32 than the model's own is. Large models are compared on their first layers, and
sliding windows are shortened so that the short text passes over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignlab.models.packed import TokenGroup

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest accepted difference of two paths in nats, by type of the arithmetic."""
HALF_TOLERANCE = 0.25
"""Largest accepted difference in half precision where float32 cannot be computed, in nats."""
ERROR_RATIO = 1.5
"""Largest accepted ratio of mean errors against float32, of the other path over the model's own."""
ERROR_MARGIN = 0.01
"""Error added to what the ratio allows, in nats."""
LAYER_PARAMETERS = 64_000_000
"""Parameters of the layers that are compared; at least one layer of each kind."""
SHORT_WINDOW = 4
"""Sliding window during a probe, in tokens."""

TEXTS = (
    ("Hello", (", how are you doing today?", " and welcome to the first day of school.")),
    (
        "Once upon a time there was",
        (" a little girl who lived in a small village.", " a man who had two sons and a dog."),
    ),
    (
        "What is the capital of France, and what is it known for?",
        (
            " The capital of France is Paris. It is known for the Eiffel Tower.",
            " Paris is the capital of France, a city of art and good food.",
        ),
    ),
)
"""Prompts with continuations, by rising length."""


class ProbeResult(NamedTuple):
    """Result of a probe."""

    reason: str | None
    """Reason against the path; None where it is right."""
    limit: int | None = None
    """Longest sequence on which the path is right, in tokens; None sets no limit."""


_found: WeakKeyDictionary[Any, dict[Any, ProbeResult]] = WeakKeyDictionary()
_stand_ins: WeakKeyDictionary[Any, Callable[[], Any]] = WeakKeyDictionary()


def set_stand_in(base: Any, make: Callable[[], Any]) -> None:
    """Let a smaller model be probed instead of a sharded one, whose weights have no float32 copy.

    Args:
        base: the sharded transformers model.
        make: makes its first layers with their weights whole.
    """
    _stand_ins[base] = make


def once_per_model(
    base: Any,
    path: Any,
    probe: Callable[[], ProbeResult],
    of_stand_in: Callable[[Any], ProbeResult] | None = None,
) -> ProbeResult:
    """Return the verdict on a path of a model in its present type, probed at most once.

    Training changes weights, not the arithmetic; an adapter adds modules and is probed again.

    Args:
        base: the transformers model.
        path: name of the path.
        probe: judges the path on the model.
        of_stand_in: judges it on the model that stands in for this one, if one does.
    """
    verdicts = _found.setdefault(base, {})
    key = (path, base.dtype, base.device.type, sum(1 for _ in base.modules()))
    if key not in verdicts:
        make = _stand_ins.get(base)
        verdicts[key] = of_stand_in(make()) if make and of_stand_in else probe()
    return verdicts[key]


def probe_groups(vocabulary: int, tokenizer: Any = None) -> list[TokenGroup]:
    """Return small groups of likely text; without a tokenizer, of tokens that are often frequent.

    Args:
        vocabulary: number of tokens that the model knows.
        tokenizer: tokenizer of the model, if at hand.
    """
    if tokenizer is not None:
        groups = []
        for prompt, responses in TEXTS:
            rows = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in responses]
            prompt_T = tuple(tokenizer(prompt)["input_ids"])
            groups.append(TokenGroup(prompt, prompt_T, tuple(map(tuple, rows))))
        if all(t < vocabulary for g in groups for row in (g.prompt_T, *g.responses) for t in row):
            return groups
    rng = np.random.Generator(np.random.Philox(7))
    # Merges are numbered by frequency, after special tokens and single bytes.
    first, last = (300, 3000) if vocabulary > 3000 else (0, vocabulary)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.integers(first, last, length))

    lengths = ((3, (7, 8)), (7, (9, 8)), (13, (15, 14)))
    return [TokenGroup(str(p), draw(p), tuple(map(draw, several))) for p, several in lengths]


def judge_path(
    base: Any,
    own: Callable[[], Tensor],
    other: Callable[[], Tensor],
    windows: Callable[[], set[int]],
) -> ProbeResult:
    """Compare another path with a model's own.

    Args:
        base: the transformers model, whose layers, windows and weights are changed meanwhile.
        own: computes log-probabilities (or other values) by the model's own forward pass.
        other: computes the same values by the other path.
        windows: returns the sliding windows that the other path's attention calls named.
    """
    window = _window(base)
    with _evaluated(base), torch.no_grad(), _first_layers(base):
        with _short_windows(base) as short:
            reason = _difference(base, own, other)
        served = window is None or short in windows()
        if not served:
            # A window that attention calls do not name is kept by the mask alone, or not at all.
            reason = _difference(base, own, other)
    config = base.config.get_text_config()
    limits = [None if served else window, getattr(config, "attention_chunk_size", None)]
    return ProbeResult(reason, min((w for w in limits if w), default=None))


def _difference(base: Any, own: Callable[[], Tensor], other: Callable[[], Tensor]) -> str | None:
    """Return by how much two paths differ beyond rounding; None where they do not."""
    half = base.dtype in (torch.bfloat16, torch.float16)
    if not (half and _convertible(base)):
        return _far(own(), other(), TOLERANCE.get(base.dtype, HALF_TOLERANCE), base.dtype)
    with _in_float32(base):
        truth = own()
        reason = _far(truth, other(), TOLERANCE[torch.float32], torch.float32)
    if reason:
        return reason
    own_error, other_error = (_mean(path() - truth) for path in (own, other))
    if not other_error <= ERROR_RATIO * own_error + ERROR_MARGIN:
        return (
            f"{_name(base.dtype)} values {other_error:.2g} nats from float32, the model's own "
            f"{own_error:.2g}"
        )
    return None


def _far(own: Tensor, other: Tensor, tolerance: float, dtype: torch.dtype) -> str | None:
    worst = float((own - other).abs().max())
    if worst <= tolerance:
        return None
    return f"other values in {_name(dtype)} (by {worst:.2g} nats; {tolerance:g} may be rounding)"


def _mean(error: Tensor) -> float:
    # Not the root of the mean square, which a few tokens of the short text would decide.
    return float(error.abs().double().mean())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _window(base: Any) -> int | None:
    """Return the sliding window of a model's configuration."""
    config = base.config.get_text_config()
    if getattr(config, "use_sliding_window", None) is False:
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window


def _convertible(base: Any) -> bool:
    """Return True for weights that float32 copies can replace: neither quantised nor sharded."""
    plain = (Tensor, torch.nn.Parameter)
    return not getattr(base, "is_quantized", False) and all(
        type(p) in plain and type(p.data) in plain and p.device.type != "meta"
        for p in base.parameters()
    )


@contextmanager
def _evaluated(base: Any) -> Iterator[None]:
    """Switch dropout off."""
    training = base.training
    base.eval()
    try:
        yield
    finally:
        base.train(training)


@contextmanager
def _in_float32(base: Any) -> Iterator[None]:
    """Compute in float32, with copies of the weights; embeddings are converted as they are read."""
    embeddings = base.get_input_embeddings()
    head = base.get_output_embeddings()
    spared = {id(p) for p in embeddings.parameters()}
    if head is not None:
        spared -= {id(p) for p in head.parameters()}
    half = (torch.bfloat16, torch.float16)
    converted = [p for p in base.parameters() if p.dtype in half and id(p) not in spared]
    originals = [p.data for p in converted]
    handle = embeddings.register_forward_hook(lambda module, inputs, output: output.float())
    try:
        for parameter in converted:
            parameter.data = parameter.data.float()
        yield
    finally:
        handle.remove()
        for parameter, original in zip(converted, originals, strict=True):
            parameter.data = original


@contextmanager
def _first_layers(base: Any) -> Iterator[None]:
    """Leave out a large model's later layers."""
    put_back = cut_layers(base)
    try:
        yield
    finally:
        put_back()


def cut_layers(base: Any) -> Callable[[], None]:
    """Leave out a large model's later layers; return the function that puts them back."""
    body = base.base_model
    lists = [(n, m) for n, m in body.named_children() if isinstance(m, torch.nn.ModuleList)]
    name, layers = max(lists, key=lambda named: len(named[1]), default=("", ()))
    count = _layers_compared(layers, getattr(base.config.get_text_config(), "layer_types", None))
    if count < len(layers):
        setattr(body, name, layers[:count])
    return lambda: setattr(body, name, layers) if name else None


def _layers_compared(layers: Any, kinds: Sequence[str] | None) -> int:
    """Return how many layers hold every kind, and more up to the parameters allowed."""
    kinds = (kinds or ())[: len(layers)]
    least = max((kinds.index(kind) + 1 for kind in set(kinds)), default=1)
    total = 0
    for count, layer in enumerate(layers):
        total += sum(p.numel() for p in layer.parameters())
        if total > LAYER_PARAMETERS and count >= least:
            return count
    return len(layers)


@contextmanager
def _short_windows(base: Any) -> Iterator[int | None]:
    """Shorten sliding windows; yield the window in use."""
    window = _window(base)
    if window is None or window <= SHORT_WINDOW:
        yield window
        return
    configs = [m.config for m in base.modules() if isinstance(m, PreTrainedModel)]
    configs.append(base.config.get_text_config())
    with ExitStack() as stack:
        for owner in (*configs, *base.modules()):
            if getattr(owner, "sliding_window", None) == window:
                stack.callback(setattr, owner, "sliding_window", window)
                owner.sliding_window = SHORT_WINDOW
        yield SHORT_WINDOW
