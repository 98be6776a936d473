"""Progress in a notebook: a bar that is drawn again, and one line at the end."""

from __future__ import annotations

import pytest

from alignlab import progress

pytest.importorskip("IPython")


class Handle:
    """A displayed object that remembers how it was drawn."""

    def __init__(self, first) -> None:
        self.drawn = [first.data]

    def update(self, again) -> None:
        self.drawn.append(again.data)


@pytest.fixture
def displayed(monkeypatch):
    found: list[Handle] = []

    def display(first, display_id: bool) -> Handle:
        assert display_id
        found.append(Handle(first))
        return found[-1]

    monkeypatch.setattr("IPython.display.display", display)
    yield found
    progress.use(None)


def test_a_task_is_one_bar_and_then_one_line(displayed):
    progress.use(progress.NotebookBars(every_s=0.0))
    with progress.task("M1 <learns>", 3) as bar:
        bar.advance(note="loss 0.5")
        bar.advance(2, note="loss 0.25")
    (handle,) = displayed
    assert 'value="0" max="3"' in handle.drawn[0]
    assert 'value="3" max="3"' in handle.drawn[2]
    assert "1/3" in handle.drawn[1]
    assert "<progress" not in handle.drawn[-1]
    assert "M1 &lt;learns&gt;" in handle.drawn[-1]
    assert "loss 0.25" in handle.drawn[-1]


def test_bars_are_not_drawn_more_often_than_asked(displayed):
    progress.use(progress.NotebookBars(every_s=60.0))
    with progress.task("quick", 100) as bar:
        for _ in range(100):
            bar.advance()
    assert len(displayed[0].drawn) == 2  # the first and the last


def test_a_notebook_gets_bars_without_widgets(displayed, monkeypatch):
    monkeypatch.setattr(progress.console, "is_jupyter", True)
    progress.use(None)
    with progress.task("answers", 1) as bar:
        bar.advance()
    assert displayed
