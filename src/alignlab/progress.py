"""Show progress of long jobs: bars on a terminal or in a notebook, lines in a log."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

LEAST_S = 1.0
"""Seconds below which a finished task is not worth a line."""

console = Console(stderr=True)


@dataclass(frozen=True)
class Update:
    """Progress of one task."""

    task: str
    done: int
    total: int
    note: str = ""
    finished: bool = False


class Sink(Protocol):
    """Display of progress updates."""

    def show(self, update: Update) -> None:
        """Show an update."""
        ...

    def say(self, text: str) -> None:
        """Show lines of text."""
        ...


class Bars:
    """Live bars on a terminal, as wide as it is; a finished task is replaced by one line."""

    def __init__(self, to: Console | None = None) -> None:
        self._console = console if to is None else to

        def cut(width: int, **how: Any) -> Column:
            return Column(no_wrap=True, overflow="ellipsis", max_width=width, **how)

        # 34 + 10 + 13 + 7 + 12 columns and four spaces: 80.
        self._bars = Progress(
            TextColumn("{task.description}", table_column=cut(34)),
            BarColumn(bar_width=10),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}", table_column=cut(13)),
            TimeRemainingColumn(compact=True, table_column=cut(7)),
            TextColumn("[dim]{task.fields[note]}", table_column=cut(12)),
            console=self._console,
            transient=True,
            get_time=lambda: time.monotonic(),
            speed_estimate_period=1800.0,  # a unit of work can take minutes
        )
        self._ids: dict[str, TaskID] = {}

    def show(self, update: Update) -> None:
        """Update the bar of a task."""
        if not self._ids:
            self._bars.start()
        if update.task not in self._ids:
            name = escape(update.task)
            self._ids[update.task] = self._bars.add_task(name, total=update.total, note="")
        bar = self._ids[update.task]
        note = escape(update.note)
        self._bars.update(bar, completed=update.done, total=update.total, note=note)
        if update.finished:
            elapsed = self._bars.tasks[self._bars.task_ids.index(bar)].elapsed or 0.0
            self._bars.remove_task(self._ids.pop(update.task))
            if elapsed >= LEAST_S:
                self.say(finished_line(update, elapsed, self._console.width))
            if not self._ids:
                self._bars.stop()

    def say(self, text: str) -> None:
        """Print lines above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def finished_line(update: Update, elapsed: float, width: int) -> str:
    """Format a finished task in one line of at most `width` characters."""
    end = f"{duration(elapsed):>8}  {update.note}".rstrip()
    room = max(20, width - len(end) - 4)
    name = update.task if len(update.task) <= room else f"{update.task[: room - 1]}…"
    return f"  {name}{end}" if len(name) > 40 else f"  {name:<40}{end}"


def duration(seconds: float) -> str:
    """Format a duration in a suitable unit: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class NotebookBars:
    """Bars in the output of a notebook cell; a finished task is replaced by one line.

    An HTML `<progress>` element that is displayed again, which every notebook front end draws;
    live bars of rich need ipywidgets.
    """

    def __init__(self, every_s: float = 0.2) -> None:
        self._every_s = every_s
        self._shown: dict[str, tuple[Any, float, float]] = {}

    def show(self, update: Update) -> None:
        """Update the bar of a task, at most every `every_s` seconds."""
        from IPython import display as cell

        page: Any = cell  # its functions carry no types
        now = time.monotonic()
        if update.task not in self._shown:
            handle = page.display(page.HTML(self._html(update, 0.0)), display_id=True)
            self._shown[update.task] = (handle, now, now)
            return
        handle, began, last = self._shown[update.task]
        if update.finished or now - last >= self._every_s:
            handle.update(page.HTML(self._html(update, now - began)))
            self._shown[update.task] = (handle, began, now)
        if update.finished:
            del self._shown[update.task]

    def say(self, text: str) -> None:
        """Display lines of text."""
        from IPython import display as cell

        page: Any = cell
        page.display(page.HTML(f"<pre>{html.escape(text)}</pre>"))

    def _html(self, update: Update, seconds: float) -> str:
        note = f"{duration(seconds)} {html.escape(update.note)}"
        if update.finished:
            return f"<div>{html.escape(update.task)} <small>{note}</small></div>"
        bar = f'<progress value="{update.done}" max="{max(update.total, 1)}"></progress>'
        of = f"{update.done:,}/{update.total:,}"
        return f"<div>{html.escape(update.task)} {bar} {of} <small>{note}</small></div>"


class Lines:
    """Lines on stderr for logs: every `every_s` seconds and at the end of a task."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._shown: dict[str, float] = {}
        self._began: dict[str, float] = {}

    def show(self, update: Update) -> None:
        """Print a line if one is due."""
        now = time.monotonic()
        began = self._began.setdefault(update.task, now)
        if update.finished:
            if now - began >= LEAST_S:
                took = f"{update.task}: {duration(now - began)} {update.note}"
                print(took.rstrip(), file=sys.stderr)
            self._began.pop(update.task)
            self._shown.pop(update.task, None)
        elif now - self._shown.get(update.task, began) >= self._every_s:
            self._shown[update.task] = now
            left = f"{update.task}: {update.done}/{update.total} {update.note}"
            print(left.rstrip(), file=sys.stderr)

    def say(self, text: str) -> None:
        """Print lines."""
        print(text, file=sys.stderr)


class Silent:
    """Sink that shows nothing."""

    def show(self, update: Update) -> None:
        """Ignore the update."""
        del update

    def say(self, text: str) -> None:
        """Ignore the text."""
        del text


_sink: Sink | None = None


def use(sink: Sink | None) -> None:
    """Set the sink of progress updates; None selects terminal, notebook or log."""
    global _sink
    _sink = sink


def show(update: Update) -> None:
    """Show an update in this process's sink."""
    _chosen().show(update)


def say(text: str) -> None:
    """Show lines of text in this process's sink."""
    _chosen().say(text)


def _chosen() -> Sink:
    """Return the sink in use; by default terminal, notebook or log."""
    global _sink
    if _sink is None:
        bars = NotebookBars() if console.is_jupyter else Bars()
        _sink = bars if console.is_jupyter or console.is_terminal else Lines()
    return _sink


class ProgressTask:
    """Progress counter of one running job."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done, self.note = name, total, 0, ""

    def advance(self, by: int = 1, note: str = "") -> None:
        """Add to the number of finished units."""
        self.set(self.done + by, note)

    def set(self, done: int, note: str = "") -> None:
        """Set the number of finished units; an empty note leaves the last one."""
        self.done, self.note = done, note or self.note
        show(Update(self.name, self.done, self.total, self.note))


@contextmanager
def quiet() -> Iterator[None]:
    """Show no progress while the block runs."""
    global _sink
    before, _sink = _sink, Silent()
    try:
        yield
    finally:
        _sink = before


@contextmanager
def task(name: str, total: int) -> Iterator[ProgressTask]:
    """Show a job's progress while the block runs."""
    job = ProgressTask(name, total)
    show(Update(name, 0, total))
    try:
        yield job
    finally:
        show(Update(name, job.done, total, job.note, finished=True))
