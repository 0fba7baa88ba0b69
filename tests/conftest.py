"""What all tests share: where the real test inputs are, and a quiet, repeatable torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Networks in tests are so small that a second thread only waits for the first; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: with two processes, neither waits at the end for the other's long file."""
    long = {item.path for item in items if item.get_closest_marker("slow") or "integration" in item.path.parts}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real annotations, detections and weights; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MICROG_DA_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "microg4m").is_dir():
        pytest.skip(f"no real test inputs at {folder}; set MICROG_DA_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache of the tests' own, which the processes of a session share: the user's is neither read nor filled."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(autouse=True)
def _own_environment():
    """What a test sets in the environment, or has a library set there, ends with it: the next may start processes."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
