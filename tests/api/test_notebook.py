"""A notebook runs the lines, shows what they return, and says what resumes a stopped cell."""

from __future__ import annotations

from pathlib import Path

import pytest

CELLS = (
    "import alignlab as al\n"
    "rows = [{'prompt': f'{i}+1?', 'chosen': f'{i + 1}.', 'rejected': 'No.'} for i in range(8)]\n"
    "data = al.load_data(rows, test_share=0.2)\n"
    "data",
    "run = al.train(al.DPO(beta=0.1), 'sandbox:knows_all', data, lr=1e-6)\nrun",
    "run.plot()",
    "from alignlab.generation.local import LocalEngine\n"
    "def stop(self, requests):\n"
    "    raise KeyboardInterrupt\n"
    "LocalEngine.complete = stop\n"
    "al.generate(run, ['Hi'])",
)


@pytest.mark.slow
def test_a_notebook_shows_bars_tables_and_figures(tmp_path: Path):
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("nbclient")
    v4 = pytest.importorskip("nbformat").v4
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in CELLS])
    client.NotebookClient(
        notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    data, training, plot, stopped = (cell.outputs for cell in notebook.cells)
    assert "<table>" in data[-1].data["text/html"]
    bars = [one.data["text/html"] for one in training if one.output_type == "display_data"]
    assert len(bars) == 1
    assert bars[0].startswith("<div>model learns <small>")  # finished
    assert "runs/dpo" in training[-1].data["text/html"]
    assert "image/png" in plot[-1].data
    assert stopped[-1].ename == "Interrupted"
    assert "runs/generate-dpo/answers.jsonl.run is kept" in stopped[-1].evalue
