"""The notebooks run, and what is committed is what their text gives."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))
LARGEST = 1_000_000  # bytes


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_notebooks", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def read(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def texts(notebook) -> str:
    """Everything readable in the outputs; pictures are not."""
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    shown = [value for output in outputs for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join([*shown, *(output.get("text", "") for output in outputs)])


def test_every_text_has_its_notebook_and_a_line_in_the_readme(build):
    assert NAMES
    assert build.names() == NAMES == sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\((\w+)\.ipynb\)", readme) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebook_is_its_text_with_outputs(name):
    text, notebook = jupytext.read(FOLDER / f"{name}.py", fmt="py:percent"), read(FOLDER / f"{name}.ipynb")
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in text.cells
    ]
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebook_says_nothing_of_the_machine(name, build):
    notebook = read(FOLDER / f"{name}.ipynb")
    shown = texts(notebook)
    assert not re.findall(r"(?<![\w/<.])/(?:home|work|tmp|root|usr|opt|Users)/\S*", shown)
    assert "Warning" not in shown
    stripped = nbformat.writes(build.strip(read(FOLDER / f"{name}.ipynb")))
    assert stripped == nbformat.writes(notebook)


def test_the_committed_audit_shows_no_rows(test_data):
    from microg_da.data.sources import read_dataset_files

    tree, _ = read_dataset_files(f"microg4m:{test_data / 'microg4m'}", check_boxes=False)
    shown = texts(read(FOLDER / "06_microg4m_audit.ipynb"))
    assert "audited: MicroG-4M" in shown
    assert not [video for video in tree.annotations.video_id.unique() if video in shown]


def when_asked(name):
    """The audit takes seconds; all together take ten minutes on two cores."""
    asked = os.environ.get("MICROG_DA_NOTEBOOKS") == "1" or name.endswith("audit")
    reason = "set MICROG_DA_NOTEBOOKS=1 to execute it (minutes)"
    return pytest.param(name, marks=pytest.mark.skipif(not asked, reason=reason))


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", [when_asked(name) for name in NAMES])
def test_notebook_runs_from_top_to_bottom(name, build, tmp_path, monkeypatch):
    # 06 takes the embedded data where there is no other.
    monkeypatch.setenv("MICROG_DA_TEST_DATA", str(tmp_path))
    notebook = read(build.build(name, tmp_path))
    committed = read(FOLDER / f"{name}.ipynb")
    assert [bool(cell.outputs) for cell in code(notebook)] == [bool(cell.outputs) for cell in code(committed)]
    if name.endswith("audit"):
        assert "audited: embedded microgravity data" in texts(notebook)
