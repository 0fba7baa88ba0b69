"""`predict`: a video in, detections and the video with what was found drawn on it out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from microg_da.video.action_scorer import ActionScorer
    from microg_da.video.box_sources import People
    from microg_da.video.reader import Video

QUARTER_TURNS = 4

_DECISIVE = ("boxes", "detector", "person_threshold", "roll_search", "taxonomy", "short_side")
"""Arguments that decide the results, besides those in the options and the detector's name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `predict`."""
    parser.add_argument(
        "--run", dest="run_folder", metavar="RUN", help="a run folder; its detector sees videos as its test split"
    )
    parser.add_argument("--row", help="of a run: source_only, adapted (default) or target_supervised")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="a run's detector.pt, a folder made by export, or a published weight file"
    )
    parser.add_argument("--model", metavar="NAME", help="the network of a published weight file; see `list models`")
    parser.add_argument("--taxonomy", default="microg50", help="classes of a published weight file (microg50)")
    parser.add_argument("--video", nargs="+", required=True, metavar="FILE|FOLDER", help="what to look at")
    parser.add_argument("--boxes", metavar="CSV", help="video_id,seconds,x1,y1,x2,y2[,person_id], boxes in [0, 1]")
    parser.add_argument("--detector", metavar="ONNX", help="or find people with a YOLOX network")
    parser.add_argument("--person-threshold", type=float, default=0.4, help="least score of a person found (0.4)")
    parser.add_argument(
        "--roll-search",
        nargs="?",
        type=int,
        const=QUARTER_TURNS,
        metavar="N",
        help="look for people in the frame turned by N rolls (4), and show how they lie",
    )
    parser.add_argument("--every", default="0.5s", metavar="SECONDS", help="from keyframe to keyframe (0.5s)")
    parser.add_argument("--threshold", type=float, default=0.2, help="least probability of an action (0.2)")
    parser.add_argument("--smooth", default="1s", metavar="SECONDS", help="average a person's scores over it (1s)")
    parser.add_argument("--video-format", default="mp4", help="mp4 (default), gif (the first 20 seconds) or none")
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="of the frames that the detector sees")
    parser.add_argument("--batch-size", type=int, default=8, help="windows scored at once (8)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, …")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="for detections.csv and a folder per video")


def run(args: argparse.Namespace) -> int:
    """Predict, and say what was found."""
    from pathlib import Path

    from microg_da.errors import InputError, unknown_name
    from microg_da.terminal import message_console, output_console
    from microg_da.video.folder import predict_videos, print_summary
    from microg_da.video.predict import PredictOptions
    from microg_da.video.reader import check_names, find_video_files
    from microg_da.video.writer import VIDEO_FORMATS

    if args.video_format not in VIDEO_FORMATS:
        raise unknown_name("video format", args.video_format, VIDEO_FORMATS, where="--video-format")
    if not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold {args.threshold}: a number in [0, 1] is expected")
    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: must be 1 or more")
    options = PredictOptions(
        every=_seconds(args.every, "--every", least=1 / 30),
        threshold=args.threshold,
        smooth=_seconds(args.smooth, "--smooth", least=0.0),
        video_format=args.video_format,
    )
    paths = [path for given in args.video for path in find_video_files(given)]
    check_names(paths)
    people = _people(args, [path.stem for path in paths], options.every)
    scorer = _scorer(args)
    settings = {name: getattr(args, name) for name in _DECISIVE}
    console = message_console()
    done = predict_videos(paths, people, scorer, options, args.output, settings=settings, console=console)
    print_summary(done, output_console())
    print(f"detections of {len(done)} video{'s' * (len(done) != 1)}: {Path(args.output) / 'detections.csv'}")
    return 0


def _people(args: argparse.Namespace, video_ids: list[str], every: float) -> Callable[[Video], People]:
    """What makes, for each video, the one who says who is where."""
    from microg_da.errors import InputError
    from microg_da.video.box_sources import DetectedPeople, ListedPeople, read_box_table
    from microg_da.video.person_detector import find_persons

    if (args.boxes is None) == (args.detector is None):
        raise InputError("predict: give either --boxes CSV or --detector yolox.onnx, which say where people are")
    if args.boxes is not None:
        if args.roll_search is not None:
            raise InputError("predict: --roll-search turns the frame for --detector; --boxes says where people are")
        table = read_box_table(args.boxes, video_ids)
        return lambda video: ListedPeople(table[table.video_id == video.video_id], every, video)
    find = find_persons(args.detector, args.person_threshold, args.roll_search)
    return lambda video: DetectedPeople(find, every)


def _scorer(args: argparse.Namespace) -> ActionScorer:
    from dataclasses import replace

    import torch

    from microg_da.errors import InputError, first_line
    from microg_da.video.detector_loading import scorer_of_file, scorer_of_run

    if (args.run_folder is None) == (args.checkpoint is None):
        raise InputError("predict: give either --run RUN or --checkpoint FILE, which say with which detector")
    if args.run_folder is not None:
        if args.model is not None:
            raise InputError("predict: a run knows its model; --model goes with --checkpoint")
        scorer = scorer_of_run(args.run_folder, args.row)
    else:
        scorer = scorer_of_file(args.checkpoint, args.model, taxonomy=args.taxonomy)
    if args.short_side is not None and args.short_side < 16:
        raise InputError(f"--short-side {args.short_side}: must be 16 or more")
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    try:
        scorer.detector.to(torch.device(wanted))
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {args.device}: {first_line(error)}") from error
    return replace(scorer, batch_size=args.batch_size, short_side=args.short_side or scorer.short_side)


def _seconds(text: str, option: str, least: float) -> float:
    """``0.5s`` or ``0.5``."""
    from microg_da.errors import InputError

    try:
        seconds = float(text.strip().removesuffix("s"))
    except ValueError:
        seconds = float("nan")
    if not least - 1e-9 <= seconds <= 3600:
        raise InputError(f"{option} {text}: seconds are expected, such as 0.5s, from {least:.2g} to 3600")
    return seconds
