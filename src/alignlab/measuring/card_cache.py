"""Store of judge cards' verdicts by the judge's identity, so that a study finds its judge's card.

The identity is the digest of the spec, without options of speed, and of a local model's files: the
small ones whole, of each weight file its size and both ends. A verdict is for the judge on the data
of its card; another prompt or engine is another judge.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from alignlab.errors import BadInput
from alignlab.files import cache_folder, make_folder, read_json, write_json
from alignlab.records import fingerprint

CARD = "card.json"
SPEED = ("dtype", "batch_size", "name", "device")
"""Engine options that are no part of a judge's identity."""
_ENDS = 65_536
_WEIGHTS = (".safetensors", ".bin", ".gguf")


class CardNote(NamedTuple):
    """Verdict of a card, as a study's headline states it."""

    standing: str
    text: str


def identity(spec: str) -> str:
    """Return the digest of a judge's spec and of the files that its last part names, if any."""
    plain = re.sub(rf"\b({'|'.join(SPEED)})=[^&,:]*", "", spec).rstrip("?&")
    head, colon, rest = plain.rpartition(":")
    place = Path(rest.partition("?")[0])
    if not colon or not place.exists():
        return fingerprint([plain])
    files = [place] if place.is_file() else sorted(f for f in place.iterdir() if f.is_file())
    return fingerprint([head, rest.partition("?")[2], *(_digest(f) for f in files)])


def _digest(file: Path) -> str:
    """Return the digest of a file's name, size and content; of weights, of both ends alone."""
    size = file.stat().st_size
    found = hashlib.sha256(f"{file.name} {size}".encode())
    with file.open("rb") as stream:
        if file.suffix not in _WEIGHTS:
            found.update(stream.read())
        else:
            found.update(stream.read(_ENDS))
            stream.seek(max(0, size - _ENDS))
            found.update(stream.read(_ENDS))
    return found.hexdigest()


def keep(card: dict[str, Any]) -> None:
    """Store a card's verdict under its judge's identity, over an older one; rows stay out."""
    folder = _folder()
    make_folder(folder)
    write_json(folder / f"{card['identity']}.json", {k: v for k, v in card.items() if k != "rows"})


def find(spec: str, folder: str = "") -> CardNote:
    """Return the note on a judge: from a card's folder, or from the cache by identity.

    Args:
        spec: spec of the judge.
        folder: run directory of a card; empty searches the cache.

    Raises:
        BadInput: the folder holds no card, or the card of another judge.
    """
    file = Path(folder) / CARD if folder else _folder() / f"{identity(spec)}.json"
    if not file.is_file():
        if folder:
            raise BadInput(f"{folder}: expected the folder of a judge card, found no {CARD}")
        return CardNote("none", f"No judge card: whether {spec} is fit to judge is not known.")
    card = read_json(file)
    if folder and card["identity"] != identity(spec):
        raise BadInput(f"{file}: expected the card of {spec}, found that of {card['judge']}")
    verdict = card["verdict"]
    text = f"The judge is {verdict['standing']} by its card: {verdict['reason']}."
    return CardNote(verdict["standing"], text)


def _folder() -> Path:
    return cache_folder() / "judge-cards"
