"""Delete weights of finished stages on purpose; their other files stay under their checksums."""

from __future__ import annotations

from pathlib import Path

from alignlab.files import write_json
from alignlab.whole_files import read_mapping, seal


def release_weights(folder: Path) -> None:
    """Delete the weights of all finished stages below a folder, and note it in their status.

    A model whose answers are all written is needed no more. Killed in between, a second call ends
    the work of the first.
    """
    for file in sorted(folder.rglob("status.json")):
        status, problem = read_mapping(file)
        if problem or status.get("state") != "done":
            continue
        known = dict(status.get("files", {}))
        gone = {name: known.pop(name) for name in list(known) if name.endswith(".safetensors")}
        if gone:
            released = {**status.get("released", {}), **gone}
            write_json(file, seal({**status, "files": known, "released": released}))
        for weights in file.parent.rglob("*.safetensors"):
            weights.unlink()
