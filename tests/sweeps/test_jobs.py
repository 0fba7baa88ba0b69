"""Jobs that several workers share: each is done once, and a lost one again."""

import threading

import pytest
from optuna.trial import TrialState, create_trial

from microg_da.sweeps.jobs import NAME, SharedJobs


@pytest.fixture(params=["sqlite", "journal"])
def url(request, tmp_path):
    return f"{request.param}:///{tmp_path}/study"


def claimed(queue, job):
    claim = create_trial(state=TrialState.RUNNING, user_attrs={NAME: job})
    return queue._storage.create_new_trial(queue._study._study_id, template_trial=claim)


def test_two_machines_do_each_job_once(url):
    done, jobs = [], [f"job {number}" for number in range(4)]
    machines = [SharedJobs(url, "comparison") for _ in range(2)]
    threads = [threading.Thread(target=m.work_through, args=(jobs, done.append, 0.01)) for m in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == jobs


def test_a_job_that_failed_is_done_again_by_a_later_call_alone(url):
    done = []

    def run(job):
        done.append(job)
        if len(done) == 1:
            raise RuntimeError("no memory")

    first = SharedJobs(url, "comparison")
    with pytest.raises(RuntimeError, match="memory"):
        first.work_through(["a"], run, 0.01)
    first.work_through(["a", "b"], run, 0.01)
    assert done == ["a", "b"]
    SharedJobs(url, "comparison").work_through(["a"], run, 0.01)
    assert done == ["a", "b", "a"]


def test_of_two_claims_the_earlier_counts(url, monkeypatch):
    queue, done = SharedJobs(url, "comparison"), []
    other, real = claimed(queue, "a"), queue._trials
    looks = [[], []]  # the other claim is made after this one has looked whether there is any
    monkeypatch.setattr(queue, "_trials", lambda job: looks.pop() if looks else real(job))
    assert not queue._do("a", done.append)
    states = [trial.state for trial in real("a")]
    assert states == [TrialState.RUNNING, TrialState.PRUNED]
    queue._storage.set_trial_state_values(other, TrialState.FAIL)
    assert queue._do("a", done.append)
    assert done == ["a"]


def test_a_job_whose_worker_is_lost_is_done_by_another(url):
    lost, done = SharedJobs(url, "comparison", heartbeat=1), []
    lost._storage.record_heartbeat(claimed(lost, "a"))
    assert not lost._do("a", done.append)
    lost.work_through(["a"], done.append, 0.2)
    assert done == ["a"]
