"""`audit`: report the errors, leaks and contents of a data set."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `audit`."""
    parser.add_argument(
        "--data", required=True, metavar="SOURCE", help="e.g. microg4m:/data/MicroG-4M?scheme=by-source"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--html", metavar="FILE", help="also write an HTML page")
    parser.add_argument("--tables-only", action="store_true", help="check the tables only, and read no frames")


def run(args: argparse.Namespace) -> int:
    """Examine the data and print what was found."""
    from microg_da.data.audit import audit, division_of, frames_of
    from microg_da.data.audit_page import audit_html, print_audit
    from microg_da.data.options import parse_source
    from microg_da.data.sources import read_dataset_files
    from microg_da.files import to_json, write_text
    from microg_da.terminal import message_console, output_console, progress_bar

    files, options = read_dataset_files(args.data, check_boxes=False)
    frames = None if args.tables_only else frames_of(files, options.decode)
    division = division_of(files, options, chosen="scheme" in parse_source(args.data).options)
    with progress_bar(message_console()) as progress:
        result = audit(files, division, source=args.data, frames=frames, progress=progress)
    if args.html:
        write_text(args.html, audit_html(result, frames))
    if args.json:
        print(to_json(result.as_dict()))
    else:
        print_audit(result, output_console())
    return 0
