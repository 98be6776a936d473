"""Data sources: files in known layouts to records (`types.Corpus`), nothing dropped silently.

To add a layout, write one file here: a function `record(row, options) -> list[Made]` under
`@row_format("name", columns=[("prompt", "answer")])` (`formats.py`) with its constructors from
`made.py`. It is found by itself: `load("name:PATH")` works, and `load("PATH")` recognises it by
its columns. A source that is not read row by row registers `factory(rest) -> Corpus` itself.
"""

from alignlab.data.check import CheckReport, check
from alignlab.data.convert import Converted, convert
from alignlab.data.sources import load, load_rows

__all__ = ["CheckReport", "Converted", "check", "convert", "load", "load_rows"]
