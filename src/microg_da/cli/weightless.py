"""`weightless`: make a data set without gravity from a data set that was filmed on Earth."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `weightless`."""
    parser.epilog = (
        "Open the new data set as ava:DIR. To roll a data set without writing files, use ava:ROOT?gravity=rolled."
    )
    add = parser.add_argument
    add("--data", required=True, metavar="SOURCE", help="data to read, e.g. jhmdb:ROOT; the split is kept")
    add("--to", dest="out", required=True, metavar="DIR", help="the data set to create or complete")
    add(
        "--mode",
        default="rolled",
        metavar="MODE",
        help="rolled: the camera turns; floating: people are cut out and float",
    )
    add(
        "--rolls",
        default="uniform",
        metavar="DISTRIBUTION",
        help="rolls in degrees: uniform, von-mises:MEAN,CONCENTRATION, normal:MEAN,DEVIATION, fixed:90,180,…",
    )
    add(
        "--spin",
        type=float,
        metavar="SPEED",
        help="largest angular speed in degrees per second (default: rolled 0, floating 10)",
    )
    add(
        "--drift",
        type=float,
        metavar="SPEED",
        help="largest speed in frame heights per second (default: rolled 0, floating 0.08)",
    )
    add("--fill", default="reflect", metavar="FILL", help="fill of the frame corners in mode rolled: reflect or blur")
    add("--backgrounds", metavar="DIR", help="pictures of walls for mode floating (default: drawn station modules)")
    add(
        "--masks", metavar="DIR", help="folder of <video_id>.npz with masks of people (default: masks/ of the data set)"
    )
    add("--segmenter", metavar="ONNX", help="a segmentation network, as an ONNX file, in place of --masks")
    add(
        "--people",
        type=int,
        default=1,
        metavar="N",
        help="largest number of people in a clip of mode floating; further people come from other clips (1)",
    )
    add("--format", default="frames", metavar="FORMAT", help="frames (folders of JPEG) or mp4 (videos)")
    add(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="short side to which larger frames are shrunk (default: unchanged)",
    )
    add(
        "--max-frames",
        type=int,
        default=150,
        metavar="N",
        help="longest clip; a longer video becomes one clip of N frames for each keyframe (150)",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of all random values (0)")
    add(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes, without effect on the result (default: the number of cores)",
    )


def run(args: argparse.Namespace) -> int:
    """Make the data set, and print a summary."""
    from pathlib import Path

    from microg_da.transforms.camera import RollDistribution
    from microg_da.weightless.making import make_data_set
    from microg_da.weightless.request import Request

    def path(text: str | None) -> Path | None:
        return None if text is None else Path(text).expanduser()

    request = Request(
        mode=args.mode,
        rolls=RollDistribution.parse(args.rolls, "--rolls"),
        spin=args.spin,
        drift=args.drift,
        fill=args.fill,
        backgrounds=path(args.backgrounds),
        masks=path(args.masks),
        segmenter=path(args.segmenter),
        people=args.people,
        format=args.format,
        short_side=args.short_side,
        max_frames=args.max_frames,
        seed=args.seed,
    )
    done = make_data_set(args.data, Path(args.out).expanduser(), request, workers=args.workers)
    print(f"{done.made:,} clips made, {done.present:,} kept, {len(done.skipped):,} skipped, {done.people:,} people")
    for reason in done.skipped.values():
        print(f"  {reason}")
    print(f"examples: {done.contact_sheet}")
    print(f"split {done.division.hash}; use it with data.target=ava:{args.out}")
    return 0
