"""Write the tutorials' notebooks from their Markdown sources.

    python scripts/notebooks.py

Text between ```python fences of `examples/tutorials/NAME.md` becomes a code cell, all other text a
Markdown cell, of `docs/tutorials/NAME.ipynb`. Notebooks hold no outputs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "examples" / "tutorials"
NOTEBOOKS = ROOT / "docs" / "tutorials"
FENCE = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def notebook(text: str) -> Any:
    """Return the notebook of a Markdown source."""
    from nbformat import v4

    cells = []
    for index, part in enumerate(FENCE.split(text)):
        new = v4.new_code_cell if index % 2 else v4.new_markdown_cell
        if part.strip():
            cells.append(new(part.strip(), id=f"cell-{index}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def main() -> None:
    """Write every notebook."""
    import nbformat

    NOTEBOOKS.mkdir(exist_ok=True)
    for source in sorted(SOURCES.glob("*.md")):
        made = notebook(source.read_text("utf-8"))
        nbformat.write(made, NOTEBOOKS / f"{source.stem}.ipynb")


if __name__ == "__main__":
    main()
