"""Sweeps with W&B: registers the sweep file and runs W&B agents."""

from __future__ import annotations

import subprocess
import sys

from rich.console import Console

from microg_da.errors import InputError, first_line
from microg_da.sweeps.file import SweepFile


def run_agents(sweep: SweepFile, trials: int | None, workers: int, console: Console) -> int:
    """Register the sweep and start agents on this machine. Agents on other machines can join.

    Args:
        sweep: the sweep file.
        trials: maximum number of trials of each agent; None for no limit.
        workers: number of agents.
        console: the console for messages.

    Returns:
        0 if every agent ended without an error.

    Raises:
        InputError: if W&B is not installed, the user is not logged in, or given keys are not in the file.
    """
    from microg_da.training.trackers import wandb_is_set_up

    try:
        import wandb
    except ImportError as error:
        raise InputError("--engine wandb needs the package wandb: pip install 'microg_da[wandb]'.") from error
    if sweep.overrides:
        raise InputError(f"--engine wandb does not support overrides. Add {' '.join(sweep.overrides)} to {sweep.path}.")
    if not wandb_is_set_up():
        raise InputError("--engine wandb needs a W&B account. Run `wandb login`, or use --engine optuna.")
    project = str(sweep.content.get("project", "microg_da"))
    try:
        identity = wandb.sweep(sweep.content, project=project)
    except (wandb.errors.Error, ValueError) as error:
        raise InputError(f"W&B rejected {sweep.path}: {first_line(error)}") from error
    command = [sys.executable, "-m", "wandb", "agent", "--project", project, identity]
    count = ["--count", str(trials)] if trials else []
    console.print(f"to start more agents on any machine: wandb agent --project {project} {identity}", markup=False)
    agents = [subprocess.Popen([*command[:-1], *count, identity]) for _ in range(workers)]
    return max(agent.wait() for agent in agents)
