"""AlpacaFarm preferences (arXiv 2305.14387): two outputs, and 1 or 2 for the preferred one."""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, Dropped, ResponseDraft, origin_of, pair, user
from alignlab.data.conversations import instruction_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("alpacafarm", columns=[("instruction", "output_1", "output_2", "preference")])
def alpacafarm(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of outputs for an instruction with an optional input."""
    if not row.has("preference"):
        return [Dropped("no preference given")]
    better = row.whole("preference", range(1, 3))
    chosen, rejected = (
        ResponseDraft(row.text(f"output_{n}"), -r) for r, n in enumerate((better, 3 - better))
    )
    return [pair(user(instruction_of(row)), chosen, rejected, origin_of(row, "alpacafarm"))]
