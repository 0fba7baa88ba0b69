"""The benchmark of growing data in its tiny form: every subject, in processes of its own, with figures that can be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "scaling.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of processes from /proc")
def test_every_subject_is_measured(tmp_path):
    pytest.importorskip("av")
    command = [sys.executable, str(SCRIPT), "--tiny", "--repeats", "1", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == {"annotations", "detections", "keyframes"}
    for subject, (row,) in figures.items():
        assert subject in done.stdout
        assert row["peak_mib"] > 50
        steps = sum(value for name, value in row.items() if name.endswith("_s"))
        assert row["seconds"] == pytest.approx(steps, abs=0.05)
    # A worker shares what it was started with: its own is a small part of what it sees.
    assert figures["keyframes"][0]["worker_unique_mib"] < 0.5 * figures["keyframes"][0]["peak_mib"]
