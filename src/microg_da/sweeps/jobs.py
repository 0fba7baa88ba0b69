"""Named pieces of work that several processes and machines share through the storage of a study."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import TrialState

from microg_da.sweeps.study import begin_stale_trials_again, open_storage

OPEN = (TrialState.WAITING, TrialState.RUNNING)
NAME = "job"
"""The attribute of a trial that says which piece of work it is."""


class SharedJobs:
    """A queue of jobs. Each is done by one worker; one whose worker shows no sign of life is queued again.

    Args:
        url: see :func:`~microg_da.sweeps.study.open_storage`.
        study: the name of the study; workers that name the same one share their jobs.
        heartbeat: seconds between signs of life; after twice as long without one, a worker counts as lost.

    Raises:
        InputError: if the storage cannot be reached.
    """

    def __init__(self, url: str, study: str, heartbeat: int = 60) -> None:
        storage = open_storage(url, heartbeat)
        self._study = optuna.create_study(storage=storage, study_name=study, load_if_exists=True)

    def offer(self, jobs: Sequence[str]) -> None:
        """Queue the jobs that nobody has queued. Called once on each machine, before its workers begin.

        Args:
            jobs: those that are not done yet.
        """
        known = {trial.user_attrs.get(NAME) for trial in self._trials()}
        for job in jobs:
            if job not in known:
                self._study.enqueue_trial({}, user_attrs={NAME: job})

    def work_through(self, jobs: Sequence[str], run: Callable[[str], None], wait: float = 5.0) -> None:
        """Do the jobs that nobody else does, and return when none is left to wait for.

        Args:
            jobs: those to wait for.
            run: does one. Of two machines that begin at the same moment both may queue a job, so that a job may come
                again when it is done.
            wait: seconds between looks for jobs that come free.
        """
        mine = set(jobs)
        while open_ones := [trial for trial in self._trials() if trial.user_attrs.get(NAME) in mine]:
            if any(trial.state == TrialState.WAITING for trial in open_ones):
                self._study.optimize(lambda trial: self._one(trial, run), n_trials=1, catch=(Exception,))
            else:
                time.sleep(wait)
            begin_stale_trials_again(self._study)

    def _one(self, trial: optuna.Trial, run: Callable[[str], None]) -> float:
        job = trial.user_attrs.get(NAME)
        # Another worker took the last one in between, or two machines offered a job at the same moment.
        if job is None or any(
            other.user_attrs.get(NAME) == job and other.number < trial.number for other in self._trials()
        ):
            raise optuna.TrialPruned
        run(str(job))
        return 0.0

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        """Those that wait or run."""
        return self._study.get_trials(deepcopy=False, states=OPEN)
