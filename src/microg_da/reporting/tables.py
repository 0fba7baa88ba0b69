"""Scores as tables: on the terminal, as CSV, and per class for the report.

Files contain fractions; tables and pages show them times 100 with one decimal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from microg_da.evaluation.finding import Finding, find
from microg_da.evaluation.protocols import Scores
from microg_da.files import replacing
from microg_da.reporting.finding_text import finding_lines, gap_recovered_text
from microg_da.reporting.numbers import MISSING, percent
from microg_da.runs.results import RunResults, VariantResult
from microg_da.taxonomy import GROUP_NAMES
from microg_da.types import VARIANTS

GROUP_TITLES = GROUP_NAMES
VARIANT_TITLES: dict[str, str] = {
    "source_only": "source-only",
    "adapted": "adapted",
    "target_supervised": "target-supervised",
}
METRICS = {"map": "mAP", "f1_macro": "F1", "recall_macro": "recall", "auroc_macro": "AUROC"}

TOP1 = {"top1": "top-1"}


def metrics_of(*scores: Scores | None) -> dict[str, str]:
    """The titles of the metrics to show: :data:`METRICS`, and top-1 accuracy where clips have one label each."""
    return METRICS | TOP1 if any(each is not None and each.is_single_label for each in scores) else METRICS


def duration(seconds: float | None) -> str:
    """Format seconds: ``48 s``, ``3 min 20 s``, ``2 h 05 min``."""
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
    """Remove the remark in brackets of an action: ``talk to`` for ``talk to (e.g., self, a person, a group)``."""
    return name.split(" (")[0]


def variant_title(result: VariantResult) -> str:
    """Return the title of a variant: ``adapted (dann)``, ``source-only``."""
    title = VARIANT_TITLES[result.variant]
    return f"{title} ({result.method})" if result.variant == "adapted" else title


def detectors_table(headers: Sequence[str], lines: Sequence[str]) -> Table:
    """An empty table for the terminal, with a row for each detector.

    Args:
        headers: titles of the score columns, after the detector's name.
        lines: text below the table.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        caption="\n".join(lines) or None,
        caption_style="",
        caption_justify="left",
    )
    table.add_column("", overflow="fold")
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def results_table(results: RunResults) -> Table:
    """The table that ends `fit`: one line per variant, scores on the target ×100.

    Below the table is the finding: the change with its interval, and the reason for a missing gap recovered.
    """
    finding = finding_of(results)
    metrics = metrics_of(*(result.target for result in results.variants))
    target = [f"\n{title}" for title in list(metrics.values())[1:]]
    headers = ["source\nmAP", "target\nmAP", *target, "gap\nrecovered", "\ntime"]
    table = detectors_table(headers, finding_lines(finding))
    for result in results.variants:
        adapted = result.variant == "adapted"
        figures = [result.score("source", "map"), *(result.score("target", metric) for metric in metrics)]
        table.add_row(
            variant_title(result),
            *(percent(figure) for figure in figures),
            gap_recovered_text(finding) if adapted else MISSING,
            duration(result.seconds),
            style="red" if adapted and is_negative_transfer(finding) else None,
        )
    return table


def finding_of(results: RunResults) -> Finding:
    """Return the finding in the results, else a finding from their scores without intervals."""
    return results.finding or find(results.target_maps, results.boxes)


def is_negative_transfer(finding: Finding) -> bool:
    """Return whether the adapted detector is measurably worse on the target than the source-only detector."""
    return finding.change is not None and finding.change.verdict == "worse"


def write_results_csv(results: RunResults, path: str | Path) -> Path:
    """Write ``results.csv``: one line per variant and domain, every scalar score as a fraction.

    Raises:
        InputError: if the file cannot be written.
    """
    table = results.as_table()
    if len(table):
        last = (table["variant"] == "adapted") & (table["domain"] == "target")
        recovered = math.nan if results.gap_recovered is None else results.gap_recovered
        table["gap_recovered"] = np.where(last, recovered, math.nan)
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)
    return Path(path)


def per_class(results: RunResults) -> pd.DataFrame:
    """AP of every class on the target, variants of the run side by side.

    Returns:
        One line per class, indexed by action id: ``name``, ``group``, ``support``, then AP (fraction, NaN
        without ground truth) in a column for each variant of the run, then ``change`` (adapted − source-only;
        NaN without both). Sorted by change, best first; without a change by source-only AP.
    """
    columns = ["action_id", "name", "group", "support", "ap"]
    tables = [result.target.per_class[columns].assign(variant=result.variant) for result in results.variants]
    long = pd.concat(tables) if tables else pd.DataFrame(columns=[*columns, "variant"])
    table = long.groupby("action_id")[["name", "group", "support"]].first()
    ap = long.pivot(index="action_id", columns="variant", values="ap").astype(float)
    variants = [variant for variant in VARIANTS if variant in ap]
    table = table.join(ap[variants])
    table["change"] = table["adapted"] - table["source_only"] if {"adapted", "source_only"} <= set(ap) else math.nan
    return table.sort_values(["change", *variants], ascending=False, kind="stable")


def per_group(classes: pd.DataFrame) -> pd.DataFrame:
    """Mean AP of each group of actions, over its classes with ground truth.

    Args:
        classes: the result of :func:`per_class`.

    Returns:
        One line per group, indexed by group: ``classes`` (number with ground truth), ``support``, the mean of
        each AP column, and ``change``.
    """
    scored = classes[classes["support"] > 0]
    groups = scored.groupby("group", sort=False)
    means = groups[[name for name in (*VARIANTS, "change") if name in classes]].mean()
    sizes = pd.DataFrame({"classes": groups.size(), "support": groups["support"].sum()})
    order = [group for group in GROUP_TITLES if group in means.index]
    order += [group for group in means.index if group not in order]
    return sizes.join(means).loc[order]
