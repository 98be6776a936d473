"""Data sources: files in known layouts to a `types.Corpus`; dropped records are counted.

To add a layout, write one file: a function `record(row, options) -> list[BuildResult]` under
`@row_format("name", columns=[("prompt", "answer")])` (`formats.py`) that calls the builders of
`build_records.py`. `load("name:PATH")` then works, and `load("PATH")` recognises the layout by its
columns. A source that is not read row by row registers `factory(rest) -> Corpus`.
"""

from alignlab.data.check import CheckReport, check
from alignlab.data.convert import Converted, convert
from alignlab.data.sources import load, load_rows

__all__ = ["CheckReport", "Converted", "check", "convert", "load", "load_rows"]
