"""Damage copies of a finished study in every way, and print what `report`, `run` and
`run --repair` say; after a repair every record, weight and figure must be that of the whole run.

    python -m tests.recipes.damaged_runs --out DIR [--whole RUN] [--only WORD] [--first N]
        [key=value ...]

`--whole` names a finished run of the same settings, where one is there already.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignlab import cli, progress
from tests.recipes import kill_resume
from tests.recipes.small import SMALL

COMMAND = ("compare_feedback", *SMALL, *kill_resume.FINE)

Harm = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One kind of damage."""

    name: str
    file: str
    """Pattern of the damaged file below the run."""
    harm: Harm
    """Damages that file."""
    line: int | None = None
    """Line that the message must name."""


@dataclass(frozen=True)
class Row:
    """What came of a damaged run."""

    name: str
    report: str
    run: str
    differences: tuple[str, ...]
    """Files that differ from the whole run after the repair."""
    problem: str = ""
    """Anything that is not as it must be."""


def _lines(change: Callable[[list[bytes]], Sequence[bytes]]) -> Harm:
    def harm(file: Path) -> None:
        file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))

    return harm


def _bytes(change: Callable[[bytes], bytes]) -> Harm:
    def harm(file: Path) -> None:
        file.write_bytes(change(file.read_bytes()))

    return harm


def _altered(lines: list[bytes]) -> list[bytes]:
    """Change the last digit of the third record; it stays JSON of the same length."""
    line = bytearray(lines[2])
    place = max(i for i, c in enumerate(line) if chr(c).isdigit())
    line[place] = ord("7") if line[place] != ord("7") else ord("5")
    return [*lines[:2], bytes(line), *lines[3:]]


def _unfinished(change: Harm) -> Harm:
    """Damage a stage as if its run had been killed at its end."""

    def harm(file: Path) -> None:
        (file.parent / "status.json").write_text('{\n "state": "running"\n}\n')
        change(file)

    return harm


def _remove(file: Path) -> None:
    shutil.rmtree(file) if file.is_dir() else file.unlink()


def _setting(file: Path) -> None:
    plain = json.loads(file.read_text())
    file.write_text(json.dumps({**plain, "seconds": 1.0, "seeds": [7]}, indent=1))


JUDGED, MODEL = "stages/11-score-m1/feedback.jsonl", "stages/05-m1/model"
BROKEN = _lines(lambda lines: [*lines[:2], lines[2][:20] + b"\n", *lines[3:]])
NO_JSON = _bytes(lambda raw: raw[: len(raw) // 2])

CASES = (
    Case("half a line at the end", JUDGED, _bytes(lambda raw: raw + b'{"prompt_id": "x'), 9),
    Case("half of the last line", JUDGED, _bytes(lambda raw: raw[:-30]), 8),
    Case("broken middle line", JUDGED, BROKEN, 3),
    Case("altered record", JUDGED, _lines(_altered), 3),
    Case("a line twice", JUDGED, _lines(lambda s: [*s[:3], *s[2:]]), 4),
    Case("a middle line gone", JUDGED, _lines(lambda s: [*s[:2], *s[3:]]), 3),
    Case("the last line gone", JUDGED, _lines(lambda s: s[:-1]), 8),
    Case("a line more at the end", JUDGED, _lines(lambda s: [*s, s[-1]]), 9),
    Case("two lines exchanged", JUDGED, _lines(lambda s: [s[1], s[0], *s[2:]]), 1),
    Case("zeros for the last block", JUDGED, _bytes(lambda raw: raw[:-99] + bytes(99))),
    Case("empty record file", JUDGED, _bytes(lambda raw: b""), 1),
    Case("record file gone", JUDGED, _remove),
    Case("altered figure", "stages/*-results/results.jsonl", _lines(_altered), 3),
    Case("altered demonstration", "stages/01-seed/demonstrations.jsonl", _lines(_altered), 3),
    Case("altered training metrics", "stages/05-m1/metrics.jsonl",
         _lines(lambda s: [s[0][:20] + b"\n", *s[1:]]), 1),
    Case("truncated weights", f"{MODEL}/model.safetensors", _bytes(lambda raw: raw[:-4096])),
    Case("one bit of the weights", f"{MODEL}/model.safetensors",
         _bytes(lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])),
    Case("empty weights", f"{MODEL}/model.safetensors", _bytes(lambda raw: b"")),
    Case("altered tokenizer", f"{MODEL}/tokenizer.json", _bytes(lambda raw: raw + b" ")),
    Case("chat template gone", f"{MODEL}/chat_template.jinja", _remove),
    Case("intermediate model gone", MODEL, _remove),
    Case("model of a branch gone", "stages/self_reward_expected/iteration-1/*-m2-*/model", _remove),
    Case("status no JSON", "stages/11-score-m1/status.json", NO_JSON),
    Case("status altered", "stages/11-score-m1/status.json", _setting),
    Case("status gone", "stages/11-score-m1/status.json", _remove),
    Case("commits no JSON", "stages/11-score-m1/commits.jsonl", _bytes(lambda r: b"{]\n" + r), 1),
    Case("commits gone", "stages/11-score-m1/commits.jsonl", _remove),
    Case("stage's config no JSON", "stages/11-score-m1/config.json", NO_JSON),
    Case("stage gone", "stages/11-score-m1", _remove),
    Case("manifest no JSON", "manifest.json", NO_JSON),
    Case("manifest altered", "manifest.json", _setting),
    Case("manifest gone", "manifest.json", _remove),
    Case("config no YAML", "config.yaml", _bytes(lambda raw: b"model: [\n" + raw)),
    Case("config altered", "config.yaml", _bytes(lambda raw: raw.replace(b"seed: 0", b"seed: 1"))),
    Case("events: broken line", "events.jsonl", BROKEN, 3),
    Case("events gone", "events.jsonl", _remove),
    Case("killed, then a broken line", JUDGED, _unfinished(BROKEN), 3),
    Case("killed, then an altered record", JUDGED, _unfinished(_lines(_altered)), 3),
    Case("killed, then committed lines gone", JUDGED, _unfinished(_lines(lambda s: s[:4])), 5),
)  # fmt: skip


def call(*arguments: str) -> tuple[int, str]:
    """Run `alignlab ARGUMENTS` in this process; its exit code and what it printed on stderr."""
    before, printed = sys.argv, io.StringIO()
    sys.argv = ["alignlab", *arguments]
    progress.use(progress.Silent())
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as ended:
        return int(ended.code or 0), printed.getvalue().strip()
    finally:
        sys.argv = before
    return 0, printed.getvalue().strip()


def damage_and_repair(whole: Path, out: Path, command: Sequence[str], case: Case) -> Row:
    """Damage a copy of a finished run, read it, resume it, repair it, and compare."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(whole, out)
    (file,) = out.glob(case.file)
    case.harm(file)
    shown = [call("report", str(out)), call("run", *command, f"out={out}")]
    problems = [
        f"{name}: exit {code}, {said}"
        for name, (code, said) in zip(("report", "run"), shown, strict=True)
        if not _told(code, said, file, case.line)
    ]
    code, said = call("run", *command, f"out={out}", "--repair")
    if code:
        return Row(case.name, *(s for _, s in shown), (), f"repair: exit {code}, {said}")
    again, _ = call("report", str(out))
    problems += [f"report after the repair: exit {again}"] if again else []
    changed = kill_resume.differences(kill_resume.contents(whole), kill_resume.contents(out))
    return Row(case.name, *(s for _, s in shown), changed, "; ".join(problems))


def _told(code: int, said: str, file: Path, line: int | None) -> bool:
    where = str(file) if line is None else f"{file}, line {line}:"
    return code == 2 and len(said.splitlines()) == 1 and where in said and "--repair" in said


def main() -> int:
    """Print a row per damage; exit code 1 when anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--whole", type=Path, help="a finished run of the same settings")
    parser.add_argument("--only", default="", help="damages whose name holds this")
    parser.add_argument("--first", type=int, default=0, help="number of the first row")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    command = [*COMMAND, *given.settings]
    whole = (given.whole or given.out / "whole").resolve()
    if not (whole / "report.html").exists():
        kill_resume.finish(command, whole)
    bad = 0
    cases = [case for case in CASES if given.only in case.name][given.first :]
    for number, case in enumerate(cases):
        out = (given.out / f"damaged-{number:02d}").resolve()
        row = damage_and_repair(whole, out, command, case)
        bad += bool(row.problem or row.differences)
        same = f"{len(row.differences)} files differ" if row.differences else "all equal"
        said = row.report.replace(f"{out}/", "").removeprefix("alignlab: ").partition(";")[0]
        print(f"{case.name}: {said}; repaired: {same}", flush=True)
        for trouble in (row.problem, ", ".join(row.differences)):
            if trouble:
                print(f"    {trouble}", flush=True)
        shutil.rmtree(out)
    print(f"{len(cases)} kinds of damage, {bad} not as they must be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
