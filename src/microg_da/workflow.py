"""`fit`: performs a complete run, from the configuration to the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from microg_da.processes import is_leader
from microg_da.reporting.report import write_report
from microg_da.reporting.tables import write_results_csv
from microg_da.runs.folder import Run
from microg_da.training.runner import run_experiment

if TYPE_CHECKING:
    from rich.console import Console

    from microg_da.config import Config


def fit(
    config: Config | None = None,
    *,
    resume: str | Path | None = None,
    root: str | Path = "runs",
    name: str | None = None,
    console: Console | None = None,
) -> Run:
    """Run an experiment, or continue an interrupted run, and write its results and its report.

    Example:
        >>> from rich.console import Console
        >>> from microg_da import fit, load_config
        >>> config = load_config("ava2microg", [
        ...     "adaptation=adabn", "training.epochs=1", "training.batch_size=4", "model.num_frames=2",
        ...     "data.image_size=48", "synthetic.train_clips=8", "synthetic.val_clips=4", "synthetic.test_clips=4",
        ...     "synthetic.workers=0",
        ... ])
        >>> run = fit(config, name="first", console=Console(quiet=True))
        >>> run.path.as_posix()
        'runs/ava2microg/first'
        >>> 0 <= run.results.adapted.target.map <= 1
        True

    Args:
        config: the experiment; not valid with ``resume``.
        resume: the folder of the run to continue, with its own configuration.
        root: the parent folder of run folders.
        name: the folder's name; by default method, seed and time.
        console: the console for progress.

    Returns:
        The finished run; ``run.results`` holds the scores, and ``report.html`` is in ``run.path``.

    Raises:
        InputError: for an error that the user can correct.
    """
    run = run_experiment(config, resume=resume, root=root, name=name, console=console)
    if is_leader():
        write_results_csv(run.results, run.results_csv)
        write_report(run.path)
    return run
