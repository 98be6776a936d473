"""Mutation testing: change the code in small ways, and see whether the tests notice.

    python scripts/mutate.py --n 300 --seed 1 --json found.json  300 mutants of the default files
    python scripts/mutate.py --files 'src/alignlab/objectives/*.py' --n 20
    python scripts/mutate.py ... --json found.json --resume      go on with a run that was stopped
    python scripts/mutate.py ... --json found.json --again       try its survivors again
    python scripts/mutate.py --list                              the hand-written mutations
    python scripts/mutate.py --list --only kl                    those whose name holds "kl"

Seeded mutants change comparisons, arithmetic, constants by one, negations, operands, functions
(min and max, sum and mean), the order of operands and of sorted lists, and leave out statements
and keyword arguments. Hand-written ones stand in scripts/mutations.toml, found by the name of
their function and a snippet, wherever the function is.

Mutants live in a temporary copy of src and tests: the working tree is never changed, and may be
worked in meanwhile. The tests of a mutant are those that mutations.toml maps to its file; without
an entry there, the file at the mirrored path (src/alignlab/a/b.py: tests/a/test_b.py) and the
test files that import the module. The quickest come first, up to the first failure, and slow tests
are left out. A mutant is
"killed" where a test fails, "survived" where all pass, "timeout" (which counts as killed) where a
file takes five times as long as without it. Mutants that change nothing that can be seen stand in
mutations.toml under [[equivalent]], with the reason, and do not count. Test files that fail
without a mutant are named and left out.

The exit code is 0 where at least --least of those that count are killed, else 1.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from mutators import Mutation, mutations

ROOT = Path(__file__).resolve().parents[1]
LISTED = ROOT / "scripts" / "mutations.toml"
FILES = (
    "src/alignlab/objectives/*.py",
    "src/alignlab/evaluation/metrics/*.py",
    "src/alignlab/verdicts/*.py",
    "src/alignlab/turns.py",
    "src/alignlab/feedback/model_judge.py",
    "src/alignlab/feedback/expected_score.py",
    "src/alignlab/feedback/pairwise.py",
    "src/alignlab/training/step.py",
    "src/alignlab/training/collate.py",
    "src/alignlab/training/schedule.py",
    "src/alignlab/training/regularise.py",
    "src/alignlab/models/logprobs.py",
)
"""Code whose faults would be silent: losses, figures, readers of verdicts, the training step."""
PRELOADED = (
    "pytest", "hypothesis", "numpy", "scipy.stats", "torch", "transformers", "pydantic", "openai",
    "rich.progress", "yaml", "typer.testing", "safetensors.torch", "sacrebleu",
    "sklearn.metrics", "peft",
)  # fmt: skip
"""Packages imported once; every mutant is tried in a fork of this process."""
QUIET = {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}  # fmt: skip
"""Settings under which a process can be forked after torch was imported."""
OPTIONS = (
    "-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception",
    "-m", "not slow and not gpu",
)  # fmt: skip
"""Options of pytest that make a fork quick; only its exit code is read."""
AGAIN = ("survived", "untested", "broken", "stale")
"""Outcomes that a new test or entry may change."""
NO_TESTS = 5
"""Exit code of pytest where all tests are left out."""
SLACK_S = 30.0
"""Seconds that the tests of a mutant may take at least."""


@dataclass
class Result:
    """Outcome of one mutant."""

    id: str
    name: str
    """Its place, file:line, or its name in the list."""
    kind: str
    outcome: str
    """killed, survived, timeout, equivalent, untested, stale or broken (its tests fail anyway)."""
    diff: str = ""
    reason: str = ""
    seconds: float = 0.0


def snapshot() -> Path:
    """Copy source and tests to a temporary folder, with links to all else that tests read."""
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    for path in ROOT.iterdir():
        if path.name in ("src", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, folder / path.name, ignore=ignored)
        elif path.name not in (".git", "runs", ".pytest_cache"):
            (folder / path.name).symlink_to(path)
    return folder


class Runner:
    """Runs the tests of mutants in forks, on a copy of source and tests."""

    def __init__(self, folder: Path, config: dict, extra: Sequence[str]) -> None:
        self.folder, self.src = folder, folder / "src"
        self._maps: dict[str, list[str]] = config.get("tests", {})
        self._extra = list(extra)
        self._texts = {
            path: path.read_text(encoding="utf-8") for path in (folder / "tests").rglob("test_*.py")
        }
        self._unchanged: dict[str, float | None] = {}
        self.broken: set[str] = set()
        """Test files that fail without a mutant."""

    def tests_of(self, file: str, globs: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the test files of a source file, with those that globs name."""
        if self._extra:
            return tuple(self._extra)
        mapped = [
            self.folder / test
            for pattern, tests in self._maps.items()
            if re.search(pattern, file)
            for test in tests
        ]
        named = [path for glob in globs for path in sorted(self.folder.glob(glob))]
        every = dict.fromkeys([*(mapped or self._nearby(file)), *named])
        return tuple(str(path.relative_to(self.folder)) for path in every if path.exists())

    def _nearby(self, file: str) -> list[Path]:
        """Return the test file at the mirrored path, and those that import the module."""
        inner = Path(file).relative_to("src/alignlab")
        mirrored = self.folder / "tests" / inner.with_name(f"test_{inner.name}")
        module = ".".join(("alignlab", *inner.with_suffix("").parts))
        parent, _, leaf = module.rpartition(".")
        imports = re.compile(
            rf"(?m)^\s*(?:from {re.escape(module)} import|import {re.escape(module)}\b"
            rf"|from {re.escape(parent)} import .*\b{leaf}\b)"
        )
        return [mirrored, *sorted(p for p, text in self._texts.items() if imports.search(text))]

    def run(self, mutation: Mutation, tests: tuple[str, ...]) -> tuple[str, float]:
        """Try one mutant.

        Returns:
            Its outcome, and the seconds that its tests took.
        """
        seconds = {test: self._without_mutants(test) for test in tests}
        usable = sorted((s, test) for test, s in seconds.items() if s is not None)
        if not usable:
            return ("broken" if self.broken.intersection(tests) else "untested"), 0.0
        file = self.folder / mutation.file
        source = file.read_bytes()
        limit = max(SLACK_S, 5 * sum(s for s, _ in usable))
        try:
            self._write(file, mutation.apply(source))
            code, spent = self._fork([test for _, test in usable], limit)
        finally:
            self._write(file, source)
        outcome = {None: "timeout", 0: "survived"}.get(code, "killed")
        return outcome, spent

    def _without_mutants(self, test: str) -> float | None:
        """Seconds that a test file takes, tried once; None where it fails or holds no test."""
        if test not in self._unchanged:
            code, seconds = self._fork([test], 1200.0)
            self._unchanged[test] = seconds if code == 0 else None
            if code not in (0, NO_TESTS):
                self.broken.add(test)
        return self._unchanged[test]

    def _write(self, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        # Compiled files are told apart by second and size, which a mutant may share.
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
            compiled.unlink()

    def _fork(self, tests: Sequence[str], limit_s: float) -> tuple[int | None, float]:
        """Run test files in a fork; the exit code of pytest, or None after the limit."""
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            self._in_child(tests)
        while time.monotonic() - begun < limit_s:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), time.monotonic() - begun
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None, time.monotonic() - begun

    def _in_child(self, tests: Sequence[str]) -> None:
        os.setpgid(0, 0)
        os.chdir(self.folder)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.path[:0] = [str(self.src), str(self.folder)]
        os.environ["PYTHONPATH"] = str(self.src)
        code = 3
        try:
            import pytest

            code = int(pytest.main([*OPTIONS, *tests]))
        finally:
            os._exit(code)


def seeded(files: Sequence[str], n: int, seed: int, root: Path) -> list[Mutation]:
    """Draw mutants of files given by glob; all of them where n is 0."""
    paths = [path for pattern in files for path in sorted(root.glob(pattern))]
    for pattern in files:
        if not list(root.glob(pattern)):
            print(f"no such file: {pattern}", file=sys.stderr)
    every = [m for path in dict.fromkeys(paths) for m in mutations(path, root)]
    if n and n < len(every):
        every = random.Random(seed).sample(every, n)
    return every


def listed(entry: dict, root: Path) -> Mutation | None:
    """Find a hand-written mutation in the source; None where it cannot be found, or is not one."""
    found = []
    for path in sorted((root / "src").rglob(entry.get("file", "*.py"))):
        source = path.read_bytes()
        if entry["function"].encode() not in source:
            continue
        offsets = [0]
        for line in source.splitlines(keepends=True):
            offsets.append(offsets[-1] + len(line))
        old = entry["old"].encode()
        within = entry.get("within", entry["old"]).encode()
        for start, end in _scopes(source, entry["function"], offsets):
            if source.count(within, start, end) == 1 and within.count(old) == 1:
                place = source.index(within, start, end) + within.index(old)
                line = source.count(b"\n", 0, place) + 1
                file = str(path.relative_to(root))
                name = f"{entry['name']}"
                found.append(Mutation(file, line, name, place, place + len(old), entry["new"]))
    return found[0] if len(found) == 1 else None


def _scopes(source: bytes, name: str, offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the bytes of every function or class of a name; of the whole file where it is empty."""
    if not name:
        yield 0, len(source)
    for node in ast.walk(ast.parse(source)):
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if named and node.name == name:
            start = offsets[node.lineno - 1] + node.col_offset
            yield start, offsets[node.end_lineno - 1] + node.end_col_offset


def equivalents(config: dict, root: Path) -> dict[str, str]:
    """Mutants that cannot be told from the code, by id as `--json` writes it, with the reason."""
    found = {}
    for entry in config.get("equivalent", ()):
        mutation = listed({"name": "", **entry}, root)
        if mutation is not None:
            found[f"{mutation.file}:{mutation.start}:{mutation.end}:{mutation.new}"] = entry[
                "reason"
            ]
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", nargs="+", default=FILES, help="globs of source files")
    parser.add_argument("--n", type=int, default=20, help="mutants drawn; 0 takes all")
    parser.add_argument("--seed", type=int, default=0, help="decides which are drawn")
    parser.add_argument("--list", action="store_true", help="run those of mutations.toml")
    parser.add_argument("--only", default="", help="with --list: a part of the name")
    parser.add_argument("--tests", nargs="+", default=(), help="test files, instead of the map's")
    parser.add_argument("--json", type=Path, help="file of results, written after every mutant")
    parser.add_argument("--resume", action="store_true", help="skip mutants that --json FILE holds")
    parser.add_argument("--again", action="store_true", help="try those of --json that survived")
    parser.add_argument("--least", type=float, default=0.95, help="least share that is killed")
    parser.add_argument("--show", action="store_true", help="print the mutants and run nothing")
    given = parser.parse_args()
    config = tomllib.loads(LISTED.read_text(encoding="utf-8")) if LISTED.exists() else {}
    kept = given.json and (given.resume or given.again)
    results = _results_of(given.json) if kept else []
    if given.again:
        results = [r for r in results if r.outcome not in AGAIN]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the copy is removed.
    folder = snapshot()
    try:
        chosen: list[tuple[str, Mutation | None, dict]]
        if given.list:
            entries = [e for e in config.get("mutation", ()) if given.only in e["name"]]
            chosen = [(entry["name"], listed(entry, folder), entry) for entry in entries]
        else:
            drawn = seeded(given.files, given.n, given.seed, folder)
            chosen = [(f"{m.file}:{m.line}", m, {}) for m in drawn]
        if given.show:
            for name, mutation, _ in chosen:
                shown = mutation and mutation.diff((folder / mutation.file).read_bytes())
                print(f"{name}\n{shown}")
            return 0
        _try_all(folder, chosen, config, given, results)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _summary(results, given.least)


def _try_all(
    folder: Path,
    chosen: list[tuple[str, Mutation | None, dict]],
    config: dict,
    given: argparse.Namespace,
    results: list[Result],
) -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    os.environ.setdefault("ALIGNLAB_SHARED", str(ROOT.parent / "shared"))
    same, done = equivalents(config, folder), {result.id for result in results}
    runner = Runner(folder, config, given.tests)
    for name, mutation, entry in chosen:
        key = entry.get("name") or (mutation.id if mutation else name)
        if key in done:
            continue
        result = _try(runner, key, name, mutation, entry, same)
        results.append(result)
        print(f"{result.outcome:10} {result.seconds:6.1f} s  {result.name}  [{result.kind}]")
        if result.outcome in ("survived", "stale", "untested"):
            print(result.diff or f"    {result.reason}")
        if result.reason and mutation is not None and result.outcome != "equivalent":
            print(f"    fail without a mutant: {result.reason}")
        sys.stdout.flush()
        if given.json:
            given.json.write_text(json.dumps([asdict(r) for r in results], indent=1))


def _try(
    runner: Runner,
    key: str,
    name: str,
    mutation: Mutation | None,
    entry: dict,
    same: dict[str, str],
) -> Result:
    if mutation is None:
        where = f"{entry['function']}: {entry['old']!r}"
        return Result(key, name, "listed", "stale", reason=f"not found once in a function {where}")
    diff = mutation.diff((runner.folder / mutation.file).read_bytes())
    place = f"{mutation.file}:{mutation.start}:{mutation.end}:{mutation.new}"
    if place in same:
        return Result(key, name, mutation.kind, "equivalent", diff, same[place])
    tests = runner.tests_of(mutation.file, entry.get("tests", ()))
    outcome, seconds = runner.run(mutation, tests)
    kind = mutation.kind if not entry else "listed"
    reason = " ".join(sorted(runner.broken.intersection(tests)))
    return Result(key, name, kind, outcome, diff, reason, round(seconds, 1))


def _results_of(path: Path) -> list[Result]:
    return [Result(**row) for row in json.loads(path.read_text())] if path.exists() else []


def _summary(results: Sequence[Result], least: float) -> int:
    counts = Counter(result.outcome for result in results)
    killed = counts["killed"] + counts["timeout"]
    counting = killed + counts["survived"] + counts["untested"]
    share = killed / counting if counting else 0.0
    shown = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
    print(f"\n{shown}: {killed} of {counting} killed ({share:.1%})")
    return 0 if counting and share >= least and not counts["stale"] and not counts["broken"] else 1


if __name__ == "__main__":
    sys.exit(main())
