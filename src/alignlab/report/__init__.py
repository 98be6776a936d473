"""Run directory -> `summary.json` and one self-contained `report.html`; nothing else is read.

`load` reads the records, `answer` puts the result into two sentences, one module per figure
computes positions and texts, and `templates/` turns them into HTML. To add a figure: a new module
that returns a frozen record, a macro in `templates/figures.html.j2`, and a section in the page.
Which records are shown, when a run has seeds and branches: see `load.shown`.
"""

from alignlab.report.export import export
from alignlab.report.markdown import markdown
from alignlab.report.page import write_report
from alignlab.report.run_comparison import compare_runs

__all__ = ["compare_runs", "export", "markdown", "write_report"]
