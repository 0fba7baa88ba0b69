"""Domains in feature space: components and separability against sklearn, pictures against the points they draw."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from microg_da.errors import InputError
from microg_da.reporting.domains import (
    ACTIVITIES,
    SIZE,
    People,
    activities,
    domains_content,
    principal_components,
    scatter,
    separability,
)
from microg_da.runs.layout import RunFolder
from microg_da.taxonomy import get_taxonomy

VIDEOS = 10


def two_domains(distance: float, per_video: int = 12, width: int = 6, own: float = 0.0):
    """People of ten source videos a domain; ``own`` is how much every video looks like itself."""
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(2 * VIDEOS), per_video)
    is_target = video >= VIDEOS
    points = rng.normal(size=(len(video), width)) + own * rng.normal(size=(2 * VIDEOS, width))[video]
    points[:, 0] += distance * is_target
    return points, is_target, np.array([f"video{number:02d}" for number in video])


@pytest.mark.parametrize("shape", [(40, 7), (12, 90)])
def test_components_are_those_of_sklearn(shape):
    features = np.random.default_rng(0).normal(size=shape) @ np.diag(np.linspace(3, 0.1, shape[1])) + 5
    found, wanted = principal_components(features, 5), PCA(5).fit(features)
    np.testing.assert_allclose(found.variance, wanted.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(found.points), np.abs(wanted.transform(features)), atol=1e-6)


@pytest.mark.parametrize("features", [np.ones((9, 4)), np.ones((1, 4)), np.zeros((5, 1))])
def test_features_that_do_not_vary_have_no_components(features):
    found = principal_components(features, 5)
    assert found.points.shape == (len(features), 0)
    assert separability(found.points, np.arange(len(features)) % 2 == 0, np.arange(len(features))) in (0.5, None)


@pytest.mark.parametrize("distance", [0.5, 1.5, 3.0])
def test_separability_is_what_cross_validated_logistic_regression_says(distance):
    points, is_target, videos = two_domains(distance)
    number = np.array([int(name[5:]) % VIDEOS % 5 for name in videos])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=1.0))
    said = cross_val_predict(classifier, points, is_target, cv=PredefinedSplit(number))
    assert separability(points, is_target, videos) == pytest.approx(balanced_accuracy_score(is_target, said), abs=0.02)


def test_domains_that_lie_apart_and_domains_that_do_not():
    assert separability(*two_domains(20)) == 1
    assert separability(*two_domains(0)) == pytest.approx(0.5, abs=0.1)


def test_source_videos_are_not_learnt_by_heart():
    # Every video is far from every other, and the domains do not differ: known people would give it away.
    points, is_target, videos = two_domains(0, width=40, own=20)
    assert separability(points, is_target, videos) < 0.75
    assert separability(points, is_target, np.arange(len(points))) > 0.99


def test_uneven_samples_are_no_evidence():
    points, is_target, videos = two_domains(0, per_video=30)
    kept = ~is_target | (np.arange(len(points)) % 10 == 0)
    assert separability(points[kept], is_target[kept], videos[kept]) == pytest.approx(0.5, abs=0.12)


def test_one_source_video_is_not_enough():
    points, is_target, videos = two_domains(3)
    kept = is_target | (videos == "video00")
    assert separability(points[kept], is_target[kept], videos[kept]) is None


def test_every_point_is_drawn_once_inside_the_frame():
    rng = np.random.default_rng(0)
    points, group = rng.normal(size=(50, 2)) * [5, 1] + 100, rng.integers(0, 3, 50)
    chart = scatter("title", points, group, ("a", "b", "c", "nobody"))
    assert chart.groups == [(number, "abc"[number], int((group == number).sum())) for number in range(3)]
    drawn = np.array([
        [number, float(x), float(y)]
        for number, path in chart.layers
        for x, y in re.findall(r"M([-\d.]+) ([-\d.]+)h0", path)
    ])  # fmt: skip
    assert len(drawn) == 50
    assert drawn[:, 1:].min() >= 0
    assert drawn[:, 1:].max() <= SIZE
    for number in range(3):
        mine, wanted = drawn[drawn[:, 0] == number, 1:], points[group == number]
        # Up is up, and one unit is as long on either axis.
        distance = np.ptp(mine, axis=0) / np.ptp(wanted, axis=0)
        assert distance[0] == pytest.approx(distance[1], rel=0.02)
        assert np.argmax(wanted[:, 1]) == np.argmin(mine[:, 1]) or len(chart.layers) > 3


def test_one_person_can_be_drawn():
    assert scatter("title", np.array([[3.0, 3.0]]), np.array([0]), ("a",)).layers == [(0, "M150.0 150.0h0")]


def test_activities_are_those_of_the_labels():
    where = {"video_id": "a_0", "frame_stamp": 45, "y1": 0.1, "x2": 0.5, "y2": 0.9}
    rows = [(0.1, 12), (0.2, 12), (0.2, 59), (0.3, 80), (0.4, 12), (0.4, 59), (0.4, 80)]
    truth = pd.DataFrame([{**where, "x1": left, "action_id": action} for left, action in rows])
    boxes = np.array([[left, 0.1, 0.5, 0.9] for left in (0.4, 0.3, 0.2, 0.1, 0.05)], dtype=np.float32)
    people = People(np.zeros((5, 1)), np.array(["a_0"] * 5), np.full(5, 45), boxes.astype(float))
    found = activities(people, truth, get_taxonomy("ava80"))
    assert [ACTIVITIES[number] for number in found[:4]] == [
        "with both", "with a person", "with an object", "movement only"
    ]  # fmt: skip
    assert found[4] == -1  # nobody has this box


def test_what_the_page_shows(make_run):
    folder = make_run(examples=0, tables=True)
    views = domains_content(RunFolder(folder), get_taxonomy("microg50"))["views"]
    assert [view["variant"] for view in views] == ["source_only", "adapted", "target_supervised"]
    view = views[0]
    assert view["counts"] == [72, 72]
    assert view["dimensions"] == 20
    assert view["kept"] == pytest.approx(1)
    assert view["separability"] > 0.7
    assert [sum(count for *_, count in chart.groups) for chart in view["charts"]] == [144, 144]
    (folder / "ground_truth" / "source.csv").unlink()
    assert len(domains_content(RunFolder(folder), get_taxonomy("microg50"))["views"][0]["charts"]) == 1
    (folder / "features" / "adapted_source.npz").unlink()
    assert [view["variant"] for view in domains_content(RunFolder(folder), get_taxonomy("microg50"))["views"]] == [
        "source_only",
        "target_supervised",
    ]


def test_no_features_no_section(make_run):
    assert domains_content(RunFolder(make_run(examples=0)), get_taxonomy("microg50")) is None


def test_a_damaged_file_is_named(make_run):
    folder = make_run(examples=0, tables=True)
    path = folder / "features" / "adapted_target.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=re.escape(str(path))):
        domains_content(RunFolder(folder), get_taxonomy("microg50"))
    path.write_bytes(b"")
    with pytest.raises(InputError, match=re.escape(str(path))):
        domains_content(RunFolder(folder), get_taxonomy("microg50"))
