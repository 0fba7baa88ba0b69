"""Fixtures of small data sets on disk."""

from pathlib import Path

import pytest
from small_trees import ROWS, write_frames


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A training tree of three clips, all in train."""
    write_frames(tmp_path, ("filmA_001", "filmA_002", "recB_001"))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "ava_train.csv").write_text(ROWS)
    return tmp_path
