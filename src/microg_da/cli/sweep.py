"""`sweep`: run a hyperparameter sweep with Optuna or W&B agents."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from microg_da.sweeps.file import SweepFile

ACCEPTS_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `sweep`."""
    parser.epilog = "Configuration keys can follow, such as training.epochs=2. They apply to every trial."
    parser.add_argument("sweep", metavar="NAME|FILE", help="a W&B sweep file, by name or by path")
    parser.add_argument(
        "--engine",
        choices=("optuna", "wandb"),
        default="optuna",
        help="optuna (default) runs locally; wandb needs an account",
    )
    parser.add_argument(
        "--trials",
        type=_count,
        metavar="N",
        help="total number of trials (default: run_cap of the file, the size of the grid, or 20)",
    )
    parser.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="number of processes on this machine (default: 1)"
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="sqlite:///FILE, journal:///FILE or the URL of a database (default: a SQLite file)",
    )
    parser.add_argument("--name", help="name of the study and of its folder (default: that of the file)")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="parent folder of run folders (default: runs)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the search (default: 0)")
    parser.add_argument(
        "--heartbeat",
        type=_count,
        default=60,
        metavar="SECONDS",
        help="time between heartbeats; a trial without one for twice this time is restarted (default: 60)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the trials, print the best ones, and write the page and the best experiment."""
    from microg_da.sweeps.file import check_trials, read_sweep
    from microg_da.terminal import message_console

    console = message_console()
    if args.engine == "wandb":
        sweep = read_sweep(args.sweep, args.overrides)
        check_trials(sweep)
        from microg_da.sweeps.wandb_engine import run_agents

        return run_agents(sweep, args.trials, args.workers, console)
    # Sweep files set `logger=wandb` for W&B's agents. Optuna records the trials itself.
    sweep = read_sweep(args.sweep, ["logger=csv", *args.overrides])
    check_trials(sweep)
    return _run_optuna(args, sweep, console)


def _run_optuna(args: argparse.Namespace, sweep: SweepFile, console: Console) -> int:
    from pathlib import Path

    from microg_da.errors import InputError
    from microg_da.terminal import output_console, print_table

    try:
        from microg_da.sweeps.page import write_page
        from microg_da.sweeps.results import read_results, trials_table, write_best, write_record
        from microg_da.sweeps.worker import Plan, run_plan, total_trials
    except ImportError as error:
        raise InputError(f"--engine optuna needs {error.name}: pip install 'microg_da[optuna]'.") from error
    name = args.name or sweep.name
    folder = Path(args.runs) / "sweeps" / name
    plan = Plan(
        file=str(sweep.path),
        name=name,
        folder=folder,
        storage=args.storage or f"sqlite:///{folder / 'study.db'}",
        trials=total_trials(sweep, args.trials),
        seed=args.seed,
        heartbeat=args.heartbeat,
        overrides=sweep.overrides,
    )
    console.print(f"{name}: {sweep.method}, {plan.trials} trials → {folder}", markup=False)
    study = run_plan(plan, args.workers, console)
    results = read_results(sweep, study)
    for note in results.notes:
        console.print(f"[yellow]note[/yellow] {note}")
    print_table(trials_table(results), output_console())
    write_record(results, folder / "sweep.json")
    best = write_best(results, folder / "best.yaml")
    page = write_page(results, folder / "sweep.html")
    console.print(f"page: {page.resolve()}", markup=False, soft_wrap=True)
    if best is not None:
        console.print(f"best: {best.resolve()}", markup=False, soft_wrap=True)
    return 0 if results.complete else 1


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return number
