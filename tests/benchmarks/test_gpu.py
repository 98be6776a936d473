"""benchmarks/gpu.py runs whole at toy size; how fast is never asked here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.benchmarks.running import benchmark
from tests.benchmarks.test_scripts import script
from tests.conftest import ROOT


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return script("gpu")


def bench(gpu: ModuleType, folder: Path, seconds: float, *, toy: bool = False) -> Any:
    ends = time.monotonic() + seconds
    return gpu.Bench(toy=toy, seed=0, folder=folder, ends=ends, rounds=1, vllm=None, device="cpu")


@pytest.mark.heavy
def test_toy(tmp_path: Path) -> None:
    """All of it but larger copies of its sections, on a CPU."""
    out = tmp_path / "toy.json"
    ran = benchmark("gpu.py", "--toy", "--out", str(out))
    assert ran.returncode == 0, ran.stderr[-2000:]
    report = json.loads(out.read_text())
    assert report["machine"]["torch"] == torch.__version__
    by_name = {entry["section"]: entry for entry in report["sections"]}
    absent = {n: e["skipped"] for n, e in by_name.items() if "skipped" in e}
    known = ("is not installed", "no backward pass on a CPU")
    assert {n: why for n, why in absent.items() if not any(k in why for k in known)} == {}
    assert {"right", "attention", "dpo-padded", "sampling", "sft", "judging"} <= {*by_name} - {
        *absent
    }
    assert [row["what"] for row in by_name["right"]["rows"] if not row["held"]] == []
    for name in by_name.keys() - absent.keys() - {"right"}:
        for row in by_name[name]["rows"]:
            assert "skipped" in row or row["n"] == 1, row
    (padded,) = by_name["dpo-padded"]["rows"]
    assert padded["difference"] < 1e-4
    (judged,) = by_name["judging"]["rows"]
    assert judged["difference"] < 1e-4
    assert "| right | packed log-probabilities in float32, nats |" in ran.stdout
    assert "Toy size: that it runs, no measurement." in ran.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_full_size_needs_a_gpu(tmp_path: Path) -> None:
    ran = benchmark("gpu.py", "--out", str(tmp_path / "gpu.json"))
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1] == ("gpu: expected a GPU, found cpu; --toy runs at toy size")
    assert not (tmp_path / "gpu.json").exists()


def test_a_row_leaves_out_the_first_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    ours = [{"wall": w, "peak_mb": m} for w, m in ((9.0, 5), (1.0, 7), (2.0, 6), (1.0, 6))]
    theirs = [{"wall": w, "peak_mb": 8} for w in (1.0, 3.0, 4.0, 8.0)]
    row = script("gpu_sides").row_of("a step", ours, theirs)
    assert (row["ours"], row["theirs"], row["n"]) == (1.0, 4.0, 3)
    assert (row["ratio"], row["range"], row["peak_mb"]) == (3.0, [2.0, 8.0], [7, 8])


def test_a_cut_keeps_the_sections_before(gpu: ModuleType, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out.json"
    report: dict[str, Any] = {"sections": []}
    one = bench(gpu, tmp_path, 100)

    def first(given: Any) -> list[dict[str, Any]]:
        given.ends = 0.0
        return [{"what": "a", "ratio": 2.0, "n": 5}]

    def never(given: Any) -> list[dict[str, Any]]:
        raise AssertionError("no time was left")

    monkeypatch.setattr(gpu, "SECTIONS", {"first": first, "second": never})
    gpu.run(one, ["first", "second"], report, out)
    found = json.loads(out.read_text())["sections"]
    assert found[0]["rows"] == [{"what": "a", "ratio": 2.0, "n": 5}]
    assert found[1]["skipped"] == "no time was left; --sections runs it alone"


def test_a_side_that_ends_is_a_reason(gpu: ModuleType, tmp_path: Path, monkeypatch) -> None:
    def fails(given: Any) -> list[dict[str, Any]]:
        raise gpu.RunFailed("the trl side ended:\nTraceback\nImportError: no trl")

    monkeypatch.setattr(gpu, "SECTIONS", {"dpo": fails})
    report: dict[str, Any] = {"sections": []}
    gpu.run(bench(gpu, tmp_path, 100), ["dpo"], report, tmp_path / "out.json")
    assert report["sections"][0]["skipped"] == "the trl side ended: ImportError: no trl"


def test_the_table(gpu: ModuleType) -> None:
    row = {
        "what": "a step, s", "ours": 0.5, "theirs": 1.25, "ratio": 2.5, "range": [2.0, 3.14159],
        "n": 5, "peak_mb": [1024.4, 2048.0], "difference": 1.5e-7, "bar": ">= 3x", "held": False,
    }  # fmt: skip
    sections = [
        {"section": "dpo-2", "rows": [row]},
        {"section": "grpo", "skipped": "trl is not installed"},
    ]
    machine = {"card": "a card, 80 GiB", "torch": "2.11", "tflops": {"bfloat16": 798.2}}
    table = gpu.markdown({"machine": machine, "toy": False, "seed": 3, "sections": sections})
    lines = table.splitlines()
    assert lines[0] == (
        "card a card, 80 GiB; torch 2.11; large products bfloat16 798 TFLOP/s; seed 3; medians "
        "over n alternated rounds after a warm-up."
    )
    assert lines[4] == (
        "| dpo-2 | a step, s | 0.5 | 1.25 | 2.50x | 2-3.14 | 5 | 1,024 / 2,048 | 1.5e-07 | "
        ">= 3x: missed |  |"
    )
    assert lines[5].endswith("| not run: trl is not installed |")
    assert {line.count("|") for line in lines[2:]} == {12}
