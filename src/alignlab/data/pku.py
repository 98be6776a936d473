"""PKU-SafeRLHF (arXiv 2310.12773): two responses, with labels of the better and the safer one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    ResponseDraft,
    origin_of,
    pair,
    user,
)
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@dataclass(frozen=True)
class PkuOptions(Options):
    """Options of PKU-SafeRLHF."""

    by: Literal["better", "safer"] = "better"
    """Label that orders the responses: helpfulness ("better") or harmlessness ("safer")."""


@row_format("pku", columns=[("prompt", "response_0", "response_1")], options=PkuOptions)
def pku(row: Row, options: PkuOptions) -> list[BuildResult]:
    """Pairs ordered by helpfulness or by harmlessness."""
    first = row.whole(f"{options.by}_response_id", range(2))
    chosen, rejected = (
        ResponseDraft(
            row.text(f"response_{side}"),
            score,
            row.optional_text(f"response_{side}_source") or UNKNOWN_WRITER,
        )
        for side, score in ((first, 0.0), (1 - first, -1.0))
    )
    return [pair(user(row.text("prompt")), chosen, rejected, origin_of(row, "pku"))]
