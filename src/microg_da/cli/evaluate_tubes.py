"""`evaluate --video-map`: compute video mAP from tubes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from microg_da.evaluation.video_map import VideoScores

_FRAME_OPTIONS = {"protocol": "corrected", "by": None, "actions": None, "exclude": None, "ci": False, "figure": None}
"""Options that apply to boxes of single frames only, and their defaults."""


def run_video_map(args: argparse.Namespace) -> int:
    """Score tubes, then print a table or JSON."""
    from microg_da.data.annotations import read_tubes
    from microg_da.errors import InputError, unknown_name
    from microg_da.evaluation.tubes import link_tubes
    from microg_da.evaluation.video_map import evaluate_tubes
    from microg_da.files import to_json

    if not args.video_map:
        raise InputError("evaluate: --tubes sets how --video-map builds tubes. Add --video-map, or remove --tubes.")
    for name, default in _FRAME_OPTIONS.items():
        if getattr(args, name) != default and not (name == "by" and args.by == "class"):
            raise InputError(f"evaluate: --{name} applies to single frames only. Remove --video-map or --{name}.")
    if args.tubes not in (None, "tracks", "linked"):
        raise unknown_name("kind of tubes", args.tubes, ("tracks", "linked"), where="--tubes")
    detections = read_tubes(args.detections, scored=True)
    linked = args.tubes == "linked" or (args.tubes is None and "person_id" not in detections)
    if linked:
        detections = link_tubes(detections.drop(columns="person_id", errors="ignore"), scores=args.scores)
    truth = read_tubes(args.ground_truth, scored=False)
    scores = evaluate_tubes(detections, truth, taxonomy=args.taxonomy, scores=args.scores)
    if args.json:
        answer = {**scores.as_dict(per_class=args.by == "class"), "tubes": "linked" if linked else "tracks"}
        print(to_json(answer))
    else:
        _print(scores, linked, by_class=args.by == "class")
    return 0


def _print(scores: VideoScores, linked: bool, *, by_class: bool) -> None:
    from rich.table import Table

    from microg_da.terminal import output_console, print_table

    console = output_console()
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", "IoU 0.2", "IoU 0.5", "IoU 0.75", "IoU 0.5:0.95"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("video mAP", *_percent(scores.map_20, scores.map_50, scores.map_75, scores.map_50_95))
    if by_class:
        shown: pd.DataFrame = scores.per_class[scores.per_class.support > 0]
        for row in shown.itertuples():
            table.add_row(f"{row.name} ({row.support})", *_percent(row.ap_20, row.ap_50, row.ap_75, row.ap_50_95))
    print_table(table, console)
    found = "linked from boxes of single frames" if linked else "from person_id in the file"
    console.print(
        f"{scores.num_detections:,} tubes, {found}; to be found: {scores.num_tubes:,} tubes of "
        f"{scores.num_videos:,} videos and {scores.num_classes_with_ground_truth} classes",
        highlight=False,
    )


def _percent(*values: object) -> list[str]:
    return [f"{100 * float(str(value)):.2f}" for value in values]
