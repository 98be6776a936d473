"""Convert arguments to specs: data in memory, loaded models, results, objectives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from alignlab import registry
from alignlab.api.results import FileResult, StudyResult, Training
from alignlab.errors import BadInput, unknown_name
from alignlab.types import Checkpoint

if TYPE_CHECKING:
    from alignlab.api.data import Data
    from alignlab.api.judging import Judge
    from alignlab.api.models import Model
    from alignlab.data.read import Faults
    from alignlab.data.rows import Row
    from alignlab.types import Corpus

MEMORY = "python_rows"
"""Data source of rows passed from Python: `python_rows?id=DIGEST`."""

_rows: dict[str, tuple[Row, ...]] = {}


class Table(Protocol):
    """Rows with named columns: a `datasets.Dataset`."""

    @property
    def column_names(self) -> Any:
        """Names of the columns."""

    def __iter__(self) -> Any: ...


PathOrSpec: TypeAlias = str | Path
DataLike: TypeAlias = (
    "PathOrSpec | Sequence[Mapping[str, Any]] | Sequence[str] | Mapping[str, Any] | Table | Data"
    " | FileResult"
)
"""Path or spec, rows, prompts, a `datasets.Dataset` or `DatasetDict`, or a result."""
ModelLike: TypeAlias = "PathOrSpec | Model | Checkpoint | Training | StudyResult"
"""Folder, hub id or engine, a loaded model, a checkpoint, or a training's result."""
JudgeLike: TypeAlias = "str | Judge | Training | Checkpoint | Callable[..., Any]"
"""Spec of a feedback source or an engine, a judge, a trained reward model, or a function of
response, prompt and reference."""


def data_spec(data: DataLike) -> str:
    """Return the spec of data; rows in memory are registered under the digest of their content.

    Raises:
        BadInput: the data holds no rows.
    """
    if isinstance(data, str | Path):
        return str(data)
    spec = getattr(data, "spec", None)
    if isinstance(spec, str):
        return spec
    if isinstance(data, FileResult):
        return str(data.path)
    return _kept(_parts_of(data))


class DataFile(NamedTuple):
    """Data file for readers that take only a path."""

    path: Path
    text: str | None
    """Content to write first; None if the file exists."""


def data_file(data: DataLike, folder: Path) -> DataFile:
    """Return the file of data; rows in memory are named by their content."""
    spec = data_spec(data)
    rows = _rows.get(spec.rpartition("id=")[2])
    if rows is None:
        return DataFile(Path(spec), None)
    lines = (json.dumps(dict(row.values), ensure_ascii=False) + "\n" for row in rows)
    return DataFile(folder / f"{spec.rpartition('id=')[2]}.jsonl", "".join(lines))


def model_spec(model: ModelLike, *, named: bool = False) -> str:
    """Return the spec of a model.

    Args:
        named: prefix the model's name in figures, if it has one.

    Raises:
        BadInput: the value names no model on disk or on a server.
    """
    if isinstance(model, str | Path):
        return str(model)
    if isinstance(model, StudyResult):
        # The same choice as of the run's folder on the command line.
        return f"{model.folder.name}={model.folder}" if named else str(model.folder)
    if isinstance(model, Training):
        name = model.folder.name
        return f"{name}={model.model.path}" if named else model.model.path
    if isinstance(model, Checkpoint):
        return f"{_name_of(model)}={model.path}" if named else model.path
    what = "a model (folder, hub id, engine, al.load_model(...), Checkpoint or a training's result)"
    return _own_spec(model, what, "; save it to a folder first")


def _own_spec(given: Any, what: str, advice: str = "") -> str:
    """Return the spec that an object of the API carries.

    Raises:
        BadInput: another object, which is named with what was expected.
    """
    spec = getattr(given, "spec", None)
    if isinstance(spec, str):
        return spec
    raise BadInput(f"expected {what}, found {type(given).__name__}{advice}")


def _name_of(model: Checkpoint) -> str:
    """Return a checkpoint's name in figures; a training's is named after its run directory."""
    parts = Path(model.path).parts
    if model.name == "model" and "stages" in parts[1:]:
        return parts[parts.index("stages") - 1]
    return model.name.replace("/", "-")


def judge_spec(judge: JudgeLike | None) -> str:
    """Return the spec of a judge or reward; a trained reward model becomes a feedback source."""
    if judge is None or isinstance(judge, str):
        return judge or ""
    if isinstance(judge, Training | Checkpoint):
        return f"reward_model:{model_spec(judge)}"
    if callable(judge):
        from alignlab.feedback.python_function import memory_spec

        return memory_spec(judge)
    what = "a judge or reward (spec, al.judge(...), function, Checkpoint or a training's result)"
    return _own_spec(judge, what)


def source_spec(spec: str, *, pairs: bool = False) -> str:
    """Return the spec of a feedback source; an engine becomes the judge that queries it.

    Raises:
        BadInput: a name that is neither a feedback source nor an engine.
    """
    head = spec.partition(":")[0].partition(",")[0].partition("?")[0]
    sources, engines = registry.names("feedback"), registry.names("engine")
    is_source = head in sources
    if head == "sandbox":  # both: the oracle scores, the teachers are asked
        is_source = spec.partition(":")[2].startswith("oracle")
    if is_source:
        return spec
    if head not in engines:
        raise unknown_name("feedback", head, {*sources, *engines})
    return f"{'pairwise' if pairs else 'llm'}:{spec}"


def objective_parts(objective: Any) -> tuple[Any, dict[str, Any]]:
    """Split an objective into its name and options; an unregistered one stays an instance.

    Args:
        objective: a name, `{"name": ..., OPTION: ...}`, an instance, or a class.

    Raises:
        BadInput: no such objective.
    """
    if isinstance(objective, str):
        registry.find("objective", objective)
        return objective, {}
    if isinstance(objective, Mapping):
        given = dict(objective)
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise BadInput(f"objective: expected a name in it, found {dict(objective)!r}")
        registry.find("objective", name)
        options = given.pop("options", {})
        return name, {**options, **given}
    made: Any = objective() if isinstance(objective, type) else objective
    if not (callable(made) and (hasattr(made, "max_responses") or hasattr(made, "takes"))):
        raise BadInput(
            'objective: expected a name, al.DPO(beta=0.1), or {"name": "dpo", "beta": 0.1}, '
            f"found {made!r}"
        )
    for name in registry.names("objective"):
        part = registry.find("objective", name)
        if part.place == (type(made).__module__, type(made).__name__) and hasattr(
            made, "__dataclass_fields__"
        ):
            default: Any = type(made)()
            return name, {k: v for k, v in asdict(made).items() if v != getattr(default, k)}
    return made, {}


def _parts_of(data: Any) -> list[tuple[Mapping[str, Any], bool]]:
    """Split rows into training and held-out ones; parts other than `train` are held out."""
    if isinstance(data, Mapping):
        if not all(
            hasattr(part, "__iter__") and not isinstance(part, str) for part in data.values()
        ):
            raise BadInput("data: expected parts such as {'train': rows}, found one row")
        return [(row, name != "train") for name, part in data.items() for row, _ in _parts_of(part)]
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a pandas DataFrame
        data = data.to_dict("records")
    if not isinstance(data, Iterable):
        raise BadInput(f"data: expected a path, rows or a Dataset, found {type(data).__name__}")
    rows = list(data)
    if rows and all(isinstance(row, str) for row in rows):
        rows = [{"prompt": row} for row in rows]
    wrong = next((i for i, row in enumerate(rows, 1) if not isinstance(row, Mapping)), None)
    if wrong or not rows:
        found = type(rows[wrong - 1]).__name__ if wrong else "no row"
        raise BadInput(f"data, row {wrong or 1}: expected a dict of columns, found {found}")
    return [(row, False) for row in rows]


def _kept(parts: Sequence[tuple[Mapping[str, Any], bool]]) -> str:
    from alignlab.data.rows import Row

    rows = tuple(
        Row("data", number, dict(values), held_out=held_out)
        for number, (values, held_out) in enumerate(parts, start=1)
    )
    try:
        text = json.dumps([(dict(r.values), r.held_out) for r in rows], sort_keys=True)
    except (TypeError, ValueError) as error:
        raise BadInput(f"data: expected values that JSON can hold, found {error}") from None
    digest = "r" + hashlib.sha256(text.encode()).hexdigest()[:16]  # no number to YAML
    _rows[digest] = rows
    return f"{MEMORY}?id={digest}"


def load_memory(rest: str, faults: Faults | None = None) -> Corpus:
    """Return the rows passed from Python."""
    from alignlab.data.formats import detect, faults_of
    from alignlab.data.options import split_rest
    from alignlab.data.read import RawTable as ReadTable

    raw = dict(split_rest(f"{MEMORY}{rest}")[1])
    digest = str(raw.pop("id", ""))
    if digest not in _rows:
        raise BadInput(
            f"data {MEMORY}{rest}: expected rows given in this session; load the same ones again"
        )
    table = ReadTable(MEMORY, _rows[digest], {f"{MEMORY} {digest}": digest})
    named = str(raw.pop("format", ""))
    layout = registry.get("data", named) if named else detect(table)
    corpus: Corpus = layout.from_table(table, raw, faults or faults_of(raw))
    return corpus


registry.register("data", MEMORY)(load_memory)
