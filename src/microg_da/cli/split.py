"""`split`: divide the clips of a data set into train, val and test splits, and write a split file."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `split`."""
    from microg_da.data import SCHEMES

    schemes = "; ".join(f"{name}: {SCHEMES.entry(name).summary}" for name in SCHEMES)
    parser.add_argument("--data", required=True, metavar="SOURCE", help="e.g. microg4m:/data/MicroG-4M")
    parser.add_argument("--scheme", required=True, help=schemes)
    parser.add_argument("--fold", help="the test fold, counted from 0; for leave-one-film-out, the name of the film")
    parser.add_argument("--folds", type=int, metavar="N", default=5, help="number of folds (5)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="seed of the stratification (0)")
    parser.add_argument("--out", metavar="FILE", help="split file to write, for use as SOURCE?scheme=FILE")


def run(args: argparse.Namespace) -> int:
    """Make the split, print its statistics, and write it."""
    from microg_da.data.sources import read_dataset_files
    from microg_da.data.splits import write_split

    options = {"scheme": args.scheme, "fold": args.fold, "folds": args.folds, "split_seed": args.seed}
    files, chosen = read_dataset_files(args.data, options)
    division = files.split(chosen)
    for split, clips in division.clips.items():
        sources = files.sources.reindex(clips).nunique()
        print(f"{split:5} {len(clips):6,} clips of {sources:,} source videos")
    print(division.leak_warning(files.sources) or "no source video is in two splits")
    print(f"hash  {division.hash}")
    if args.out:
        print(f"wrote {write_split(division, args.out)}")
    return 0
