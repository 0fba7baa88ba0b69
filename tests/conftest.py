"""What all tests share: where the real test inputs are, and a quiet, repeatable torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real annotations, detections and weights; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MICROG_DA_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "microg4m").is_dir():
        pytest.skip(f"no real test inputs at {folder}; set MICROG_DA_TEST_DATA to their folder")
    return folder
