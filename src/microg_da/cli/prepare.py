"""`prepare`: make a training tree from MicroG-4M as released."""

from __future__ import annotations

import argparse

_RELEASE = "microg4m-release"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `prepare`."""
    parser.add_argument("--from", dest="origin", required=True, metavar=f"{_RELEASE}:ROOT", help="what to read")
    parser.add_argument("--to", dest="out", required=True, metavar="DIR", help="the training tree to make or complete")
    parser.add_argument("--scheme", default="by-source", help="a split scheme or a split file (by-source)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what to do with damaged videos")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="how many videos are decoded at once (the number of cores)"
    )


def run(args: argparse.Namespace) -> int:
    """Extract frames, write tables, and say what was done."""
    from microg_da.data.prepare import prepare
    from microg_da.data.sources import read_dataset_files
    from microg_da.errors import InputError, unknown_name

    kind, _, root = args.origin.partition(":")
    if kind != _RELEASE:
        raise unknown_name("kind of data to prepare", kind, [_RELEASE], where="--from")
    if not root:
        raise InputError(f"--from {args.origin}: write {_RELEASE}:ROOT, ROOT being the folder of the release")
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: must be 1 or more")
    files, options = read_dataset_files(f"microg4m:{root}", {"scheme": args.scheme, "on_error": args.on_error})
    done = prepare(files, options, args.out, jobs=args.jobs)
    print(f"{done.extracted:,} clips extracted, {done.present:,} were there, {len(done.skipped):,} skipped")
    for reason in done.skipped.values():
        print(f"  {reason}")
    print(f"split {done.division.scheme} ({done.division.hash}); use it with data.source=microg4m:{args.out}")
    return 0
