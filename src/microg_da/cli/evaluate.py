"""`evaluate`: compute scores from detections and ground truth."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from microg_da.data.score_kinds import ScoreKind
    from microg_da.evaluation.protocols import Protocol, Scores
    from microg_da.evaluation.uncertainty import Bootstrap
    from microg_da.taxonomy import Taxonomy

    Tables = tuple[pd.DataFrame, pd.DataFrame]


class _Options(TypedDict):
    """How detections are scored."""

    protocol: Protocol
    taxonomy: Taxonomy
    scores: ScoreKind | None


@dataclass(frozen=True)
class _Resamples:
    """Bootstrap resamples by source video, by keyframe (treated as independent), and for each part of the data."""

    source: Bootstrap
    keyframe: Bootstrap
    parts: Mapping[str, Bootstrap]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `evaluate`."""
    parser.add_argument(
        "--detections",
        required=True,
        metavar="CSV",
        help="detections, with columns video_id, frame, box, action id, score",
    )
    parser.add_argument(
        "--ground-truth",
        required=True,
        metavar="CSV",
        help="labels, with columns video_id, frame, box, action id, person",
    )
    parser.add_argument("--protocol", default="corrected", help="protocol: published or corrected (default)")
    parser.add_argument(
        "--scores", help="kind of the scores: logit or probability (default: as the file declares, else logit)"
    )
    parser.add_argument(
        "--taxonomy",
        default="microg50",
        help="microg50 (default), ava60, ava80, jhmdb21, a label map file or a folder of clips",
    )
    parser.add_argument(
        "--by", help="also score each class, group, footage, source-video, persons (number of) or box-size"
    )
    parser.add_argument(
        "--actions", metavar="CSV", help="actions.csv of MicroG-4M, which tells real from simulated clips"
    )
    parser.add_argument("--exclude", metavar="CSV", help="keyframes to leave out, such as AVA's excluded timestamps")
    parser.add_argument("--ci", action="store_true", help="95%% intervals by bootstrap over source videos")
    parser.add_argument("--resamples", type=int, metavar="N", default=2000, help="number of bootstrap resamples")
    parser.add_argument(
        "--figure", metavar="FILE", help="write a figure with both protocols side by side (png, svg or pdf)"
    )
    parser.add_argument(
        "--video-map",
        action="store_true",
        help="score tubes in place of boxes: mAP at spatio-temporal IoUs of 0.2, 0.5 and 0.5:0.95",
    )
    parser.add_argument(
        "--tubes",
        metavar="tracks|linked",
        help="how --video-map builds tubes: by person_id or by linking (default: tracks if the file has person_id)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Score, then print a table or JSON."""
    from microg_da.data.annotations import read_actions, read_annotations, read_detections
    from microg_da.errors import InputError, unknown_name
    from microg_da.evaluation.breakdown import ALIASES, BREAKDOWNS, footage_of, partition
    from microg_da.evaluation.protocols import evaluate, evaluate_part, get_protocol
    from microg_da.taxonomy import get_taxonomy

    if args.video_map or args.tubes is not None:
        from microg_da.cli.evaluate_tubes import run_video_map

        return run_video_map(args)
    if args.resamples < 1:
        raise InputError("evaluate: --resamples must be 1 or more")
    args.by = ALIASES.get(args.by, args.by)
    if args.by and args.by not in BREAKDOWNS:
        raise unknown_name("breakdown", args.by, BREAKDOWNS, where="--by")
    options: _Options = {
        "protocol": get_protocol(args.protocol),
        "taxonomy": get_taxonomy(args.taxonomy),
        "scores": args.scores,
    }
    detections = _without(read_detections(args.detections), args.exclude)
    ground_truth = _without(read_annotations(args.ground_truth), args.exclude)
    scores = evaluate(detections, ground_truth, **options)
    tables: Mapping[str, Tables] = {}
    if args.by and args.by not in ("class", "group"):
        footage = footage_of(read_actions(args.actions)) if args.actions else None
        tables = partition(detections, ground_truth, args.by, footage)
    parts = {name: evaluate_part(*part, **options) for name, part in tables.items()}
    drawn = _resample((detections, ground_truth), tables, args.resamples, options) if args.ci else None
    (_print_json if args.json else _print_tables)(scores, args.by, parts, drawn)
    if args.figure:
        everything = tables or {"all": (detections, ground_truth)}
        _draw(args.figure, everything, options, args.resamples if args.ci else 0)
    return 0


def _resample(everything: Tables, parts: Mapping[str, Tables], resamples: int, options: _Options) -> _Resamples:
    from microg_da.evaluation.uncertainty import bootstrap

    return _Resamples(
        source=bootstrap(*everything, cluster_by="source", resamples=resamples, **options),
        keyframe=bootstrap(*everything, cluster_by="keyframe", resamples=resamples, **options),
        parts={name: bootstrap(*part, resamples=resamples, **options) for name, part in parts.items()},
    )


def _draw(path: str, parts: Mapping[str, Tables], options: _Options, resamples: int) -> None:
    """Score every part with both protocols and draw the figure."""
    from microg_da.evaluation.protocols import PROTOCOLS, evaluate_part
    from microg_da.evaluation.uncertainty import bootstrap
    from microg_da.reporting.score_figure import write_score_figure

    scores: dict[str, dict[str, Scores]] = {}
    intervals: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    for name, protocol in PROTOCOLS.items():
        chosen: _Options = {**options, "protocol": protocol}
        scores[name] = {part: evaluate_part(*tables, **chosen) for part, tables in parts.items()}
        if resamples:
            intervals[name] = {
                part: bootstrap(*tables, resamples=resamples, **chosen).intervals() for part, tables in parts.items()
            }
    write_score_figure(scores, path, intervals or None)


def _without(table: pd.DataFrame, excluded: str | None) -> pd.DataFrame:
    if excluded is None:
        return table
    from microg_da.data.annotations import KEYFRAME, read_keyframes

    marked = table.merge(read_keyframes(excluded).drop_duplicates(), on=KEYFRAME, how="left", indicator=True)
    return table[(marked["_merge"] == "left_only").to_numpy()]


def _print_json(scores: Scores, by: str | None, parts: Mapping[str, Scores], drawn: _Resamples | None) -> None:
    from microg_da.files import to_json

    answer = scores.as_dict(per_class=False)
    if by == "class":
        classes = scores.per_class.to_dict("records")
        if drawn is not None:
            bounds = drawn.source.class_intervals().to_dict("records")
            classes = [values | limits for values, limits in zip(classes, bounds, strict=True)]
        answer["per_class"] = classes
    if by == "group":
        answer["per_group"] = scores.by_group().to_dict("records")
    if parts:
        answer["by"] = by
        answer["parts"] = [
            {
                "part": name,
                **part.as_dict(per_class=False),
                **({} if drawn is None else {"intervals": drawn.parts[name].intervals()}),
            }
            for name, part in parts.items()
        ]
    if drawn is not None:
        answer["intervals"] = {
            name: {"num_clusters": found.num_clusters, **found.intervals()}
            for name, found in (("source", drawn.source), ("keyframe", drawn.keyframe))
        }
    print(to_json(answer))


def _print_tables(scores: Scores, by: str | None, parts: Mapping[str, Scores], drawn: _Resamples | None) -> None:
    from microg_da.reporting import score_tables
    from microg_da.terminal import output_console

    console = output_console()
    score_tables.print_scores(scores, console)
    if drawn is not None:
        for found, title in (
            (drawn.source, "source videos"),
            (drawn.keyframe, "keyframes, treated as independent"),
        ):
            score_tables.print_intervals(found.intervals(), f"{found.num_clusters:,} {title}", console)
    if by == "class":
        score_tables.print_classes(scores, console)
    elif by == "group":
        score_tables.print_groups(scores.by_group(), console)
    elif parts:
        score_tables.print_parts(parts, str(by), console)
        for name, found in drawn.parts.items() if drawn is not None else ():
            score_tables.print_intervals(found.intervals(), f"the source videos of {name}", console)
