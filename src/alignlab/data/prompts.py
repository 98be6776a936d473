"""Prompts alone: `{"prompt": ...}`, with `reference` and `query_type` where known."""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, origin_of, prompt
from alignlab.data.conversations import prompt_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("prompts", columns=[("prompt",)])
def prompts(row: Row, options: Options) -> list[BuildResult]:
    """Prompts without answers, as text or as turns."""
    return [prompt(prompt_of(row), origin_of(row, "prompts"))]
