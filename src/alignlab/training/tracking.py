"""Log metrics to TensorBoard, Weights & Biases or trackio through accelerate's trackers.

metrics.jsonl holds every line too, and nothing reads a tracker back. A resumed training logs the
steps after its checkpoint again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any, Literal

from alignlab.errors import BadInput
from alignlab.protocols import Tracker
from alignlab.training.config import TrainConfig
from alignlab.training.schedule import learning_rate

Track = Literal["none", "tensorboard", "wandb", "trackio"]
"""Name of a tracker."""

PROJECT = "alignlab"
"""Project name at Weights & Biases and trackio."""

LogMetrics = Callable[[Mapping[str, float], int, int], None]
"""Callback with the mean metrics since the last line, the step, and the number of steps."""


def require_tracker(track: Track) -> None:
    """Check that a tracker's package is installed.

    Raises:
        BadInput: it is not installed.
    """
    if track != "none" and util.find_spec(track) is None:
        raise BadInput(
            f"setting track: {track} is not installed; install it with pip install "
            "'alignlab[track]', or choose track=none"
        )


@contextmanager
def tracking(
    track: Track, name: str, folder: Path, settings: Mapping[str, Any]
) -> Iterator[Tracker | None]:
    """Yield a tracker for one training; None for track=none.

    Args:
        track: name of the tracker.
        name: name of the training in the tracker.
        folder: folder of the training; files of TensorBoard and wandb go to `tracking` in it.
        settings: settings to log with the metrics.

    Raises:
        BadInput: the tracker's package is not installed.
    """
    require_tracker(track)
    if track == "none":
        yield None
        return
    tracker = _made(track, name, folder / "tracking")
    tracker.start()
    tracker.store_init_configuration(
        {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()}
    )
    try:
        yield _Adapter(tracker)
    finally:
        tracker.finish()


def log_to(tracker: Tracker, config: TrainConfig) -> LogMetrics:
    """Return a callback for a training loop that sends each line's metrics to a tracker."""

    def send(means: Mapping[str, float], step: int, total: int) -> None:
        if step % config.log_every == 0 or step == total:
            lr = learning_rate(step - 1, total, config)
            tracker.log({**means, "learning_rate": lr}, step)

    return send


class _Adapter:
    """Adapter of accelerate's trackers to the `Tracker` protocol."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of a step."""
        self._tracker.log(dict(metrics), step=step)


def _made(track: Track, name: str, folder: Path) -> Any:
    """Make one of accelerate's trackers."""
    from accelerate import PartialState
    from accelerate import tracking as theirs

    PartialState()  # by which the trackers find out the main process
    if track == "tensorboard":
        return theirs.TensorBoardTracker(".", logging_dir=folder)
    if track == "trackio":
        return theirs.TrackioTracker(PROJECT, name=name, resume="allow")
    folder.mkdir(parents=True, exist_ok=True)
    same = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return theirs.WandBTracker(PROJECT, name=name, dir=str(folder), id=same, resume="allow")
