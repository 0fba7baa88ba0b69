"""`prepare`: make a training tree from the released MicroG-4M, or a table of person boxes for a folder of clips."""

from __future__ import annotations

import argparse

_RELEASE = "microg4m-release"
_FOLDER = "folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `prepare`."""
    origins = f"{_RELEASE}:ROOT or {_FOLDER}:ROOT"
    parser.add_argument("--from", dest="origin", required=True, metavar="KIND:ROOT", help=f"data to read: {origins}")
    parser.add_argument(
        "--to",
        dest="out",
        required=True,
        metavar="DIR|CSV",
        help=f"the training tree to create or complete; with {_FOLDER}, the table of boxes to write",
    )
    parser.add_argument("--scheme", default="by-source", help="a split scheme or a split file (by-source)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what to do with damaged videos")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="number of videos that are decoded at once (default: the number of cores)"
    )
    parser.add_argument(
        "--person-detector", metavar="ONNX", help=f"with {_FOLDER}: a YOLOX network, as an ONNX file, that finds people"
    )
    parser.add_argument(
        "--person-threshold", type=float, default=0.4, metavar="SCORE", help="lowest score of a detected person"
    )


def run(args: argparse.Namespace) -> int:
    """Prepare the data that `--from` names, and print a summary."""
    from microg_da.errors import InputError, unknown_name

    kind, _, root = args.origin.partition(":")
    if kind not in (_RELEASE, _FOLDER):
        raise unknown_name("kind of data to prepare", kind, [_RELEASE, _FOLDER], where="--from")
    if not root:
        raise InputError(f"--from {args.origin}: expected {kind}:ROOT, where ROOT is the folder of the data")
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: must be 1 or more")
    if (kind == _FOLDER) != (args.person_detector is not None):
        raise InputError(f"--person-detector and --from {_FOLDER}:ROOT need each other. Give both or neither.")
    return _find_boxes(args) if kind == _FOLDER else _make_tree(args, root)


def _make_tree(args: argparse.Namespace, root: str) -> int:
    """Extract frames and write tables."""
    from microg_da.data.prepare import prepare
    from microg_da.data.sources import read_dataset_files

    files, options = read_dataset_files(f"microg4m:{root}", {"scheme": args.scheme, "on_error": args.on_error})
    done = prepare(files, options, args.out, jobs=args.jobs)
    print(f"{done.extracted:,} clips extracted, {done.present:,} kept, {len(done.skipped):,} skipped")
    for reason in done.skipped.values():
        print(f"  {reason}")
    print(f"split {done.division.scheme} ({done.division.hash}); use it with data.source=microg4m:{args.out}")
    return 0


def _find_boxes(args: argparse.Namespace) -> int:
    """Detect people in the middle frame of each clip, and write their boxes."""
    from microg_da.data.sources import read_dataset_files
    from microg_da.video.keyframe_boxes import find_keyframe_boxes
    from microg_da.video.person_detector import create_person_detector

    files, options = read_dataset_files(args.origin)
    detector = create_person_detector(args.person_detector, args.person_threshold)
    clips = sorted(set(files.annotations.video_id))
    done = find_keyframe_boxes(clips, files.frames(options.decode), detector, args.out)
    print(f"{done.boxes:,} boxes of {done.clips:,} clips; {done.looked_at:,} examined, {done.empty:,} without a person")
    print(f"use it with {args.origin}{'&' if '?' in args.origin else '?'}boxes={args.out}")
    return 0
