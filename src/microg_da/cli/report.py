"""`report`: write the HTML report of a run from its files."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `report`."""
    parser.add_argument("run_folders", nargs="+", metavar="RUN", help="run folders, runs/<experiment>/<name>")


def run(args: argparse.Namespace) -> int:
    """Write report.html into each run folder and print its path."""
    from microg_da.reporting import write_report

    for folder in args.run_folders:
        print(write_report(folder).resolve())
    return 0
