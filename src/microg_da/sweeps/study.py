"""The study of a sweep: its storage, its search method, and the trials that count."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from microg_da.errors import InputError, first_line
from microg_da.sweeps.distributions import Choice
from microg_da.sweeps.file import Hyperband, SweepFile
from microg_da.sweeps.metric import Goal

MAX_RETRIES = 3
"""The maximum number of restarts of a trial after its worker died."""

WORKER = "worker"
"""The attribute of a trial with the name of the worker that started it."""

_JOURNAL = "journal:///"
_SURPLUS = "surplus"

optuna.logging.set_verbosity(optuna.logging.ERROR)


class JournalWithHeartbeat(JournalStorage, BaseHeartbeat):
    """A journal file with heartbeats of running trials, which Optuna supports for databases only.

    Args:
        path: the file; several machines may share it.
        interval: seconds between heartbeats. A trial without a heartbeat for twice as long has lost its worker.
    """

    def __init__(self, path: str, interval: int) -> None:
        super().__init__(JournalFileBackend(path))
        self._interval = interval

    def record_heartbeat(self, trial_id: int) -> None:
        """Store the time in the trial. The clocks of machines that share a file must agree within a few seconds."""
        if not self.get_trial(trial_id).state.is_finished():
            self.set_trial_system_attr(trial_id, "heartbeat", time.time())

    def get_heartbeat_interval(self) -> int:
        """Return the seconds between heartbeats."""
        return self._interval

    def get_heartbeat_stale_trial_callback(self) -> Any:
        """Return the callback for a trial that lost its worker."""
        with _experimental():
            return RetryHeartbeatStaleTrialCallback(MAX_RETRIES)

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        latest = time.time() - 2 * self._interval
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [t._trial_id for t in running if t.system_attrs.get("heartbeat", latest) < latest]


def open_storage(url: str, heartbeat: int) -> BaseStorage:
    """Open the storage at a URL: ``sqlite:///FILE``, ``journal:///FILE``, ``postgresql+psycopg://…``, ``mysql+…``.

    Args:
        url: the URL of the storage. Messages do not show its password.
        heartbeat: seconds between heartbeats of a running trial.

    Raises:
        InputError: if the storage cannot be reached, or a driver is not installed.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if url.startswith(_JOURNAL):
            path = Path(url.removeprefix(_JOURNAL))
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalWithHeartbeat(str(path), heartbeat)
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    except (OSError, SQLAlchemyError) as error:
        raise InputError(f"--storage {url}: {first_line(error)}.{_URLS}") from error
    # A SQLite file is locked as a whole, so workers wait for each other.
    options = {"connect_args": {"timeout": 60}} if parsed.get_backend_name() == "sqlite" else {"pool_pre_ping": True}
    try:
        with _experimental():
            return RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_RETRIES),
            )
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        shown = parsed.render_as_string(hide_password=True)
        reason = first_line(error).replace(str(parsed.password or "\0"), "***")
        raise InputError(f"--storage {shown}: {reason}.{_URLS}") from error


_URLS = " Expected sqlite:///FILE, journal:///FILE or the URL of a database, as postgresql+psycopg://USER@HOST/NAME."


@contextmanager
def _experimental() -> Iterator[None]:
    """Disable Optuna's warnings about experimental features in the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def open_study(sweep: SweepFile, name: str, storage: BaseStorage, seed: int) -> Study:
    """Create or open the study of the sweep.

    Raises:
        InputError: if the storage contains a study with this name and other settings.
    """
    goal: Goal = "minimize" if sweep.metric is None else sweep.metric.goal
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=goal,
        sampler=make_sampler(sweep, seed),
        pruner=make_pruner(sweep.hyperband),
        load_if_exists=True,
    )
    mark = _mark(sweep, seed)
    stored = study.user_attrs.get("sweep")
    if stored is None:
        study.set_user_attr("sweep", mark)
    elif stored != mark:
        differing = [key for key in mark if stored.get(key) != mark[key]]
        raise InputError(
            f"the study {name!r} and {sweep.path} have different values of {' and '.join(differing)}. "
            f"Give the changed sweep another --name."
        )
    return study


def _mark(sweep: SweepFile, seed: int) -> dict[str, object]:
    """Return the values that identify a sweep when it is run again."""
    keys = ("method", "metric", "parameters", "program", "command", "early_terminate")
    content = {key: sweep.content.get(key) for key in keys} | {"overrides": list(sweep.overrides), "seed": seed}
    mark: dict[str, object] = json.loads(json.dumps(content, default=str))
    return mark


def make_sampler(sweep: SweepFile, seed: int) -> BaseSampler:
    """Return the sampler of the file's method: grid, random or tree-structured Parzen estimators."""
    if sweep.method == "grid":
        return GridSampler({name: p.labels for name, p in sweep.varied.items() if isinstance(p, Choice)}, seed=seed)
    if sweep.method == "random":
        return RandomSampler(seed)
    # Running trials of other workers count as bad trials, so that workers do not all draw similar values.
    with _experimental():
        return TPESampler(seed=seed, constant_liar=True)


def reseed(study: Study, sweep: SweepFile, seed: int, number: int) -> None:
    """Seed the sampler by the number of the trial, so that the values do not depend on the worker."""
    if sweep.method != "grid":
        study.sampler = make_sampler(sweep, (seed * 1_000_003 + number) % 2**32)


def make_pruner(hyperband: Hyperband | None) -> BasePruner:
    """Return the pruner of the file, Hyperband or no early stopping."""
    if hyperband is None:
        return NopPruner()
    return HyperbandPruner(hyperband.min_iter, hyperband.max_iter or "auto", hyperband.eta)


# ----------------------------------------------------------------------------------------------- which trials count


def origin(trial: FrozenTrial) -> int:
    """Return the number of the trial's first attempt."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def counting_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials except restarted trials and trials beyond the total."""
    trials = study.get_trials(deepcopy=False)
    replaced = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    return [t for t in trials if t.number not in replaced and _SURPLUS not in t.user_attrs]


def is_surplus(study: Study, trial: optuna.Trial, total: int) -> bool:
    """Return whether the total was reached before this trial: several workers may start a last trial at once."""
    this = study._storage.get_trial(trial._trial_id)
    if sum(origin(other) < origin(this) for other in counting_trials(study)) < total:
        return False
    trial.set_user_attr(_SURPLUS, True)
    if "grid_id" in this.system_attrs:
        # The point of the grid is released for a later sweep with a larger total.
        study._storage.set_trial_system_attr(trial._trial_id, "grid_id", -1)
    return True


def reached_target(study: Study, sweep: SweepFile) -> bool:
    """Return whether a trial has reached ``metric.target`` of the file."""
    if sweep.metric is None or sweep.metric.target is None:
        return False
    values = [t.value for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.value is not None]
    sign = 1 if sweep.metric.goal == "maximize" else -1
    return any(sign * value >= sign * sweep.metric.target for value in values)


def begin_stale_trials_again(study: Study) -> None:
    """Queue the trials whose workers have sent no heartbeat for too long."""
    with _experimental():
        optuna.storages.fail_stale_trials(study)


def begin_lost_trials_again(study: Study, worker: str, reason: str) -> list[tuple[int, int | None]]:
    """Mark the running trials of a dead worker as failed, and queue each again, at most :data:`MAX_RETRIES` times.

    Args:
        study: the study.
        worker: the name of the worker, which is stored in the attribute :data:`WORKER` of its trials.
        reason: the reason of the death, which is stored in a trial without a next attempt.

    Returns:
        For each trial its number and the number of its next attempt, or None after the last attempt.
    """
    storage = study._storage
    lost = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(WORKER) != worker:
            continue
        attempts = len(trial.system_attrs.get("retry_history", ())) + 1
        try:
            if attempts > MAX_RETRIES:
                storage.set_trial_user_attr(trial._trial_id, "reason", f"{reason} in the last of {attempts} attempts")
            storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        except UpdateFinishedTrialError:  # another worker has noticed the missing heartbeat
            continue
        lost.append((trial.number, _queue_again(study, trial.number, MAX_RETRIES)))
    return lost


def _queue_again(study: Study, number: int, retries: int | None = None) -> int | None:
    """Queue a failed trial under a new number; return None if it was restarted ``retries`` times before."""
    failed = study.get_trials(deepcopy=True)[number]
    with _experimental():
        RetryHeartbeatStaleTrialCallback(retries)(study, failed)
    again = (t.number for t in study.get_trials(deepcopy=False) if number in t.system_attrs.get("retry_history", ()))
    return next(again, None)


def give_back(study: Study, number: int) -> None:
    """Queue an interrupted trial again, so that the next call of the sweep continues with it."""
    if study.get_trials(deepcopy=False)[number].state == TrialState.FAIL:
        _queue_again(study, number)
