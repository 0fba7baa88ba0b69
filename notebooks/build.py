"""Execute the notebooks and store their outputs: ``python notebooks/build.py [NAME …] [--output FOLDER]``.

``NAME.py`` (percent format) is the source; ``NAME.ipynb`` is generated from it. Metadata that changes between runs is
removed: execution counts, times, ids, versions, progress bars.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def names() -> list[str]:
    """Return the names of all notebooks in order."""
    return sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))


def build(name: str, output: Path = FOLDER, seconds_per_cell: int = 1800) -> Path:
    """Execute one notebook in its folder and write it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed. No file is written.
    """
    notebook = jupytext.read(FOLDER / f"{name}.py", fmt="py:percent")
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=seconds_per_cell, kernel_name="python3", resources=resources).execute()
    path = output / f"{name}.ipynb"
    nbformat.write(strip(notebook), path)
    return path


def strip(notebook: Any) -> Any:
    """Remove metadata that differs between two runs with the same outputs."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02d}", {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output.execution_count = None
                if "metadata" in output:
                    output.metadata = {}
                if "image/png" in output.get("data", {}):
                    output.data.pop("text/plain", None)  # the address of an object in memory
    return notebook


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="for example 02_rotation (default: all notebooks)")
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="the output folder (default: the folder of the source files)"
    )
    options = parser.parse_args()
    for name in options.names or names():
        print(build(name.removesuffix(".py").removesuffix(".ipynb"), options.output))


if __name__ == "__main__":
    main()
