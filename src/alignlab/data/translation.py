"""Texts with a translation, as the test sets of WMT have them (github.com/wmt-conference)."""

from __future__ import annotations

from dataclasses import dataclass

from alignlab.data.build_records import BuildResult, ResponseDraft, demonstration, origin_of, user
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.text import trimmed
from alignlab.translation_prompt import translation_prompt


@dataclass(frozen=True)
class TranslationOptions(Options):
    """Options of translations."""

    source_language: str = "German"
    """Language of the texts, as the prompt names it."""
    target_language: str = "English"
    """Language of the translations, as the prompt names it."""


@row_format("translation", columns=[("src", "ref")], options=TranslationOptions)
def translation(row: Row, options: TranslationOptions) -> list[BuildResult]:
    """Texts with a translation to imitate; the prompt is that of the benchmark `translation`."""
    text = row.text("src")
    asked = translation_prompt(text, options.source_language, options.target_language)
    prompt = user(asked if trimmed(text) else "")  # an empty prompt is dropped and counted
    return [demonstration(prompt, ResponseDraft(row.text("ref")), origin_of(row, "translation"))]
