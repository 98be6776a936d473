"""Export a model: merged weights, tokenizer, generation settings and a model card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
import transformers
import yaml

from alignlab.context import resolve_model
from alignlab.errors import BadInput
from alignlab.files import write_text
from alignlab.models import chat_template as templates
from alignlab.models.adapters import is_reward_model
from alignlab.models.heads import load_reward_model
from alignlab.models.load import (
    LanguageModel,
    base_of_adapter,
    classifier_in,
    is_adapter,
    load,
    save,
)
from alignlab.models.locate import HUB_SMALL_FILES, PACKAGE, locate, short_name
from alignlab.models.quant import is_quantised
from alignlab.models.weight_files import first_not_finite
from alignlab.report.lineage import Lineage, lineage_of
from alignlab.report.model_card import ExportedModel, model_card
from alignlab.report.run_data import RunData, read_run
from alignlab.training.conditioning import FILE as REWARD_BINS


@dataclass(frozen=True)
class Exported:
    """Exported folder."""

    folder: str
    dtype: str
    base: str
    """Spec of the base model; empty where no record names it."""
    licence: str
    """Licence in the card; empty where it is unknown."""

    def __str__(self) -> str:
        licence = self.licence or "unknown (give licence=...)"
        return f"model: {self.folder} ({self.dtype}, licence {licence})"


def export(
    model: str,
    out: str | Path,
    *,
    dtype: str = "input",
    adapter: str = "",
    chat_template: str = "",
    licence: str = "",
    evaluations: Sequence[str] = (),
) -> Exported:
    """Implement `alignlab.export` for a model given by spec.

    Raises:
        BadInput: no such model, a folder in the way, or evaluations of other models.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target}: expected a new or empty folder, found one with files")
    if target.exists() and target.samefile(Path.cwd()):
        raise BadInput(f"{target}: expected a new folder, found the current one, which is replaced")
    spec = resolve_model(model).path
    folder = locate(spec)
    runs = [_evaluation(Path(run), _name(model, folder)) for run in evaluations]
    lineage = _lineage(spec, folder)
    # Its bars are for loading from a network.
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    lm = _opened(folder, spec, adapter or None, chat_template or None)
    if is_quantised(lm.model):
        raise BadInput(f"{model}: expected plain weights, found quantised ones")
    if (weight := first_not_finite(lm.model)) is not None:
        raise BadInput(f"{model}: expected finite weights, found NaN or infinite ones in {weight}")
    kind = None if dtype == "input" else dtype
    save(lm, target, dtype=kind or lm.stored)
    if (folder / REWARD_BINS).is_file():
        shutil.copyfile(folder / REWARD_BINS, target / REWARD_BINS)
    known = licence or licence_of(lineage.base)
    facts = ExportedModel(
        name=_name(model, folder),
        kind=lm.model.config.model_type,
        parameters=sum(p.numel() for p in lm.model.parameters()),
        dtype=kind or _type_name(lm.stored or lm.model.dtype),
        end_of_turn=lm.tokenizer.convert_ids_to_tokens(templates.end_of_turn(lm)),
        licence=known,
        is_reward_model=is_reward_model(lm.model),
    )
    write_text(target / "README.md", model_card(facts, lineage, evaluations=runs))
    return Exported(str(target), facts.dtype, lineage.base, known)


def licence_of(base: str) -> str:
    """Return the licence that a model's README or package names; empty where none does."""
    if not base:
        return ""
    if base.startswith(PACKAGE):
        with suppress(metadata.PackageNotFoundError):
            found = metadata.metadata(base.removeprefix(PACKAGE))
            for field in ("License-Expression", "License"):
                if field in found and "\n" not in found[field].strip():
                    return str(found[field]).strip().lower()
    with suppress(BadInput, OSError, yaml.YAMLError):
        readme = locate(base, files=HUB_SMALL_FILES) / "README.md"
        _, start, rest = readme.read_text(encoding="utf-8").partition("---\n")
        fields = yaml.safe_load(rest.partition("\n---")[0]) if start else {}
        if isinstance(fields, dict):
            named = fields.get("license")
            return str(fields.get("license_name", named) if named == "other" else named or "")
    return ""


def _evaluation(run: Path, name: str) -> RunData:
    """Read a run with figures of the model.

    Raises:
        BadInput: no such run, or none of its figures is of a model of this name.
    """
    found = read_run(run)
    models = sorted({row.model for row in found.results})
    if name not in models:
        raise BadInput(
            f"{run}: expected figures of {name!r}, found those of {', '.join(models) or 'none'}; "
            "say NAME=MODEL in `alignlab evaluate`"
        )
    return found


def _lineage(spec: str, folder: Path) -> Lineage:
    """Return a model's trainings; one without a run is its own base."""
    found = lineage_of(folder)
    if found.base or found.steps:
        return found
    return Lineage(base_of_adapter(folder) if is_adapter(folder) else spec)


def _opened(
    folder: Path, spec: str, adapter: str | None, chat_template: str | None
) -> LanguageModel:
    """Load a decoder or a reward model on the CPU, in the type of its files."""
    if classifier_in(folder):
        if adapter:
            raise BadInput("export: adapter: has no effect on a reward model; leave it out")
        return load_reward_model(spec, device="cpu", chat_template=chat_template)
    return load(spec, device="cpu", adapter=adapter, chat_template=chat_template)


def _name(model: str, folder: Path) -> str:
    name = Path(short_name(model, folder)).name
    return name.removeprefix(PACKAGE).removesuffix(".gguf")


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
