"""`evaluate`: detections and ground truth in, scores out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `evaluate`."""
    parser.add_argument("--detections", required=True, metavar="CSV", help="video_id, frame, box, action id, score")
    parser.add_argument("--ground-truth", required=True, metavar="CSV", help="video_id, frame, box, action id, person")
    parser.add_argument("--protocol", default="corrected", help="published or corrected (default)")
    parser.add_argument("--scores", help="logit or probability; by default what the file says of itself, else logit")
    parser.add_argument("--taxonomy", default="microg50", help="microg50 (default), ava60, ava80 or a label map file")
    parser.add_argument("--by", help="also by class, group, domain, source, persons or box-size")
    parser.add_argument("--actions", metavar="CSV", help="MicroG-4M's actions.csv: says which clips are real")
    parser.add_argument("--exclude", metavar="CSV", help="keyframes to leave out, such as AVA's excluded timestamps")
    parser.add_argument("--ci", action="store_true", help="95%% intervals by bootstrap over source videos")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default 2000)")
    parser.add_argument("--figure", metavar="FILE", help="draw published and corrected side by side (png, svg, pdf)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Score, then print a table or JSON."""
    from microg_da.data.annotations import read_actions, read_annotations, read_detections
    from microg_da.errors import InputError, unknown_name
    from microg_da.evaluation.breakdown import BREAKDOWNS, domains_of, partition
    from microg_da.evaluation.protocols import evaluate, evaluate_part, get_protocol
    from microg_da.evaluation.uncertainty import bootstrap
    from microg_da.taxonomy import get_taxonomy

    if args.resamples < 1:
        raise InputError("evaluate: --resamples must be 1 or more")
    if args.by and args.by not in BREAKDOWNS:
        raise unknown_name("breakdown", args.by, BREAKDOWNS, where="--by")
    options = {
        "protocol": get_protocol(args.protocol),
        "taxonomy": get_taxonomy(args.taxonomy),
        "scores": args.scores,
    }
    detections = _without(read_detections(args.detections), args.exclude)
    ground_truth = _without(read_annotations(args.ground_truth), args.exclude)
    scores = evaluate(detections, ground_truth, **options)
    tables = {}
    if args.by and args.by not in ("class", "group"):
        domains = domains_of(read_actions(args.actions)) if args.actions else None
        tables = partition(detections, ground_truth, args.by, domains)
    parts = {name: evaluate_part(*part, **options) for name, part in tables.items()}
    intervals = {}
    if args.ci:
        intervals = _intervals(detections, ground_truth, args.resamples, options)
        intervals["parts"] = {
            name: bootstrap(*part, resamples=args.resamples, **options).intervals() for name, part in tables.items()
        }
    (_print_json if args.json else _print_tables)(scores, args.by, parts, intervals)
    if args.figure:
        everything = tables or {"all": (detections, ground_truth)}
        _draw(args.figure, everything, options, args.resamples if args.ci else 0)
    return 0


def _intervals(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, resamples: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Intervals over source videos and, to show the difference, over keyframes as if they were independent."""
    from microg_da.evaluation.uncertainty import bootstrap

    found: dict[str, Any] = {}
    for by in ("source", "keyframe"):
        drawn = bootstrap(detections, ground_truth, cluster_by=by, resamples=resamples, **options)
        found[by] = {"num_clusters": drawn.num_clusters, **drawn.intervals()}
        if by == "source":
            found["per_class"] = drawn.class_intervals().to_dict("records")
    return found


def _draw(path: str, parts: dict[str, Any], options: dict[str, Any], resamples: int) -> None:
    """Score every part by both protocols and draw them."""
    from microg_da.evaluation.protocols import PROTOCOLS, evaluate_part
    from microg_da.evaluation.uncertainty import bootstrap
    from microg_da.reporting.score_figure import write_score_figure

    scores: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for name, protocol in PROTOCOLS.items():
        chosen = {**options, "protocol": protocol}
        scores[name] = {part: evaluate_part(*tables, **chosen) for part, tables in parts.items()}
        if resamples:
            drawn = {part: bootstrap(*tables, resamples=resamples, **chosen) for part, tables in parts.items()}
            intervals[name] = {part: found.intervals() for part, found in drawn.items()}
    write_score_figure(scores, path, intervals or None)


def _without(table: pd.DataFrame, excluded: str | None) -> pd.DataFrame:
    if excluded is None:
        return table
    from microg_da.data.annotations import KEYFRAME, read_keyframes

    marked = table.merge(read_keyframes(excluded).drop_duplicates(), on=KEYFRAME, how="left", indicator=True)
    return table[(marked["_merge"] == "left_only").to_numpy()]


def _print_json(scores: Any, by: str | None, parts: dict[str, Any], intervals: dict[str, Any]) -> None:
    from microg_da.files import to_json

    answer = scores.as_dict(per_class=by == "class")
    if by == "group":
        answer["per_group"] = scores.by_group().to_dict("records")
    if parts:
        answer["by"] = by
        answer["parts"] = [{"part": name, **part.as_dict(per_class=False)} for name, part in parts.items()]
        for part in answer["parts"] if intervals else ():
            part["intervals"] = intervals["parts"][part["part"]]
    if intervals:
        classes = intervals["per_class"]
        answer["intervals"] = {drawn: intervals[drawn] for drawn in ("source", "keyframe")}
        if by == "class":
            answer["per_class"] = [row | bounds for row, bounds in zip(answer["per_class"], classes, strict=True)]
    print(to_json(answer))


def _print_tables(scores: Any, by: str | None, parts: dict[str, Any], intervals: dict[str, Any]) -> None:
    from microg_da.reporting import score_tables
    from microg_da.terminal import output_console

    console = output_console()
    score_tables.print_scores(scores, console)
    for cluster, title in (("source", "source videos"), ("keyframe", "keyframes, as if independent")):
        if intervals:
            clusters = f"{intervals[cluster]['num_clusters']:,} {title}"
            score_tables.print_intervals(intervals[cluster], clusters, console)
    if by == "class":
        score_tables.print_classes(scores, console)
    elif by == "group":
        score_tables.print_groups(scores.by_group(), console)
    elif parts:
        score_tables.print_parts(parts, str(by), console)
        for name, found in intervals.get("parts", {}).items():
            score_tables.print_intervals(found, f"the source videos of {name}", console)
