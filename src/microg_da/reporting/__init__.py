"""Presentation of the files of a run: one table, one CSV, one HTML page.

Everything here reads and writes run folders, without networks or data sets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microg_da.reporting.report import write_report
    from microg_da.reporting.tables import results_table, write_results_csv

_PUBLIC = {
    "write_report": "microg_da.reporting.report",
    "results_table": "microg_da.reporting.tables",
    "write_results_csv": "microg_da.reporting.tables",
}

__all__ = ["results_table", "write_report", "write_results_csv"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
