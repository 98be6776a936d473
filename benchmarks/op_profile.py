"""Time of torch's operations by class, from torch's profiler.

A class is read from an operation's name; what is done to choose tokens stands between marks, and
its operations all count as sampling. Time is an operation's own, without those that it calls.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch.profiler import record_function

SAMPLING = "alignlab: sampling"
"""Mark around the choice of tokens."""
PART = "alignlab: part "
"""Start of the mark around a part of a step."""
WHOLE = "whole"

OPERATIONS = {
    "weights": "mm addmm addmv mv matmul linear _linear_pointwise mkldnn_linear",
    "attention": "bmm baddbmm _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_attention_math scaled_dot_product_attention",
    "softmax": "_softmax softmax _log_softmax log_softmax logsumexp _safe_softmax "
    "_softmax_backward_data _log_softmax_backward_data",
    "sampling": "multinomial searchsorted",
    "copies": "copy clone contiguous cat stack index_select gather index take repeat "
    "repeat_interleave constant_pad_nd pad to _to_copy masked_select scatter scatter_add index_add "
    "index_put index_copy _index_put_impl embedding embedding_dense fill zero zeros ones full "
    "new_zeros zeros_like ones_like full_like slice_backward select_backward index_select_backward "
    "_reorder_linear_weight tril triu arange flip roll nonzero embedding_backward",
    "elementwise": "add sub rsub mul div neg abs pow square sqrt rsqrt exp log log1p expm1 sigmoid "
    "log_sigmoid log_sigmoid_forward silu gelu relu tanh sin cos clamp clamp_min clamp_max where "
    "masked_fill sum mean amax amin max min norm linalg_vector_norm std var prod addcmul addcdiv "
    "lerp eq ne lt le gt ge logical_and logical_or logical_not bitwise_and bitwise_or bitwise_not "
    "any all isfinite isnan threshold softplus maximum minimum reciprocal round "
    "sort topk argmax argsort cumsum isin native_layer_norm _fused_rms_norm _fused_adamw",
    "views": "view _unsafe_view reshape _reshape_alias t transpose permute expand expand_as "
    "unsqueeze squeeze select slice narrow split split_with_sizes chunk unbind as_strided detach "
    "alias empty empty_like empty_strided new_empty resize unflatten flatten lift_fresh "
    "resolve_conj resolve_neg set_data item _local_scalar_dense is_nonzero size result_type",
}
"""Class -> operations, by name without `aten::`, a last `_` and `_backward`."""
CLASSES = (*OPERATIONS, "other")
_CLASS_OF = {name: kind for kind, names in OPERATIONS.items() for name in names.split()}


@dataclass(frozen=True)
class Profile:
    """Self time of a step's or a part's operations."""

    seconds: Mapping[str, float]
    """Class -> seconds."""
    unknown: Mapping[str, float]
    """Operation of no class -> seconds, which are in the class "other"."""

    def shares(self) -> dict[str, float]:
        """Return each class's share of all; zeros where nothing was recorded."""
        total = sum(self.seconds.values())
        return {kind: self.seconds.get(kind, 0.0) / total if total else 0.0 for kind in CLASSES}

    def largest_unknown(self, count: int = 3) -> dict[str, float]:
        """Return the largest operations without a class, with their shares of all."""
        total = sum(self.seconds.values())
        return {name: s / total for name, s in Counter(self.unknown).most_common(count)}


def class_of(operation: str) -> str:
    """Return the class of an operation's name, "other" for an unknown one."""
    name = operation.rpartition("::")[2]
    for known in (name, name.rstrip("_"), name.removesuffix("_backward").rstrip("_")):
        if known in _CLASS_OF:
            return _CLASS_OF[known]
    return "elementwise" if name.startswith("_foreach_") else "other"


def profiles(events: Iterable[Any]) -> dict[str, Profile]:
    """Sum a profiler's events by part and class; the whole is all events.

    Events have a name, their own time in microseconds (`self_cpu_time_total`) and the event that
    they were called in (`cpu_parent`).
    """
    marks: dict[int, tuple[str | None, bool]] = {}

    def marks_of(event: Any) -> tuple[str | None, bool]:
        """Return the part around an event, and True within the choice of tokens."""
        if event is None:
            return None, False
        if id(event) not in marks:
            part, chosen = marks_of(event.cpu_parent)
            if event.name.startswith(PART):
                part = part or event.name.removeprefix(PART)
            marks[id(event)] = part, chosen or event.name == SAMPLING
        return marks[id(event)]

    seconds: dict[str, Counter[str]] = defaultdict(Counter)
    unknown: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        if event.name.startswith("alignlab: "):
            continue  # time of Python between the operations inside a mark
        part, chosen = marks_of(event)
        kind = "sampling" if chosen else class_of(event.name)
        for name in {WHOLE, part or WHOLE}:
            seconds[name][kind] += event.self_cpu_time_total / 1e6
            if kind == "other":
                unknown[name][event.name] += event.self_cpu_time_total / 1e6
    return {name: Profile(dict(seconds[name]), dict(unknown[name])) for name in seconds}


@contextmanager
def marked(owner: Any, name: str, mark: str) -> Iterator[None]:
    """Put a mark around every call of a function of a module or class while it lasts."""
    original: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(mark):
            return original(*args, **kwargs)

    with patch.object(owner, name, call):
        yield
