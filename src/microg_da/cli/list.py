"""`list`: print the available names of one kind."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `list`."""
    parser.add_argument("what", nargs="?", help="models, adaptations, experiments, data, … (optional)")
    parser.add_argument("pattern", nargs="?", default="*", help="shell-style pattern, e.g. 'slow*'")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print one table."""
    from microg_da.cli.catalogue import print_catalogue

    print_catalogue(args.what, args.pattern, as_json=args.json)
    return 0
