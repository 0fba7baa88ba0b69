"""`compare`: compare runs side by side."""

from __future__ import annotations

import argparse

from microg_da.cli import compare_detections
from microg_da.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `compare`."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders, or folders that hold them")
    parser.add_argument(
        "--baseline", metavar="SETTING", help="setting to compare with (default: that of the first run)"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="HTML page to write (default: compare.html in the folder above the runs)"
    )
    parser.add_argument("--labels", nargs="+", metavar="TEXT", help="names for the runs of each RUN, in order")
    parser.add_argument(
        "--format", default="table", metavar="NAME", help="format of the printed table: table, csv, markdown or latex"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    compare_detections.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table and write the page."""
    from microg_da.errors import unknown_name

    formats = ("table", "csv", "markdown", "latex")
    if args.format not in formats:
        raise unknown_name("format", args.format, formats, where="--format")
    if args.format != "table" and (args.json or args.detections):
        raise InputError("compare: --format applies to runs and cannot be combined with --json or --detections.")
    if args.detections:
        return compare_detections.run(args)
    if not args.runs:
        raise InputError("compare: nothing to compare. Give run folders, or --detections with --ground-truth.")
    from microg_da.files import to_json
    from microg_da.reporting import run_comparison
    from microg_da.reporting.comparison_formats import format_comparison
    from microg_da.terminal import message_console, output_console, print_table

    found = run_comparison.compare_runs(args.runs, args.baseline, args.labels)
    page = run_comparison.write_comparison(
        found, args.output or run_comparison.default_page(run_comparison.find_runs(args.runs))
    )
    notices = message_console()
    if args.json:
        print(to_json(found.as_dict()))
    elif args.format != "table":
        print(format_comparison(found, args.format), end="")
    else:
        print_table(run_comparison.comparison_table(found), output_console())
    if not args.json:
        for note in found.notes:
            notices.print(f"[yellow]note[/yellow] {note}", soft_wrap=True)
    notices.print(f"page: {page.resolve()}", soft_wrap=True, markup=False)
    return 0
