"""The recall of people in photographs: detections are matched and counted as the benchmark says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microg_da.video.person_boxes import PersonBoxes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("iss_photos_benchmark", ROOT / "benchmarks" / "iss_photos.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def people(program):
    return pd.read_csv(program.PEOPLE, keep_default_na=False, na_values={"up": ""})


def test_the_table_of_people_is_sound(people):
    assert people.file.nunique() == 35
    assert set(people.note) == {"", "partial", "crowd", "ignore"}
    boxes = people[["x1", "y1", "x2", "y2"]].to_numpy()
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()
    assert (boxes[:, 2:] - boxes[:, :2] > 0.02).all()
    assert not people.duplicated(["file", "x1", "y1", "x2", "y2"]).any()
    # Everybody who counts has an up; each photograph shows somebody.
    counted = people[people.note != "ignore"]
    assert counted.up.between(0, 360, inclusive="left").all()
    assert people[people.note == "ignore"].up.isna().all()
    assert set(counted.file) == set(people.file)


def found(*rows):
    boxes, scores = zip(*rows, strict=True)
    return PersonBoxes(np.array(boxes, float), np.array(scores), np.zeros(len(scores)))


def test_a_person_is_found_once_and_ignored_regions_do_not_count(program):
    people = np.array([[0, 0, 100, 200], [300, 0, 400, 200]], float)
    ignored = np.array([[500, 0, 700, 200]], float)
    seen = found(
        ([5, 0, 100, 200], 0.9),
        ([0, 0, 100, 190], 0.8),  # the same person again
        ([520, 10, 600, 150], 0.7),  # inside what does not count
        ([300, 0, 350, 200], 0.6),  # half of a person: IoU 0.5
        ([450, 0, 620, 200], 0.5),  # mostly inside what does not count
        ([800, 0, 900, 100], 0.4),  # nobody
    )
    assert program.match(seen, people, ignored, 0.5).tolist() == [0, -1, -2, 1, -2, -1]
    assert program.match(seen, people, ignored, 0.6).tolist() == [0, -1, -2, -1, -2, -1]
    assert program.match(seen, people, np.empty((0, 4)), 0.5).tolist() == [0, -1, -1, 1, -1, -1]


def test_recall_is_the_largest_at_a_precision(program):
    result = program.Matched(np.linspace(0.9, 0.3, 7), np.array([0, -1, 1, 2, 3, -1, -1]), np.full(7, np.nan))
    # Precision after each detection: 1, 1/2, 2/3, 3/4, 4/5, 4/6, 4/7.
    assert [result.best_count(p) for p in (1.0, 0.8, 0.75, 0.6, 0.5)] == [1, 5, 5, 6, 7]
    assert program.Matched(np.array([0.9]), np.array([-1]), np.array([np.nan])).best_count(0.5) == 0


def test_the_difference_from_upright(program):
    np.testing.assert_allclose(program.off_upright(np.array([0, 30, 180, 270, 350, 359.0])), [0, 30, 180, 90, 10, 1])


def test_nobody_is_found_in_a_photograph(program):
    nothing = PersonBoxes(np.empty((0, 4)), np.empty(0), np.empty(0))
    assert program.match(nothing, np.array([[0, 0, 1, 1.0]]), np.empty((0, 4)), 0.5).tolist() == []
