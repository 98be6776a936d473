"""Progress: bars on a terminal or in a notebook, lines in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from alignlab import progress


class Clock:
    """Clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("alignlab.progress.time.monotonic", found)
    return found


LONG = "self_reward_samples: iteration-1: M2 self-reward (3 samples) judges its answers"


@pytest.mark.parametrize("width", [80, 100])
def test_a_bar_fits_the_terminal(clock, width: int):
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    bars = progress.Bars(console)
    bars.show(progress.Update(LONG, 0, 12_000))
    for done in (1_000, 2_000, 3_000):  # a unit of work takes longer than rich looks back
        clock.now += 40
        bars.show(progress.Update(LONG, done, 12_000, "score 0.123, KL 4.567, loss 0.891"))
    with console.capture() as shown:
        console.print(bars._bars.get_renderable())
    lines = Console(file=io.StringIO(), width=width).render_lines(bars._bars.get_renderable())
    text = ["".join(part.text for part in line).rstrip() for line in lines]
    assert len([line for line in text if line]) == 1
    assert len(text[0]) <= width
    assert "3,000/12,000" in text[0]
    assert "06:00" in text[0]  # nine more of 40 s each
    assert "…" in shown.get()
    bars.show(progress.Update(LONG, 12_000, 12_000, finished=True))


def test_a_finished_task_is_one_line_and_a_short_one_none(clock):
    console = Console(file=io.StringIO(), width=80)
    bars = progress.Bars(console)
    for seconds in (0.4, 75.0):
        bars.show(progress.Update(f"after {seconds}", 0, 1))
        clock.now += seconds
        bars.show(progress.Update(f"after {seconds}", 1, 1, "loss 0.5", finished=True))
    text = console.file.getvalue()
    assert [line.split() for line in text.splitlines() if line.strip()] == [
        ["after", "75.0", "75", "s", "loss", "0.5"]
    ]
    assert "\x1b" not in text  # no terminal, no control codes


def test_a_finished_line_fits_and_keeps_its_time():
    update = progress.Update(LONG, 1, 1, "loss 0.891")
    line = progress.finished_line(update, 7200.0, 80)
    assert len(line) <= 80
    assert "2.0 h  loss 0.891" in line
    assert line.startswith("  self_reward_samples: iteration-1")


def test_markup_in_names_is_text(clock):
    console = Console(file=io.StringIO(), width=80)
    bars = progress.Bars(console)
    bars.show(progress.Update("[red]M2[/red]", 0, 1))
    clock.now += 2
    bars.show(progress.Update("[red]M2[/red]", 1, 1, "[/]", finished=True))
    bars.say("[bold]head[/bold]")
    assert "[red]M2[/red]" in console.file.getvalue()
    assert "[bold]head[/bold]" in console.file.getvalue()


def test_a_log_has_lines_now_and_then_and_no_control_codes(clock, capsys):
    lines = progress.Lines(every_s=10.0)
    lines.say("the head")
    for done in range(4):
        lines.show(progress.Update("answers", done, 4))
        clock.now += 6
    lines.show(progress.Update("answers", 4, 4, finished=True))
    lines.show(progress.Update("quick", 0, 1))
    lines.show(progress.Update("quick", 1, 1, finished=True))
    text = capsys.readouterr().err
    assert text.splitlines() == ["the head", "answers: 2/4", "answers: 24 s"]
    assert "\x1b" not in text


def test_nothing_is_said_in_silence(capsys):
    with progress.quiet():
        progress.say("the head")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"),
                          (6000, "1.7 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str):
    assert progress.duration(seconds) == text


class Handle:
    """A displayed object that remembers how it was drawn."""

    def __init__(self, first) -> None:
        self.drawn = [first.data]

    def update(self, again) -> None:
        self.drawn.append(again.data)


@pytest.fixture
def displayed(monkeypatch):
    pytest.importorskip("IPython")
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
