"""Locate a model's folder by spec.

A spec is a folder in Hugging Face format, a run directory (its final model), a GGUF file
(`model.gguf`, or `OWNER/REPOSITORY/FILE.gguf` on the hub), `package:NAME` (the model inside an
installed package), or a hub id.
"""

from __future__ import annotations

from pathlib import Path

from alignlab.errors import BadInput, first_line
from alignlab.models.gguf import converted
from alignlab.run_models import MODEL_FILES, final_model, is_run

HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py", "README.md")
"""Patterns of the files that a hub model is loaded from."""
HUB_SMALL_FILES = HUB_FILES[1:]
"""The same without weights."""
PACKAGE = "package:"
"""Prefix of the spec of a model inside an installed package."""


def locate(spec: str | Path, files: tuple[str, ...] = HUB_FILES) -> Path:
    """Return the folder of a model or adapter; convert GGUF files and download hub models.

    Args:
        spec: folder, run directory, GGUF file, `package:NAME` or hub id.
        files: patterns of the files to download from a hub.

    Raises:
        BadInput: no such model, or a run directory or package with several.
    """
    text, path = str(spec), Path(spec)
    if text.startswith(PACKAGE):
        return packaged(text.removeprefix(PACKAGE))
    if path.is_dir():
        return _folder(path)
    if text.startswith("local:"):
        raise BadInput(
            f"{text}: expected a model folder or a hub id, found the spec of an engine; "
            f"write {text.removeprefix('local:')}"
        )
    if path.suffix.lower() == ".gguf":
        return converted(path if path.is_file() else _hub_file(text))
    if path.is_file():
        raise BadInput(f"{path}: expected a model folder or a GGUF file, found another file")
    if path.is_absolute() or text.startswith(".") or text.count("/") > 1:
        raise BadInput(f"{text}: expected a model folder or a hub id, found no such folder")
    return _snapshot(text, files)


def short_name(spec: str | Path, folder: Path) -> str:
    """Return a model's name in records: the name of the folder given, or the spec."""
    given = Path(spec)
    return (given.name or folder.name) if given.is_dir() else str(spec)


def packaged(name: str) -> Path:
    """Return the folder of the one model inside an installed package; no code of it is run.

    Raises:
        BadInput: the package is not installed, or holds no model or several.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution(name)
    except (PackageNotFoundError, ValueError):
        raise BadInput(
            f"{PACKAGE}{name}: expected an installed package, found none of this name"
        ) from None
    files = [Path(str(found.locate_file(file))) for file in found.files or ()]
    models = [file for file in files if file.suffix.lower() == ".gguf" and file.is_file()]
    models += [
        file.parent
        for file in files
        if file.name == "config.json" and any(file.parent.glob("*.safetensors"))
    ]
    if len(models) != 1:
        names = ", ".join(sorted(str(m) for m in models)) or "none"
        raise BadInput(f"{PACKAGE}{name}: expected one model in the package, found {names}")
    return converted(models[0]) if models[0].is_file() else models[0]


def _folder(folder: Path) -> Path:
    """Return a model's folder, given itself, a stage of a run, or a run directory."""
    stage = folder / "model"
    if (folder / "status.json").is_file() and any((stage / name).is_file() for name in MODEL_FILES):
        return stage
    if any((folder / name).is_file() for name in MODEL_FILES):
        return folder
    if is_run(folder):
        return final_model(folder)
    files = sorted(folder.glob("*.gguf"))
    if files:
        raise BadInput(f"{folder}: expected a model folder, found GGUF files; name one: {files[0]}")
    raise BadInput(f"{folder}: expected a model folder with config.json, found none")


def _snapshot(spec: str, files: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(spec, allow_patterns=list(files)))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise BadInput(
            f"{spec}: expected a model folder or a hub id that can be reached, "
            f"found: {_hub_problem(error)}"
        ) from error


def _hub_file(spec: str) -> Path:
    """Download one GGUF file of a hub repository: OWNER/REPOSITORY/FILE.gguf."""
    parts = spec.split("/")
    if len(parts) < 3 or not all(parts) or parts[0] in (".", "..", "~"):
        raise BadInput(f"{spec}: expected a GGUF file, found no such file")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download("/".join(parts[:2]), "/".join(parts[2:])))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise BadInput(
            f"{spec}: expected a GGUF file, or OWNER/REPOSITORY/FILE.gguf on a hub that can be "
            f"reached, found: {_hub_problem(error)}"
        ) from error


def _hub_problem(error: Exception) -> str:
    """Return one line on the reason why the hub gave no files, with the remedy."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "a gated repository; accept its terms on the hub and log in (hf auth login)"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one (hf auth login)"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return "no such folder, nothing in the hub's cache, and the hub cannot be reached"
    return first_line(error)
