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
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sides import Side

from alignlab.errors import BadInput, RunFailed

LEAST_S = 8.0
"""Seconds without which a section is not begun."""
FULL = {"right": "M", "dpo": "Llama-3.2-1B", "sft": "Qwen3-0.6B", "grpo": "Qwen2.5-0.5B",
        "judge": "Qwen2.5-0.5B", "sample": "Qwen2.5-0.5B"}  # fmt: skip
Row = dict[str, Any]


class Skipped(Exception):
    """Reason why a section has no rows."""


@dataclass
class Bench:
    """The run of the script: its sizes, its clock, and the process of the small sections."""

    toy: bool
    seed: int
    folder: Path
    ends: float
    """Time (monotonic) at which the budget is spent."""
    rounds: int
    vllm: str | None
    device: str = ""
    rates: dict[str, float] = field(default_factory=dict)
    """TFLOP/s of a large matrix product, by type."""
    parts: Side | None = None

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.ends - time.monotonic()

    @property
    def dtype(self) -> str:
        return "float32" if self.toy else "bfloat16"

    @property
    def lengths(self) -> str:
        return "tiny" if self.toy else "uf"

    def model(self, role: str) -> str:
        return str(self.folder / role)

    def name(self, role: str) -> str:
        return "tiny" if self.toy else FULL[role]

    def vocabulary(self, role: str) -> int:
        return 512 if self.toy else VOCABULARIES[FULL[role]]

    def ask(self, section: str) -> dict[str, Any]:
        """Answer of the process of the small sections, which is started again where it ended."""
        if self.parts is None:
            file = self.folder / "sizes.json"
            file.write_text(json.dumps(self.sizes()))
            self.parts = Side("gpu_parts.py", "parts", file, limit_s=max(self.left, 1))
            self.device = self.parts.ready["device"]
        try:
            return self.parts.turn(section, limit_s=max(self.left, 1))
        except RunFailed:
            self.parts.close()
            self.parts = None
            raise

    def sizes(self) -> dict[str, Any]:
        """Sizes of the small sections (`gpu_common.Sizes`)."""
        toy = self.toy
        return {
            "models": {role: self.name(role) for role in FULL},
            "vocabularies": {role: self.vocabulary(role) for role in FULL},
            "folder": str(self.folder),
            "lengths": self.lengths,
            "attention": [4, 2, 16] if toy else [32, 8, 64],
            "attention_groups": 4 if toy else 24,
            "prompts": 4 if toy else 32,
            "budget": 512 if toy else 8192,
            "judged": 2 if toy else 64,
            "rubric": 16 if toy else 300,
            "rounds": self.rounds,
            "seed": self.seed,
        }


VOCABULARIES = {"M": 32000, "Llama-3.2-1B": 128256, "Qwen3-0.6B": 151936, "Qwen2.5-0.5B": 151936}


def by_parts(name: str) -> Callable[[Bench], list[Row]]:
    """A section of `gpu_parts.py`."""

    def section(bench: Bench) -> list[Row]:
        found = bench.ask(name)
        if "skipped" in found:
            raise Skipped(found["skipped"])
        rows: list[Row] = found["rows"]
        return rows

    return section


def turns(
    bench: Bench, script: str, names: Sequence[str], work: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """What the sides say of their timed turns, as many as the budget has room for."""
    file = bench.folder / f"{names[0]}-{names[1]}.json"
    file.write_text(json.dumps(work))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    sides: list[Side] = []
    try:
        with ThreadPoolExecutor(len(names)) as pool:  # most of a start is importing
            starts = [
                pool.submit(
                    Side, script, name, file,
                    python=bench.vllm if name == "vllm" else None, limit_s=max(bench.left, 1),
                )
                for name in names
            ]  # fmt: skip
        sides.extend(start.result() for start in starts if start.exception() is None)
        for start in starts:
            start.result()  # raises what ended it
        took = 0.0
        for turn in range(bench.rounds + 1):
            if turn > 1 and bench.left < took + 2:
                break
            began = time.monotonic()
            for side in sides if turn % 2 else sides[::-1]:
                found[side.name].append(side.turn(limit_s=max(bench.left, 1)))
            took = time.monotonic() - began
    finally:
        for side in sides:
            side.close()
    if len(found[names[0]]) < 2:
        raise Skipped("the budget had no room for a timed turn")
    return found


def row_of(what: str, ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> Row:
    """A row of two sides' seconds per turn; the first turn warms up."""
    pairs = [(a["wall"], b["wall"]) for a, b in zip(ours[1:], theirs[1:], strict=True)]
    ratios = [b / a for a, b in pairs]
    return {
        "what": what,
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
        "n": len(ratios),
        "peak_mb": [max(t["peak_mb"] for t in side) for side in (ours, theirs)],
    }


def dpo(
    ours: str,
    theirs: str,
    k: int,
    least: float | None,
    *,
    budget: int = 16384,
    batch: int = 8,
    liger: bool = False,
) -> Callable[[Bench], list[Row]]:
    """A section of DPO steps (k = 2), or of the listwise loss next to TRL's on pairs (k = 4).

    Args:
        ours, theirs: sides of `train_side.py`.
        least: ratio to reach; None sets none.
        budget: our tokens of a pass.
        batch: TRL's pairs of a pass.
        liger: let TRL use Liger's loss.
    """

    def section(bench: Bench) -> list[Row]:
        if theirs == "trl":
            _needs("trl")
        if liger:
            _needs("liger_kernel")
        if ours == "flex" and bench.device == "cpu":
            raise Skipped("FlexAttention has no backward pass on a CPU")
        prompts = 4 if bench.toy else 64
        work = {
            "model": bench.model("dpo"),
            "data": bench.lengths,
            "k": k,
            "dtype": bench.dtype,
            "vocabulary": bench.vocabulary("dpo"),
            "prompts": prompts,
            "steps": bench.rounds + 1,
            "token_budget": 512 if bench.toy else budget,
            "trl_batch": 4 if bench.toy else batch,
            "trl_weights": "float32",
            "seed": bench.seed,
            "liger": liger,
        }
        found = turns(bench, "train_side.py", (ours, theirs), work)
        a, b = found[ours], found[theirs]
        with_liger = " with Liger" if liger else ""
        row = row_of(
            f"{bench.name('dpo')}, k={k}, {prompts} prompts, {ours} and {theirs}{with_liger}, s",
            a, b,
        )  # fmt: skip
        if k == 2 or theirs != "trl":  # of all steps: the first loss is log 2 on any path
            row["difference"] = max(abs(x["loss"] - y["loss"]) for x, y in zip(a, b, strict=True))
        rate = bench.rates.get(bench.dtype)
        if rate:
            used = statistics.median(t["flops"] / t["wall"] for t in a[1:]) / 1e12
            row["note"] = f"{used:.3g} TFLOP/s, {used / rate:.0%} of a large product's"
        if least is not None:
            row["bar"], row["held"] = f">= {least:g}x", row["ratio"] >= least
        return [row]

    return section


def grpo(bench: Bench, *, continuous: bool = False) -> list[Row]:
    """GRPO steps against TRL with transformers' generate."""
    _needs("trl")
    prompts, responses, tokens = (4, 2, 8) if bench.toy else (32, 8, 256)
    work = {
        "model": bench.model("grpo"),
        "objective": "grpo",
        "dtype": bench.dtype,
        "vocabulary": bench.vocabulary("grpo"),
        "prompts": prompts,
        "responses": responses,
        "max_tokens": tokens,
        "kl_coef": 0.0,
        "steps": bench.rounds + 1,
        "trl_batch": 4 if bench.toy else 32,
        "trl_weights": "float32",
        "seed": bench.seed,
        "continuous": continuous,
    }
    found = turns(bench, "rollout_side.py", ("alignlab", "trl"), work)
    ours = found["alignlab"]
    against = "TRL with continuous batching" if continuous else "TRL"
    row = row_of(
        f"GRPO, {bench.name('grpo')}, {prompts} x {responses} x {tokens}, {against}, s",
        ours, found["trl"],
    )  # fmt: skip
    sampling = statistics.median(t["sampling"] / t["wall"] for t in ours[1:])
    row["note"] = f"sampling is {sampling:.0%} of our step"
    return [{**row, "bar": ">= 3x", "held": row["ratio"] >= 3}]


def sampling(against: str) -> Callable[[Bench], list[Row]]:
    """A section of sampling K answers to prompts, against transformers' generate or vLLM."""

    def section(bench: Bench) -> list[Row]:
        if against == "vllm" and bench.vllm is None:
            raise Skipped("vLLM is not installed (--vllm names an interpreter that has it)")
        prompts, samples, tokens = (4, 2, 8) if bench.toy else (32, 8, 128)
        from random_llama import prompt_lengths

        work = {
            "model": bench.model("sample"),
            "dtype": bench.dtype,
            "lengths": prompt_lengths(prompts, seed=bench.seed),
            "vocabulary": bench.vocabulary("sample"),
            "samples": samples,
            "new_tokens": tokens,
            "temperature": 0.7,
            "top_p": 0.9,
            "seed": bench.seed,
            "texts": [],
        }
        found = turns(bench, "generate_side.py", ("alignlab", against), work)
        row = row_of(
            f"{bench.name('sample')}, {prompts} x {samples} x {tokens}, {against}, s",
            found["alignlab"], found[against],
        )  # fmt: skip
        rates = [t["tokens"] / t["wall"] for t in found["alignlab"][1:]]
        row["note"] = f"{statistics.median(rates):,.0f} tokens/s of ours"
        least = 5.0 if against == "transformers" else 1.5
        return [{**row, "bar": f">= {least:g}x", "held": row["ratio"] >= least}]

    return section


def _needs(package: str) -> None:
    if find_spec(package) is None:
        raise Skipped(f"{package} is not installed")


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
