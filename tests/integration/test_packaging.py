"""What is installed from a wheel: commands, experiments and sweeps, from any working folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the build backend is not installed")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked where no checkout is near."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
    ]
    subprocess.run([*map(str, build), str(REPOSITORY)], check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, *words, cwd):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-m", "microg_da", *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=120,
    )


def test_experiments_and_sweeps_come_with_the_package(installed, tmp_path):
    listed = run(installed, "list", "experiments", "--json", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    files = (path.relative_to(REPOSITORY / "experiments") for path in (REPOSITORY / "experiments").glob("**/*.yaml"))
    names = {path.with_suffix("").as_posix() for path in files if not path.name.startswith("_")}
    assert {"ava2microg", "microg4m/slow_r50_8x8"} <= names
    assert names == {entry["name"] for entry in json.loads(listed.stdout)["entries"]}
    code = "from microg_da.config import load_config; print(load_config('microg4m/slow_r50_8x8').training.lr)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    read = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (read.returncode, read.stdout) == (0, "0.1\n"), read.stderr
    code = "from microg_da.config.experiments import find_sweep; import microg_da; print(find_sweep('dann'), microg_da.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count(str(installed)) == 2


def test_the_report_template_comes_with_the_package(installed):
    assert list((installed / "microg_da" / "reporting" / "templates").glob("*"))
    assert not list(installed.glob("tests*"))


def test_the_package_says_that_it_is_typed(installed):
    assert (installed / "microg_da" / "py.typed").is_file()


def test_a_misspelt_key_names_the_installed_file(installed, tmp_path):
    failed = run(installed, "fit", "--experiment", "ava2microg", "trainng.epochs=1", cwd=tmp_path)
    assert failed.returncode == 2
    assert "training.epochs" in failed.stderr
