"""`temporal-window`: plot mAP over the temporal windows of runs."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `temporal-window`."""
    parser.add_argument("folders", nargs="*", metavar="RUN", help="run folders, or folders that hold them")
    parser.add_argument("--sweep", metavar="NAME", help="a sweep whose runs are plotted, e.g. temporal_window")
    parser.add_argument(
        "--runs", metavar="DIR", default="runs", help="parent folder of the sweep's folder (default: runs)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="HTML page to write (default: temporal_window.html in the folder above the runs)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(args: argparse.Namespace) -> int:
    """Print a table for each variant and write the page."""
    from pathlib import Path

    from microg_da.errors import InputError
    from microg_da.files import to_json
    from microg_da.reporting import run_comparison, temporal_window
    from microg_da.reporting.tables import VARIANT_TITLES
    from microg_da.terminal import message_console, output_console, print_table

    of_sweep = [Path(args.runs) / "sweeps" / args.sweep] if args.sweep else []
    folders = [*args.folders, *of_sweep]
    if not folders:
        raise InputError("temporal-window: nothing to plot. Give run folders, or --sweep NAME.")
    found = temporal_window.read_windows(folders)
    above = of_sweep[0] if of_sweep else run_comparison.default_page(run_comparison.find_runs(folders)).parent
    page = temporal_window.write_windows(found, args.output or above / "temporal_window.html")
    notices = message_console()
    if args.json:
        print(to_json({"unit": found.unit, "windows": found.table.to_dict("records"), "notes": found.notes}))
    else:
        for variant in found.variants:
            print(f"{VARIANT_TITLES[variant]}, target mAP × 100")
            print_table(temporal_window.windows_table(found, variant), output_console())
        for note in found.notes:
            notices.print(f"note {note}", markup=False)
    notices.print(f"page: {page.resolve()}", soft_wrap=True, markup=False)
    return 0
