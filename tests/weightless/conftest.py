"""Fixtures: a small data set with masks, and backgrounds."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from bar_people import write_source


@pytest.fixture(scope="session")
def earth(tmp_path_factory) -> Path:
    """The data set with masks; tests only read it."""
    return write_source(tmp_path_factory.mktemp("earth") / "set")


@pytest.fixture
def walls(tmp_path) -> Path:
    """Two background pictures: grey noise, so that nothing in them is red or blue."""
    folder = tmp_path / "walls"
    folder.mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(60, 180, (160, 200, 1), np.uint8)
        cv2.imwrite(str(folder / f"wall{number}.png"), np.repeat(noise, 3, axis=2))
    return folder
