"""`ingest`: turn new footage into clips with tracked people, ready for labelling, and import the labels."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `ingest`."""
    parser.add_argument("videos", nargs="*", metavar="VIDEO", help="source videos, or folders of them")
    parser.add_argument("--detector", metavar="ONNX", help="a YOLOX network, as an ONNX file, that finds people")
    parser.add_argument(
        "--person-threshold",
        type=float,
        metavar="PROBABILITY",
        default=0.4,
        help="lowest score of a detected person (0.4)",
    )
    parser.add_argument(
        "--roll-search",
        nargs="?",
        const="adaptive",
        metavar="N",
        help="detect people in N rolled copies of the frame (without N: 4 to 8, as needed)",
    )
    parser.add_argument(
        *("--footage", "--domain"),
        metavar="FOOTAGE",
        default="real",
        help="footage of the videos: real (default, recordings) or simulated (films); --domain is another name",
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="FILE", help="labels to import, in the format CVAT for video 1.1, as XML or ZIP"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the data set to create or complete")


def run(args: argparse.Namespace) -> int:
    """Cut videos into clips, or import labels; print a summary."""
    from pathlib import Path

    from microg_da.errors import InputError, unknown_name
    from microg_da.terminal import message_console, output_console
    from microg_da.video.ingest import FOOTAGE, ingest, print_clips, take_labels
    from microg_da.video.person_detector import create_person_detector
    from microg_da.video.reader import check_names, find_video_files

    if not args.videos and not args.labels:
        raise InputError(
            "ingest: nothing to do. Give videos to cut into clips, or --labels FILE to import labels of clips."
        )
    if args.footage not in FOOTAGE:
        raise unknown_name("footage", args.footage, FOOTAGE, where="--footage")
    if args.videos:
        if args.detector is None:
            raise InputError("ingest: videos need a person detector. Give --detector yolox.onnx.")
        paths = [path for given in args.videos for path in find_video_files(given)]
        check_names(paths)
        settings = {name: getattr(args, name) for name in ("detector", "person_threshold", "roll_search")}
        detector = create_person_detector(args.detector, args.person_threshold, args.roll_search)
        clips = ingest(paths, detector, args.output, footage=args.footage, settings=settings, console=message_console())
        print_clips(clips, output_console())
        kept = int(clips.kept.sum())
        print(f"{kept:,} clips: {Path(args.output) / 'videos'}; to label: {Path(args.output) / 'cvat'}")
        if not kept:
            print("no clip shows a person without a cut; clips.csv gives the reason for each piece")
    if args.labels:
        labelled = take_labels([Path(path) for path in args.labels], args.output)
        actions = sum(len(clip.actions) for clip in labelled)
        print(f"{len(labelled):,} clips labelled with {actions:,} actions; use them as microg4m:{args.output}")
    return 0
