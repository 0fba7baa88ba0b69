"""`roll-response`: measure mAP as a function of camera roll."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from microg_da.evaluation.roll_response import RollResponse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `roll-response`."""
    parser.add_argument(
        "--run",
        dest="run_folders",
        required=True,
        nargs="+",
        metavar="RUN",
        help="run folders, runs/<experiment>/<name>",
    )
    parser.add_argument(
        "--variant",
        "--row",
        metavar="NAME",
        help="variant: source_only, adapted (default if the run has it) or target_supervised",
    )
    parser.add_argument(
        "--angles", type=int, default=24, metavar="N", help="number of evenly spaced angles, from 0° (default: 24)"
    )
    parser.add_argument("--domain", default="source", help="domain of the test clips: source (default) or target")
    parser.add_argument("--data", metavar="SOURCE", help="test clips of another data set, in place of the run's own")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for the files (default: RUN/roll_response); for several runs, folder of the joint figure",
    )
    parser.add_argument("--labels", nargs="+", metavar="TEXT", help="names of the runs in the joint figure")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each run instead of a table")


def run(args: argparse.Namespace) -> int:
    """Measure each run, write its files, and print a table or JSON."""
    from microg_da.errors import InputError, unknown_name

    if args.domain not in ("source", "target"):
        raise unknown_name("domain", args.domain, ("source", "target"), where="--domain")
    several = len(args.run_folders) > 1
    if several and not args.output:
        raise InputError("roll-response: with several runs, --output is required: the path of the joint figure.")
    if args.labels and len(args.labels) != len(args.run_folders):
        raise InputError(f"roll-response: {len(args.labels)} --labels for {len(args.run_folders)} runs.")
    labels = args.labels or [Path(folder).resolve().name for folder in args.run_folders]
    if len(set(labels)) < len(labels):
        raise InputError(f"roll-response: runs of the same name ({', '.join(labels)}) need different --labels.")

    from microg_da.reporting.roll import write_roll_figure
    from microg_da.runs.layout import RunFolder
    from microg_da.terminal import message_console

    console = message_console()
    curves = {}
    for label, folder in zip(labels, args.run_folders, strict=True):
        output = Path(args.output) if args.output and not several else RunFolder(folder).roll_response_folder
        response = _measure(folder, output, args, console)
        curves[label] = response.curves["all"]
    if several:
        for file in write_roll_figure(curves, Path(args.output) / "roll_response", "mAP × 100 against camera roll"):
            console.print(f"joint figure: {file}", highlight=False, soft_wrap=True)
    return 0


def _measure(folder: str, output: Path, args: argparse.Namespace, console: Console) -> RollResponse:
    """Measure one run and write JSON, CSV and the figure."""
    from microg_da.allocator import keep_freed_memory
    from microg_da.files import replacing, to_json
    from microg_da.inference.roll_response import even_angles, measure_roll_response
    from microg_da.reporting.roll import roll_table, write_roll_figure
    from microg_da.runs.detectors import load_run_detector
    from microg_da.taxonomy import GROUP_NAMES
    from microg_da.terminal import output_console, print_table, progress_bar

    keep_freed_memory()
    angles = even_angles(args.angles)
    loaded = load_run_detector(folder, args.variant)
    name = f"{loaded.variant}_{_file_name(args.data) if args.data else args.domain}"
    with progress_bar(console) as progress:
        response, facts = measure_roll_response(
            loaded.predictor,
            loaded.run.config,
            angles,
            output / f"{name}.json",
            facts=loaded.facts(),
            domain=args.domain,
            data=args.data,
            progress=progress,
        )
    with replacing(output / f"{name}.csv") as temporary:
        response.as_table().to_csv(temporary, index=False)
    groups = response.labels.index[response.labels["kind"] == "group"]
    curves = {GROUP_NAMES.get(key, key): response.curves[key] for key in ("all", *groups)}
    title = f"{facts['run']}, {loaded.variant}\non {facts['data']}: mAP × 100"
    write_roll_figure(curves, output / name, title)
    if args.json:
        print(to_json({**facts, **response.as_dict()}))
    else:
        title = f"{facts['run']}, {loaded.variant}, rolled {facts['data']}"
        print_table(roll_table(response, title), output_console())
    console.print(f"→ {output / name}.json, .csv, .svg, .png", highlight=False, soft_wrap=True)
    return response


def _file_name(source: str) -> str:
    """Return a data SOURCE as part of a file name."""
    import re

    return re.sub(r"[^A-Za-z0-9.]+", "-", source).strip("-")
