"""Prompt that asks for a translation, the same in training data and in the benchmark."""

from __future__ import annotations


def translation_prompt(text: str, source: str, target: str) -> str:
    """Write the prompt that asks for the translation of a text.

    Args:
        text: text to translate.
        source: English name of its language.
        target: English name of the language to translate into.
    """
    return (
        f"Translate this text from {source} into {target}. Write the translation alone.\n\n{text}"
    )
