"""Named jobs that several processes and machines share through the storage of a study."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState, create_trial

from microg_da.sweeps.study import open_storage

NAME, DONE = "job", "done"
"""Attributes of a trial: the name of its job, and whether the job has ended, with or without success."""


class SharedJobs:
    """Jobs that are shared by all workers of one study. A job is restarted if its worker sends no heartbeat.

    A worker claims a job with a new trial, whose number is unique in every storage. If several workers claim a job, the
    trial with the lowest number runs it. Queued trials are not used, because in a SQLite file two workers may take the
    same queued trial.

    Args:
        url: see :func:`~microg_da.sweeps.study.open_storage`.
        study: the name of the study.
        heartbeat: seconds between heartbeats. A worker without a heartbeat for twice as long counts as lost.

    Raises:
        InputError: if the storage cannot be reached.
    """

    def __init__(self, url: str, study: str, heartbeat: int = 60) -> None:
        self._storage: Any = open_storage(url, heartbeat)
        self._study = optuna.create_study(storage=self._storage, study_name=study, load_if_exists=True)
        self._first = len(self._study.get_trials(deepcopy=False))

    def work_through(self, jobs: Sequence[str], run: Callable[[str], None], wait: float = 5.0) -> None:
        """Run the jobs that no other worker runs, and return when all jobs have ended.

        Args:
            jobs: names of the jobs. A job that failed before is run again.
            run: runs the job with a name. An exception ends the job and is raised again here.
            wait: seconds between two checks for jobs of lost workers.
        """
        while left := [job for job in jobs if not self._is_over(job)]:
            if not any(self._do(job, run) for job in left):
                time.sleep(wait)

    def _do(self, job: str, run: Callable[[str], None]) -> bool:
        """Run a job, unless another worker runs it."""
        for stale in self._storage._get_stale_trial_ids(self._study._study_id):
            self._storage.set_trial_state_values(stale, TrialState.FAIL)
        if self._is_over(job) or any(trial.state == TrialState.RUNNING for trial in self._trials(job)):
            return False
        claim = create_trial(state=TrialState.RUNNING, user_attrs={NAME: job})
        trial_id = self._storage.create_new_trial(self._study._study_id, template_trial=claim)
        number = self._storage.get_trial(trial_id).number
        earlier = [trial for trial in self._trials(job) if trial.number < number]
        if self._is_over(job) or any(trial.state == TrialState.RUNNING for trial in earlier):
            self._storage.set_trial_state_values(trial_id, TrialState.PRUNED)
            return False
        state = TrialState.FAIL
        try:
            with get_heartbeat_thread(trial_id, self._storage):
                run(job)
            state = TrialState.COMPLETE
        finally:
            self._storage.set_trial_user_attr(trial_id, DONE, True)
            self._storage.set_trial_state_values(trial_id, state, [0.0] if state == TrialState.COMPLETE else None)
        return True

    def _is_over(self, job: str) -> bool:
        return any(trial.number >= self._first and trial.user_attrs.get(DONE) for trial in self._trials(job))

    def _trials(self, job: str) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.user_attrs.get(NAME) == job]
