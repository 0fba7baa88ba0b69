"""Jobs that several workers share: each is done once, and a lost one again."""

import threading

import optuna
import pytest
from optuna.trial import TrialState

from microg_da.sweeps.jobs import NAME, SharedJobs


@pytest.fixture(params=["sqlite", "journal"])
def url(request, tmp_path):
    return f"{request.param}:///{tmp_path}/study"


def test_two_machines_do_each_job_once(url):
    done, jobs = [], [f"job {number}" for number in range(6)]
    machines = [SharedJobs(url, "comparison") for _ in range(2)]
    machines[0].offer(jobs)
    machines[1].offer(jobs)  # which finds all of them queued
    threads = [threading.Thread(target=m.work_through, args=(jobs, done.append, 0.01)) for m in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == jobs


def test_a_job_that_fails_is_open_for_a_later_call_and_the_others_are_done(url):
    done = []

    def run(job):
        done.append(job)
        if job == "bad":
            raise RuntimeError("no memory")

    for expected in (["bad", "good"], ["bad"]):
        queue = SharedJobs(url, "comparison")
        queue.offer(expected)
        queue.work_through(expected, run, 0.01)
    assert sorted(done) == ["bad", "bad", "good"]


def test_a_job_that_was_queued_twice_is_done_once(url):
    queue, done = SharedJobs(url, "comparison"), []
    for _ in range(2):
        queue._study.enqueue_trial({}, user_attrs={NAME: "job"})

    def run(job):
        done.append(job)
        SharedJobs(url, "comparison").work_through(["another"], done.append, 0.01)
        other = queue._study.ask()  # the second, while the first runs
        with pytest.raises(optuna.TrialPruned):
            queue._one(other, done.append)
        queue._study.tell(other, state=TrialState.PRUNED)

    queue.work_through(["job"], run, 0.01)
    assert done == ["job"]


def test_a_job_whose_worker_is_lost_is_done_by_another(url, monkeypatch):
    lost = SharedJobs(url, "comparison", heartbeat=1)
    lost.offer(["job"])
    trial = lost._study.ask()
    lost._study._storage.record_heartbeat(trial._trial_id)
    done = []
    SharedJobs(url, "comparison", heartbeat=1).work_through(["job"], done.append, 0.2)
    assert done == ["job"]
