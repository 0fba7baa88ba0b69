"""Scores as tables: on the terminal, as CSV, and per class for the report.

Files hold fractions; people are shown them times 100 with one decimal.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from microg_da.evaluation.finding import Finding, find, read_finding
from microg_da.files import replacing
from microg_da.reporting.finding_text import finding_lines, gap_recovered_text
from microg_da.reporting.numbers import MISSING, percent
from microg_da.runs.reader import ADAPTED, ROWS, SOURCE_ONLY
from microg_da.taxonomy import GROUP_NAMES

GROUP_TITLES = GROUP_NAMES
ROW_TITLES = {"source_only": "source-only", "adapted": "adapted", "target_supervised": "target-supervised"}
METRICS = {"map": "mAP", "f1_macro": "F1", "recall_macro": "recall", "auroc_macro": "AUROC"}


def duration(seconds: float | None) -> str:
    """Seconds as people read them: ``48 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None or math.isnan(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def brief(name: str) -> str:
    """An action's name without its remark in brackets: ``talk to`` of ``talk to (e.g., self, a person, a group)``."""
    return name.split(" (")[0]


def score(row: dict[str, Any], domain: str, metric: str) -> float:
    """One figure of a row of ``results.json``; NaN where the row was not tested on that domain."""
    value = (row.get(domain) or {}).get(metric)
    return math.nan if value is None else float(value)


def row_title(row: dict[str, Any]) -> str:
    """What a row is called for people: ``adapted (dann)``, ``source-only``."""
    title, method = ROW_TITLES[row["name"]], row.get("method")
    return f"{title} ({method})" if method and row["name"] == ADAPTED else title


def results_table(results: dict[str, Any]) -> Table:
    """The table that ends `fit`: one line per row of ``results.json``, scores on the target ×100.

    Below it stands what the run found: the change with its interval, and why no gap recovered is given.

    Args:
        results: ``{"rows": [{"name", "method", "seconds", "source", "target"}, …], "gap_recovered", "finding"}``.
    """
    finding = finding_of(results)
    table = Table(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        caption="\n".join(finding_lines(finding)) or None,
        caption_style="",
        caption_justify="left",
    )
    table.add_column("", overflow="fold")
    for header in ("source\nmAP", "target\nmAP", "\nF1", "\nrecall", "\nAUROC", "gap\nrecovered", "\ntime"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in results["rows"]:
        adapted = row["name"] == ADAPTED
        figures = [score(row, "source", "map"), *(score(row, "target", metric) for metric in METRICS)]
        table.add_row(
            row_title(row),
            *(percent(figure) for figure in figures),
            gap_recovered_text(finding) if adapted else MISSING,
            duration(row.get("seconds")),
            style="red" if adapted and is_negative_transfer(finding) else None,
        )
    return table


def finding_of(results: dict[str, Any]) -> Finding:
    """The finding that results hold; without one, what their scores say without intervals."""
    return read_finding(results) or find(results["rows"])


def is_negative_transfer(finding: Finding) -> bool:
    """Whether the adapted detector is measurably worse on the target than the source-only one."""
    return finding.change is not None and finding.change.verdict == "worse"


def write_results_csv(results: dict[str, Any], path: str | Path) -> Path:
    """Write ``results.csv``: one line per row and domain, every scalar score as a fraction.

    Raises:
        InputError: if the file cannot be written.
    """
    lines = [
        {"name": row["name"], "method": row.get("method"), "domain": domain}
        | {key: value for key, value in row[domain].items() if not isinstance(value, (dict, list))}
        | {"seconds": row.get("seconds")}
        | {"gap_recovered": results.get("gap_recovered") if (row["name"], domain) == (ADAPTED, "target") else None}
        for row in results["rows"]
        for domain in ("source", "target")
        if row.get(domain)
    ]
    with replacing(path) as temporary:
        pd.DataFrame(lines).to_csv(temporary, index=False)
    return Path(path)


def per_class(results: dict[str, Any]) -> pd.DataFrame:
    """AP of every class on the target, rows of the run side by side.

    Returns:
        One line per class, indexed by action id: ``name``, ``group``, ``support``, then AP (fraction, NaN
        without ground truth) in a column for each row of the run, then ``change`` (adapted − source-only;
        NaN without both). Sorted by change, best first; without a change by source-only AP.
    """
    columns = ["action_id", "name", "group", "support", "ap", "row"]
    lines = [c | {"row": row["name"]} for row in results["rows"] for c in row["target"].get("per_class") or []]
    long = pd.DataFrame(lines, columns=columns)
    table = long.groupby("action_id")[["name", "group", "support"]].first()
    ap = long.pivot(index="action_id", columns="row", values="ap").astype(float)
    table = table.join(ap[[name for name in ROWS if name in ap]])
    table["change"] = table[ADAPTED] - table[SOURCE_ONLY] if {ADAPTED, SOURCE_ONLY} <= set(ap) else math.nan
    return table.sort_values(["change", *(name for name in ROWS if name in ap)], ascending=False, kind="stable")


def per_group(classes: pd.DataFrame) -> pd.DataFrame:
    """Mean AP of each group of actions, over its classes with ground truth.

    Args:
        classes: what :func:`per_class` returns.

    Returns:
        One line per group, indexed by group: ``classes`` (number with ground truth), ``support``, the mean of
        each AP column, and ``change``.
    """
    scored = classes[classes["support"] > 0]
    groups = scored.groupby("group", sort=False)
    means = groups[[name for name in (*ROWS, "change") if name in classes]].mean()
    sizes = pd.DataFrame({"classes": groups.size(), "support": groups["support"].sum()})
    order = [group for group in GROUP_TITLES if group in means.index]
    order += [group for group in means.index if group not in order]
    return sizes.join(means).loc[order]
