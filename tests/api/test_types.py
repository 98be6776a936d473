"""A user's script passes mypy --strict, and a wrong one does not."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

import alignlab as al
from alignlab import registry
from tests.conftest import ROOT

RIGHT = """
    import alignlab as al
    from alignlab import DPO, load_data

    data = load_data([{"prompt": "a", "chosen": "b", "rejected": "c"}], test_share=0.1)
    model = al.load_model("./my-model")
    run = al.train(DPO(beta=0.1), model, data, lr=1e-6)
    named = al.train({"name": "dpo", "beta": 0.1}, run.model, "prefs.jsonl", out="o")
    judge = al.judge("openai:gpt-x@URL")
    rated: list[float | None] = judge.rate(["a"], [["b", "c"]]).scores
    judged = al.judge(judge, al.generate(run, ["Hi"], n=4), to="groups")
    score = al.evaluate("mt_bench", [run.model, named], judge=judge, data="q.jsonl")
    study = al.run("self_rewarding", model=model, data=data)
    page = al.report(study, run.folder)
    print(al.__version__, score.rows[0]["value"], rated, judged.path, study.results, page)
"""
WRONG = """
    import alignlab as al

    al.DPO(bta=0.1)
    al.tain("dpo", "m", "d")
    al.train("dpo", 3, "d")
    al.load_model("m").generate("Hi", n="four")
"""


@pytest.mark.slow
def test_a_script_passes_strict_mypy(tmp_path: Path):
    pytest.importorskip("mypy")
    for name, script in (("right", RIGHT), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(script))
    # With the project's settings, types that `make lint` has just inferred are read again.
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"),
            "--cache-dir", str(ROOT / ".mypy_cache"), "right.py", "wrong.py",
        ],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert not done.stderr, done.stderr
    assert "right.py" not in done.stdout
    for line, what in ((4, "bta"), (5, "tain"), (6, "Argument 2"), (7, 'Argument "n"')):
        found = [each for each in done.stdout.splitlines() if f"wrong.py:{line}: error" in each]
        assert len(found) == 1, done.stdout
        assert what in found[0]


def test_names_of_the_package_are_those_of_its_objects():
    assert (Path(al.__file__).parent / "py.typed").exists()
    assert al.__version__
    for name in registry.names("objective"):
        place = registry.find("objective", name).place
        if place.module.startswith("alignlab."):
            assert getattr(al, place.name) is getattr(import_module(place.module), place.name)
            assert place.name in dir(al)
    for name in ("load_data", "load_model", "train", "generate", "judge", "reward", "evaluate",
                 "run", "compare", "report", "check"):  # fmt: skip
        assert callable(getattr(al, name))
        assert name in dir(al)
    assert not {name for name in dir(al) if name.startswith("_")}
    with pytest.raises(AttributeError, match="no attribute 'tain'"):
        _ = al.tain  # type: ignore[attr-defined]


def test_report_is_a_function_and_a_package():
    from alignlab.report import write_report

    assert callable(write_report)
    with pytest.raises(al.BadInput, match="expected a run directory"):
        al.report("none")
