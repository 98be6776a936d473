"""Render a run directory as `summary.json` and one self-contained `report.html`.

`run_data` reads the records, `headline` states the result in two sentences, one module per figure
computes positions and texts, and `templates/` holds the HTML. To add a figure: a new module that
returns a frozen record, a macro in `templates/figures.html.j2`, and a section in the page.
`run_data.shown` selects the records of a run with seeds and branches.
"""

from alignlab.report.export import export
from alignlab.report.markdown import markdown
from alignlab.report.page import write_report
from alignlab.report.run_comparison import compare_runs

__all__ = ["compare_runs", "export", "markdown", "write_report"]
