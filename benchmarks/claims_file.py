"""Read `claims.yaml` and refuse what the ledger would not understand: a typo decides no verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from checked_files import (
    DISTINCT,
    NUMBER,
    OBJECT,
    OBJECTS,
    TEXT,
    TEXTS,
    Kind,
    refuse_fields,
)
from controls_table import KINDS

from alignlab.errors import bad_record, first_line
from alignlab.files import read_text
from alignlab.yaml_settings import load_yaml

EXPECT = ("more", "less", "same")
RUN = Kind(
    "a run or a list of different ones",
    lambda value: TEXT.fits(value) or (DISTINCT.fits(value) and bool(value)),
)
ROW = Kind(
    "[model, benchmark, metric] or [..., against]",
    lambda value: TEXTS.fits(value) and len(value) in (3, 4),
)
SIDE = Kind("more, less or same", lambda value: value in EXPECT)
EVERY = {"run": RUN, "expect": SIDE}
"""Fields of every figure."""
OF_MODELS = {"over": TEXT, "of": Kind("score", lambda value: value == "score")}
OF_ROWS = {"over_row": ROW, "label": TEXT, "no_effect": NUMBER}
CLAIM = {"id": TEXT, "claim": TEXT, "source": TEXT, "published": TEXT}
MAYBE = {"sandbox": OBJECTS, "real": OBJECTS, "sandbox_note": TEXT, "real_note": TEXT}


def read_claims(file: Path) -> dict[str, Any]:
    """Read the claims of every document, the controls of studies, and the studies not run.

    Raises:
        BadInput: the file cannot be read, or a field is missing, unknown or of another kind.
    """
    try:
        known = load_yaml(read_text(file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        found = getattr(error, "problem", None) or first_line(error)
        raise bad_record(file.name, line, None, "YAML", found) from None
    if not isinstance(known, dict):
        raise bad_record(file.name, None, None, "documents and studies", repr(known))
    _refuse(file.name, known, {"documents": OBJECT, "controls": OBJECT, "studies": OBJECT})
    for name, controls in known["controls"].items():
        refuse_fields(file.name, known["controls"], {name: OBJECT}, "controls.")
        place = f"{file.name}, controls of {name}"
        _refuse(place, controls, {}, dict.fromkeys(KINDS, OBJECTS))
        for asked in (asked for some in controls.values() for asked in some):
            _refuse(place, asked, {"run": RUN, "model": TEXT}, OF_MODELS)
    for name, planned in known["studies"].items():
        refuse_fields(file.name, known["studies"], {name: OBJECT}, "studies.")
        _refuse(f"{file.name}, {name}", planned, {"command": TEXT, "hours": NUMBER})
    studies = [str(name).partition(" ")[0] for name in known["studies"]]
    study = {"study": Kind(f"one of {', '.join(studies)}", lambda value: value in studies)}
    seen: set[str] = set()
    for name, claims in known["documents"].items():
        refuse_fields(file.name, known["documents"], {name: OBJECTS}, "documents.")
        for number, claim in enumerate(claims, start=1):
            refuse_fields(f"{file.name}, {name}, claim {number}", claim, {"id": TEXT})
            _refuse_claim(f"{file.name}, {claim['id']}", claim, MAYBE | study)
            if claim["id"] in seen:
                raise bad_record(file.name, None, "id", "one claim of each id", claim["id"])
            seen.add(claim["id"])
    return known


def _refuse_claim(place: str, claim: Mapping[str, Any], maybe: Mapping[str, Kind]) -> None:
    _refuse(place, claim, CLAIM, maybe)
    for asked in (*claim.get("sandbox", ()), *claim.get("real", ())):
        _refuse_figure(place, asked)


def _refuse_figure(place: str, asked: Mapping[str, Any]) -> None:
    """Refuse a figure that is neither one of a model's values nor one of a row."""
    of_models, of_rows = ({"model": TEXT} | OF_MODELS), ({"row": ROW, "unit": TEXT} | OF_ROWS)
    if "model" not in asked and "row" not in asked:
        _refuse(place, asked, {}, EVERY | of_models | of_rows)
        raise bad_record(place, None, "model", "a model or a row", "no such field")
    if "row" in asked:
        _refuse(place, asked, EVERY | {"row": ROW, "unit": TEXT}, OF_ROWS)
    else:
        _refuse(place, asked, EVERY | {"model": TEXT}, OF_MODELS)


def _refuse(
    place: str,
    values: Mapping[str, Any],
    needed: Mapping[str, Kind],
    maybe: Mapping[str, Kind] | None = None,
) -> None:
    """Refuse missing and unknown fields, and those of another kind."""
    known = {**needed, **(maybe or {})}
    for name in values:
        if name not in known:
            raise bad_record(place, None, str(name), f"one of {', '.join(known)}", "another field")
    given = {name: kind for name, kind in known.items() if name in values or name in needed}
    refuse_fields(place, values, given)
