"""Execution of a run: checks, data, folder, and all stages."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from microg_da.adaptation import uses_target_labels
from microg_da.config import Config
from microg_da.data.datamodule import DomainDatasets
from microg_da.processes import is_leader
from microg_da.runs.detectors import settle_roi_stride
from microg_da.runs.folder import Run, check_name, embedded_notice
from microg_da.terminal import message_console
from microg_da.training.experiment import Experiment
from microg_da.training.interruption import explaining_failures, stopping_cleanly
from microg_da.training.preflight import check


def run_experiment(
    config: Config | None = None,
    *,
    resume: str | Path | None = None,
    root: str | Path = "runs",
    name: str | None = None,
    console: Console | None = None,
) -> Run:
    """Run an experiment, or continue an interrupted run.

    Call :func:`microg_da.allocator.keep_freed_memory` first, as the command line does, for faster training steps of
    large networks on a CPU.

    Args:
        config: the experiment; not with ``resume``.
        resume: the folder of a run to continue with its own configuration.
        root: the folder for run folders.
        name: the name of the run folder; by default it contains method, seed and time.
        console: the console for messages.

    Returns:
        The finished run. The report is not written.

    Raises:
        InputError: for an error that the user can correct.
    """
    if (config is None) == (resume is None):
        raise ValueError("run_experiment: give either config or resume, not both")
    # Only the leader of several processes prints and writes.
    console = (console or message_console()) if is_leader() else Console(stderr=True, quiet=True)
    # Errors in the request are reported before clips are rendered and before the folder is created.
    if config is not None:
        check_name(name)
        check(config)
        config, note = settle_roi_stride(config)
        if note is not None:
            console.print(f"[yellow]note[/yellow] {note}", highlight=False, soft_wrap=True)
        run = Run.plan(config, root, name)
    else:
        run = Run.open(resume)  # type: ignore[arg-type]
        config = run.config
        check(config, resumes=True)
    announce(config, console)
    datasets = DomainDatasets(config)
    datasets.open_for_fit()
    if resume is None:
        run.create()
    console.print(f"→ {run.path}", highlight=False, soft_wrap=True)
    with run.recording_failure(), stopping_cleanly(run.path), explaining_failures(run.path):
        Experiment(run, datasets, console).complete()
    return run


def announce(config: Config, console: Console) -> None:
    """Print a description of the run; the first line tells whether the data is embedded."""
    if notice := embedded_notice(config):
        console.print(f"[yellow]note[/yellow] {notice}", highlight=False)
    console.print(
        f"[bold]{config.experiment}[/bold] {config.data.source} → {config.data.target}, model {config.model.name}, "
        f"adaptation {config.adaptation.name}, selection {config.selection}"
        + (" [red bold]oracle[/red bold]" if uses_target_labels(config) else "")
        + f", seed {config.seed}",
        highlight=False,
    )
