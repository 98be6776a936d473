"""Every form of data, model and objective that a call takes; what results show."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import alignlab as al
from alignlab import registry
from alignlab.api.inputs import data_spec, model_spec, objective_parts, source_spec
from alignlab.api.results import Result, StudyResult, Training
from tests.api.test_ten_lines import pairs

ROWS = pairs(6)


def _texts(data: al.Data) -> list[tuple[str, tuple[str, ...]]]:
    return [(g.prompt.text, tuple(r.text for r in g.responses)) for g in data.corpus.groups]


def _dataset() -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(ROWS)


def _frame() -> Any:
    return pytest.importorskip("pandas").DataFrame(ROWS)


def _file() -> str:
    Path("p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return "p.jsonl"


@pytest.mark.parametrize("make", [_file, lambda: ROWS, lambda: tuple(ROWS), _dataset, _frame,
                                  lambda: {"train": ROWS}, lambda: al.load_data(ROWS)])  # fmt: skip
def test_data_of_every_form_is_the_same(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = make()
    data = al.load_data(given) if not isinstance(given, al.Data) else given
    assert _texts(data) == [(r["prompt"], (r["chosen"], r["rejected"])) for r in ROWS]
    assert [row["prompt"] for row in data] == [row["prompt"] for row in ROWS]


def test_parts_of_a_dataset_dict_are_held_out():
    data = al.load_data({"train": ROWS[:4], "test": ROWS[4:]})
    assert (len(data.corpus.groups), len(data.corpus.test_groups)) == (4, 2)
    assert [row["split"] for row in data] == ["train"] * 4 + ["test"] * 2


def test_rows_are_known_by_their_content():
    assert data_spec(ROWS) == data_spec([dict(row) for row in ROWS])
    assert data_spec(ROWS) != data_spec(ROWS[::-1])
    again = al.load_data(data_spec(ROWS), limit=2)
    assert len(again.corpus.groups) == 2


def test_bad_records_are_refused_or_left_out_and_named():
    rows = [*ROWS, {"prompt": "x", "chosen": "y", "rejected": None}]
    with pytest.raises(al.BadInput, match=r"line 7, field 'rejected'"):
        al.load_data(rows)
    data = al.load_data(rows, bad="drop")
    assert len(data.corpus.groups) == 6
    assert len(data.bad_records) == 1
    assert "line 7" in data.bad_records[0]


def test_the_fault_of_a_file_of_which_nothing_can_be_read_is_named(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes("prompt,completion\n\u00e9,b\n".encode("latin-1"))
    with pytest.raises(al.BadInput, match="line 2: expected UTF-8 text, found byte 0xe9"):
        al.load_data(str(file))


def test_the_layout_of_rows_may_be_named():
    rows = [{"prompt": "Hi", "completion": "Yes.", "label": True}]
    assert al.load_data(rows, format="unpaired").corpus.labelled
    with pytest.raises(al.BadInput, match="field 'completion'"):
        al.load_data(rows, format="prompts")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "found no row"),
        ([1, 2], "row 1: expected a dict of columns, found int"),
        (["a", {"prompt": "b"}], "row 1: expected a dict"),
        (7, "found int"),
        ([{"prompt": "a", "chosen": 3, "rejected": "b"}], "^data, line 1, field 'chosen'"),
        ([{"colour": "a"}], "^data, line 1: .* in Python as format=NAME"),
        ({"prompt": "a"}, "expected parts"),
        ([{"prompt": object()}], "values that JSON can hold"),
        ("python_rows?id=r0", "load the same ones again"),
    ],
)
def test_what_holds_no_rows_is_refused(data, says):
    with pytest.raises(al.BadInput, match=says):
        al.load_data(data)


def test_models_of_every_form():
    checkpoint = al.Checkpoint("M1", "runs/x/stages/02-m1/model")
    assert model_spec(checkpoint) == checkpoint.path
    assert model_spec(checkpoint, named=True) == f"M1={checkpoint.path}"
    plain = al.Checkpoint("model", "runs/mine/stages/02-model/model")
    assert model_spec(plain, named=True) == f"mine={plain.path}"
    assert model_spec(Path("a/b")) == "a/b"
    with pytest.raises(al.BadInput, match="save it to a folder first"):
        model_spec(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [al.DPO(beta=0.3), {"name": "dpo", "beta": 0.3}, {"name": "dpo", "options": {"beta": 0.3}}],
)
def test_objectives_of_every_form(given):
    assert objective_parts(given) == ("dpo", {"beta": 0.3})


def test_objectives_by_name_by_class_and_of_ones_own():
    assert objective_parts("dpo") == objective_parts(al.DPO) == ("dpo", {})

    class Own:
        takes = None

        def __call__(self, given): ...

    own = Own()
    assert objective_parts(own) == (own, {})
    with pytest.raises(al.BadInput, match="expected a name in it"):
        objective_parts({"beta": 1})


@pytest.mark.parametrize(
    ("spec", "pairs_wanted", "source"),
    [
        ("openai:gpt-x@URL", False, "llm:openai:gpt-x@URL"),
        ("openai:gpt-x@URL", True, "pairwise:openai:gpt-x@URL"),
        ("llm,samples=3:openai:gpt-x@URL", True, "llm,samples=3:openai:gpt-x@URL"),
        ("sandbox:oracle?noise=1", False, "sandbox:oracle?noise=1"),
        ("sandbox:strong", False, "llm:sandbox:strong"),
        ("longer", True, "longer"),
    ],
)
def test_an_engine_becomes_the_judge_that_asks_it(spec, pairs_wanted, source):
    assert source_spec(spec, pairs=pairs_wanted) == source


def test_an_objective_defined_in_a_cell(monkeypatch):
    from alignlab.api import settings
    from alignlab.objectives.rollout_batch import RolloutLogps

    class Cell:
        __module__ = "__main__"

    class Rolling(Cell):
        takes = RolloutLogps

    keys = {option.key for option in settings.training(Cell()).options}
    assert {"lr", "pairs", "objective"} <= keys
    assert "max_prompt_tokens" in {o.key for o in settings.training(Rolling()).options}
    monkeypatch.setitem(registry._parts, ("objective", "cell"), Cell)
    assert {o.key for o in settings.training("cell").options} == keys
    assert objective_parts("cell") == ("cell", {})


def test_rows_without_pandas_are_dicts(monkeypatch):
    result = Result([{"a": 1, "b": "<x>"}], "title & more")
    assert list(result.to_frame()["a"]) == [1]
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert result.to_frame() == [{"a": 1, "b": "<x>"}]


def test_a_table_in_a_notebook_is_escaped_and_short():
    shown = Result([{"text": "<script>", "n": 1 / 3}] * 30, "a & b")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "a &amp; b" in shown
    assert "0.3333" in shown
    assert shown.count("<tr>") == 21
    assert "30 rows, 20 shown" in shown


@pytest.mark.parametrize(
    ("rows", "axes"),
    [
        ([{"step": 1, "loss": 2.0, "acc": 0.5}, {"step": 2, "loss": 1.0, "acc": 0.6}], 2),
        ([{"model": "a", "metric": "m", "value": 0.5, "low": 0.4, "high": 0.6}], 1),
        ([{"model": "a", "metric": "m", "value": 0.5, "low": None, "high": None}], 1),
        ([{"score": 1.0}, {"score": None}], 1),
    ],
)
def test_plots(rows, axes: int):
    made = Result(rows, "t").plot()
    assert len(made.axes) == axes
    assert made._repr_png_().startswith(b"\x89PNG")


def test_intervals_are_drawn_where_they_are():
    rows = [{"model": "a", "value": 0.5, "low": 0.4, "high": 0.6}, {"model": "b", "value": 0.2}]
    lines = Result(rows, "t").plot().axes[0].get_lines()
    assert [list(map(float, line.get_xdata())) for line in lines] == [[0.2], [0.4, 0.6], [0.5]]


def test_no_numbers_no_plot():
    with pytest.raises(al.BadInput, match="expected rows with numbers"):
        Result([{"a": "b", "ok": True}], "t").plot()


def test_a_wrong_thing_is_no_run():
    with pytest.raises(al.BadInput, match="expected a run"):
        al.report(Result([], "x"))
    assert issubclass(Training, Result)
    assert issubclass(StudyResult, Result)


def test_check_takes_what_run_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = al.check(
        "self_rewarding", "propose.n=7", model=al.load_model("sandbox:knows_all"), data="sandbox",
        out="o", iterations=1, objective=al.IPO(beta=0.2), sft={"lr": 1e-4},
    )  # fmt: skip
    assert "o" in str(plan)
    assert {row["part"] for row in plan} >= {"recipe", "preset", "seeds"}
    assert list(tmp_path.iterdir()) == []
