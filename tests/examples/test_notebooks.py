"""The notebooks in `examples/`, run from the first cell to the last by a kernel of their own."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def outputs(notebook: nbformat.NotebookNode) -> list[dict[str, str]]:
    """What each output of each cell shows, by type."""
    every = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [dict(output.get("data", {"text/plain": output.get("text", "")})) for output in every]


def test_there_are_notebooks_and_they_are_kept_without_outputs() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"first_steps", "your_own_text", "look_inside"}
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.filterwarnings("default")  # of the packages that talk to a kernel
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_is_about(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(kernel_that_runs_this_python(tmp_path)))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(
        notebook, timeout=240, kernel_name="this", resources=resources, coalesce_streams=True
    ).execute()  # an error in a cell is ours
    shown = outputs(notebook)
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert pages
    assert all("<script" not in page and "src='http" not in page for page in pages)
    if path.stem == "look_inside":
        assert any("AUC" in page for page in pages)
        assert any("rgba(0,114,178" in page for page in pages)
        before, after = shown[-1]["text/plain"].strip().split("\n\n")
        assert before.startswith("Tom said")
        assert after.startswith("Tom said")
        assert before != after
    else:
        bars = [page for page in pages if page.startswith("<progress")]
        assert len(bars) == 1  # every refresh replaced the one before
        assert "value='1.000'" in bars[0]
        assert any("data:image/png;base64" in page for page in pages)


def kernel_that_runs_this_python(folder: Path) -> Path:
    """A Jupyter folder with one kernel, `this`: whatever other kernels a machine has, the tests run with their own."""
    kernel = folder / "jupyter" / "kernels" / "this" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "this", "language": "python"}))
    return folder / "jupyter"
