"""The engine on a real PostgreSQL server, which the test starts for itself."""

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from optuna.trial import TrialState
from rich.console import Console

from microg_da.sweeps.worker import Plan, run_plan

pytestmark = pytest.mark.slow


def programs():
    """Folder of initdb and pg_ctl, which Debian keeps off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists() and (folder / "initdb").exists()), None)


@pytest.fixture
def server(tmp_path_factory):
    """The URL of an empty database."""
    pytest.importorskip("psycopg")
    folder = programs()
    if folder is None:
        pytest.skip("no PostgreSQL here: initdb and pg_ctl are not installed")
    # A path that is short enough for a socket, and that the server's user may enter.
    data = Path(subprocess.check_output(["mktemp", "-d", "/tmp/pg-XXXXXX"], text=True).strip())
    user, owner = [], pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:  # the server refuses to run as root
        owner = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
        shutil.chown(data, owner)
        user = ["setpriv", f"--reuid={owner}", "--clear-groups"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program, *words):
        done = subprocess.run([*user, folder / program, *words], capture_output=True, text=True, cwd="/", timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    run("initdb", "-D", data / "db", "-U", "me", "-A", "trust", "--no-sync")
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "-D", data / "db", "-l", data / "log", "-w", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://me@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", data / "db", "-m", "immediate", "stop")
        shutil.rmtree(data)


def test_two_workers_share_a_study_on_a_server_and_a_third_resumes_it(server, make_quick_sweep, tmp_path):
    path = make_quick_sweep(method="grid", parameters={"seed": {"values": [0, 1, 2, 3, 4]}})
    quiet = Console(quiet=True)
    study = run_plan(Plan(str(path), "shared", tmp_path / "runs", server, trials=3, heartbeat=1), 2, quiet)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 3
    study = run_plan(Plan(str(path), "shared", tmp_path / "runs", server, trials=5, heartbeat=1), 1, quiet)
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    assert sorted(trial.user_attrs["values"]["seed"] for trial in trials) == [0, 1, 2, 3, 4]
