"""`fit`: run one experiment from beginning to end."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microg_da.config import Config

ACCEPTS_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `fit`."""
    parser.epilog = (
        "Configuration keys can follow: training.epochs=5, --seed 1, --adaptation=adabn. "
        "Example: `fit --dry-run model.name=slow_r50_8x8` prints the cost of a run with this model."
    )
    parser.add_argument(
        "--experiment", metavar="NAME|FILE", help="an experiment by name or by path (default: ava2microg)"
    )
    parser.add_argument("--config", metavar="FILE", help="the resolved config.yaml of a run to repeat")
    parser.add_argument("--resume", metavar="RUN", help="the folder of an interrupted run to continue")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="parent folder of run folders (default: runs)")
    parser.add_argument(
        "--overrides",
        dest="keys",
        metavar="FILE",
        action="append",
        default=[],
        help="further keys, as a JSON file or a JSON object",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check the configuration and the data, take one step of each stage, print the cost, and write nothing",
    )
    parser.add_argument("--name", help="name of the run folder (default: method, seed and time)")


def run(args: argparse.Namespace) -> int:
    """Train, adapt, test, print the table and write the report."""
    from microg_da.config import load_config
    from microg_da.errors import InputError

    overrides = [*map(_json_text, args.keys), *args.overrides]
    if args.resume and (args.experiment or args.config or overrides or args.name):
        raise InputError(
            "--resume continues a run with its own configuration. It cannot be combined with --experiment, --config, "
            "--name or keys."
        )
    if args.resume and args.dry_run:
        raise InputError("--dry-run cannot be combined with --resume. Give --experiment or --config.")
    if args.experiment and args.config:
        raise InputError("fit: --experiment and --config cannot be combined. Give one of them.")
    config = None if args.resume else load_config(args.experiment, overrides, config=args.config)

    from microg_da.allocator import keep_freed_memory

    keep_freed_memory()
    if config is not None:
        from microg_da.training.preflight import check_quickly

        check_quickly(config)
    # Imported here, so that most errors are reported before torch is loaded.
    if config is not None and args.dry_run:
        return _dry_run(config)
    from microg_da.processes import is_leader
    from microg_da.reporting import results_table
    from microg_da.terminal import message_console, output_console, print_table
    from microg_da.workflow import fit

    console = message_console()
    finished = fit(config, resume=args.resume, root=args.runs, name=args.name, console=console)
    if not is_leader():
        return 0
    print_table(results_table(finished.results), output_console())
    console.print(f"report: {finished.report_file.resolve()}", markup=False, soft_wrap=True)
    return 0


def _dry_run(config: Config) -> int:
    from microg_da.terminal import message_console, output_console
    from microg_da.training.dry_run import dry_run

    dry_run(config, message_console()).print(output_console())
    return 0


def _json_text(argument: str) -> str:
    """Return the JSON object that `--overrides` contains or names."""
    from pathlib import Path

    from microg_da.errors import InputError

    if argument.startswith("{"):
        return argument
    try:
        text = Path(argument).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--overrides: cannot read {argument}: {error}.") from error
    if not text.startswith("{"):
        raise InputError(f"--overrides: {argument} must contain one JSON object of keys and values.")
    return text
