"""Scores of `evaluate` on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from microg_da.evaluation.fusion import FusionReport
from microg_da.evaluation.paired_comparison import Comparison
from microg_da.evaluation.protocols import MIN_SUPPORT, PROTOCOLS, Scores
from microg_da.reporting.numbers import percent
from microg_da.reporting.tables import GROUP_TITLES, METRICS
from microg_da.terminal import output_console, print_table


def print_scores(scores: Scores, console: Console) -> None:
    """Print the headline scores and the amount of data."""
    console.print(f"[bold]{scores.protocol}[/] protocol: {PROTOCOLS[scores.protocol].summary}")
    table = _table("", "value (%)", "over")
    classes = f"{scores.num_classes_with_ground_truth} classes with ground truth"
    averaged = f"{len(scores.per_class)} classes" if PROTOCOLS[scores.protocol].all_classes else classes
    areas = f"{scores.per_class['auroc'].notna().sum()} classes with positives and negatives"
    for (name, title), over in zip(METRICS.items(), (classes, averaged, averaged, areas), strict=True):
        table.add_row(title, percent(getattr(scores, name)), over)
    few = f"{scores.num_classes_min_support} classes with {MIN_SUPPORT} or more examples"
    if scores.is_single_label:
        table.add_row("top-1 accuracy", percent(scores.top1), f"{scores.num_clips:,} clips, one label each")
    table.add_row("mAP, well-supported classes", percent(scores.map_min_support), few)
    print_table(table, console)
    console.print(
        f"{scores.num_detections:,} detections of {scores.num_boxes:,} people in {scores.num_keyframes:,} keyframes"
    )
    if scores.num_keyframes_without_detections:
        console.print(
            f"{scores.num_keyframes_without_detections:,} of these keyframes have no detections: "
            f"their people count as missed"
        )
    if scores.num_keyframes_without_ground_truth:
        console.print(
            f"{scores.num_keyframes_without_ground_truth:,} other keyframes have detections but no ground truth: "
            f"these detections count as false positives"
        )
    if scores.num_tied_scores:
        bounds = f"{percent(scores.map_worst_ties)} to {percent(scores.map_best_ties)}"
        console.print(f"{scores.num_tied_scores:,} scores are tied; their order could change mAP from {bounds}")
    for count, what in ((scores.num_duplicates, "repeated"), (scores.num_ignored, "with ids outside the taxonomy")):
        if count:
            console.print(f"{count:,} rows {what}")


def print_parts(parts: Mapping[str, Scores], by: str, console: Console) -> None:
    """Print one row per part, with the amount of data."""
    table = _table(by, *METRICS.values(), "classes", "keyframes", "people", "labels")
    for name, scores in parts.items():
        counts = (scores.num_classes_with_ground_truth, scores.num_keyframes, scores.num_boxes, _labels(scores))
        table.add_row(
            name, *(percent(getattr(scores, metric)) for metric in METRICS), *(f"{count:,}" for count in counts)
        )
    print_table(table, console)


def print_classes(scores: Scores, console: Console) -> None:
    """One row per class that has ground truth, best AP first."""
    table = _table("class", "AP", "F1", "recall", "AUROC", "labels")
    known = scores.per_class[scores.per_class["support"] > 0].sort_values("ap", ascending=False)
    for row in known.to_dict("records"):
        figures = (percent(row[name]) for name in ("ap", "f1", "recall", "auroc"))
        table.add_row(f"{row['action_id']:>2} {row['name']}", *figures, f"{row['support']:,}")
    print_table(table, console)


def print_groups(groups: pd.DataFrame, console: Console) -> None:
    """One row per group of classes: means over its classes."""
    table = _table("group", *METRICS.values(), "classes", "labels")
    for row in groups.to_dict("records"):
        figures = (percent(row[name]) for name in ("map", "f1", "recall", "auroc"))
        table.add_row(GROUP_TITLES[row["group"]], *figures, str(row["num_classes"]), f"{row['support']:,}")
    print_table(table, console)


def print_fusion(report: FusionReport, output: str | Path) -> None:
    """Print the fit of `fuse`: a row per model, and cross-validated scores."""
    console = output_console()
    console.print(f"{report['method']} of {len(report['models'])} models, calibration: {report['calibrate']}")
    table = _table("model", "weight (%)", "boxes", "missing", "extra", "blind")
    for model in report["models"]:
        counts = (model["boxes"], model["missing"], model["extra"], model["blind"])
        table.add_row(model["name"], percent(report["weights"][model["name"]]), *(f"{count:,}" for count in counts))
    print_table(table, console)
    if "fit" in report:
        expected = report["fit"]["cross_validated"]
        shown = ", ".join(f"{title} {percent(expected[name])}" for name, title in METRICS.items())
        console.print(f"cross-validated on {report['fit']['num_boxes']:,} boxes of the fit set: {shown}")
    console.print(
        f"{report['num_boxes']:,} boxes, {report['num_unseen_boxes']:,} of them without a detection of any model"
    )
    console.print(f"written to {output}, with scores as probabilities")


def print_comparison(found: Comparison) -> None:
    """Print the ranking, and all pairs with interval and p-values."""
    console = output_console()
    title = METRICS[found.metric]
    table = _table("model", title, "95% interval", "rank")
    for row in found.models.to_dict("records"):
        ranks = sorted({row["best_rank"], row["worst_rank"]})
        table.add_row(row["model"], percent(row["value"]), _span(row["low"], row["high"]), "–".join(map(str, ranks)))
    print_table(table, console)
    pairs = _table("pair", f"difference in {title}", "95% interval", "p", "p (Holm)")
    for row in found.pairs.to_dict("records"):
        span = _span(row["low"], row["high"], signed=True)
        p = (f"{row[name]:.4f}" for name in ("p", "p_holm"))
        pairs.add_row(f"{row['a']} − {row['b']}", percent(row["difference"], signed=True), span, *p)
    print_table(pairs, console)
    console.print(f"{found.num_clusters} clusters; models with overlapping ranks do not differ significantly at 5%")


def print_intervals(intervals: Mapping[str, tuple[float, float]], clusters: str, console: Console) -> None:
    """Print the 95% interval of each headline score."""
    shown = ", ".join(f"{title} {_span(*intervals[name])}" for name, title in METRICS.items())
    console.print(f"95% intervals over {clusters}: {shown}")


def _span(low: float, high: float, *, signed: bool = False) -> str:
    return f"{percent(low, signed=signed)} to {percent(high, signed=signed)}"


def _labels(scores: Scores) -> int:
    return int(scores.per_class["support"].sum())


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name == "over" else "right")
    return table
