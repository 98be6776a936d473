"""Everything that is to be known on one GPU, in one script and at most eight minutes.

    python benchmarks/gpu.py --out gpu.json [--budget 480] [--sections right dpo-2 ...]
    python benchmarks/gpu.py --toy --out toy.json      # toy size, on a CPU too: does it run?

Random models of published shapes, random tokens, no network. Both sides of a comparison are
processes of their own and take turns, the first turn warms up; a ratio is the median over the other
turns of their seconds over ours, with its range. Memory is the peak that torch allocated on the
GPU, the model's included (on a CPU: above the loaded model). What cannot run is left out with its
reason. The JSON is written after every section; --budget cuts what would take longer, and the
sections that it left out are named.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpu_sides import Bench, Row, Skipped, dpo, grpo, sampling

from alignlab.errors import BadInput, RunFailed

LEAST_S = 8.0
"""Seconds without which a section is not begun."""


def by_parts(name: str) -> Callable[[Bench], list[Row]]:
    """A section of `gpu_parts.py`."""

    def section(bench: Bench) -> list[Row]:
        found = bench.ask(name)
        if "skipped" in found:
            raise Skipped(found["skipped"])
        rows: list[Row] = found["rows"]
        return rows

    return section


SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "right": by_parts("right"),
    "attention": by_parts("attention"),
    "dpo-2": dpo("alignlab", "trl", 2, 1.5),
    "dpo-padded": dpo("alignlab", "padded", 2, None),
    "dpo-flex": dpo("flex", "tiles", 2, 1.2),
    "dpo-4": dpo("alignlab", "trl", 4, 3.0),
    "grpo": grpo,
    "sampling": sampling("transformers"),
    "sampling-vllm": sampling("vllm"),
    "sft": by_parts("sft"),
    "judging": by_parts("judging"),
    "adapters": by_parts("adapters"),
    "dpo-2-large": dpo("alignlab", "trl", 2, None, budget=65536, batch=16),
    "dpo-2-liger": dpo("alignlab", "trl", 2, None, liger=True),
    "grpo-continuous": lambda bench: grpo(bench, continuous=True),
}
"""Name -> section, the ones that matter most first."""
IN_TOY = [n for n in SECTIONS if n not in ("dpo-4", "dpo-2-large", "grpo-continuous")]
"""Sections at toy size; the others run the same code as one of them."""


def run(bench: Bench, names: Sequence[str], report: dict[str, Any], out: Path) -> None:
    """Run sections; the report is written after each."""
    for name in names:
        began = time.monotonic()
        entry: dict[str, Any] = {"section": name}
        try:
            if bench.left < LEAST_S:
                raise Skipped("no time was left; --sections runs it alone")
            entry["rows"] = SECTIONS[name](bench)
            if bench.toy and name != "right":  # bars are of full size
                for row in entry["rows"]:
                    row.pop("bar", None)
                    row.pop("held", None)
        except Skipped as reason:
            entry["skipped"] = str(reason)
        except RunFailed as error:
            lines = str(error).strip().splitlines()
            entry["skipped"] = f"{lines[0]} {lines[-1] if len(lines) > 1 else ''}".strip()
        entry["seconds"] = round(time.monotonic() - began, 1)
        report["sections"].append(entry)
        out.write_text(json.dumps(report, indent=1) + "\n")
        print(f"{name}: {entry['seconds']} s {entry.get('skipped', '')}".rstrip(), flush=True)


def start(bench: Bench) -> dict[str, Any]:
    """The machine's row, with the models of all sections written."""
    (found,) = bench.ask("machine")["rows"]
    if not bench.toy and bench.device != "cuda":
        raise BadInput(f"gpu: expected a GPU, found {bench.device}; --toy runs at toy size")
    bench.rates = found["tflops"]
    if "skipped" in (written := bench.ask("models")):
        raise RunFailed(f"the models could not be written: {written['skipped']}")
    machine: dict[str, Any] = found
    return machine


def markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    machine = report["machine"]
    known = [
        f"{name} {machine[name]}"
        for name in ("card", "driver", "cuda", "python", "torch", "transformers", "trl", "peft",
                     "bitsandbytes", "vllm", "triton", "liger-kernel")
        if name in machine
    ]  # fmt: skip
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in machine["tflops"].items())
    toy = "Toy size: that it runs, no measurement. " if report["toy"] else ""
    head = ("section", "measured", "ours", "theirs", "ratio", "range", "n",
            "peak MB, ours / theirs", "difference", "bar", "note")  # fmt: skip
    lines = [
        f"{toy}{'; '.join(known)}; large products {rates} TFLOP/s; seed {report['seed']}; "
        "medians over n alternated rounds after a warm-up.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for entry in report["sections"]:
        rows = entry.get("rows") or [{"what": "", "skipped": entry.get("skipped", "no rows")}]
        for row in rows:
            lines.append("| " + " | ".join([entry["section"], *_cells(row)]) + " |")
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    """The cells of a row; nothing where nothing was measured."""

    def number(value: Any) -> str:
        if not isinstance(value, int | float):
            return ""
        return f"{value:,.0f}" if abs(value) >= 100 or isinstance(value, int) else f"{value:.3g}"

    peaks = [number(v) for v in row.get("peak_mb", [])]
    bar = row.get("bar", "")
    if "held" in row:
        bar += ": held" if row["held"] else ": missed"
    return [
        row["what"],
        number(row.get("ours")),
        number(row.get("theirs")),
        f"{row['ratio']:.2f}x" if "ratio" in row else "",
        "-".join(number(v) for v in row.get("range", [])),
        number(row.get("n")),
        " / ".join(filter(None, peaks)),
        f"{row['difference']:.1e}" if "difference" in row else "",
        bar,
        f"not run: {row['skipped']}" if "skipped" in row else row.get("note", ""),
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--budget", type=float, default=480, help="seconds of the whole script")
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), help="these alone")
    parser.add_argument("--rounds", type=int, help="timed rounds of a comparison (5; toy 1)")
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--toy", action="store_true", help="toy size: a check that everything runs")
    given = parser.parse_args(arguments)
    if given.rounds is not None and given.rounds < 1:
        raise BadInput(f"--rounds: expected at least 1, found {given.rounds}")
    if given.vllm and not Path(given.vllm).is_file():
        raise BadInput(f"--vllm: expected a Python interpreter, found {given.vllm!r}")
    return given


def main() -> None:
    given = parse()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        # One card: transformers' trainer would split its batches over all that it sees.
        seen = os.environ.get("CUDA_VISIBLE_DEVICES") or "0"
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[0]
        os.environ["HF_HOME"] = os.environ["ALIGNLAB_CACHE"] = name
        vllm = given.vllm
        if vllm is None and find_spec("vllm"):
            vllm = sys.executable
        bench = Bench(
            toy=given.toy,
            seed=given.seed,
            folder=Path(name),
            ends=began + given.budget,
            rounds=given.rounds or (1 if given.toy else 5),
            vllm=vllm,
        )
        report: dict[str, Any] = {"toy": given.toy, "seed": given.seed, "budget_s": given.budget}
        try:
            report["machine"] = start(bench)
            report["sections"] = []
            names = given.sections or (IN_TOY if given.toy else list(SECTIONS))
            run(bench, names, report, given.out)
        finally:
            if bench.parts is not None:
                bench.parts.close()
    print(markdown(report))
    print(f"{time.monotonic() - began:.0f} s; {given.out}")


if __name__ == "__main__":
    try:
        main()
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(2)
