"""People over time."""

import numpy as np
import pandas as pd
import pytest

from microg_da.video.tracks import (
    PEOPLE_COLUMNS,
    PersonTracker,
    Tracks,
    average_over_tracks,
    average_ups,
    drop_glimpses,
    vote_on_rolls,
)


def people(*rows) -> pd.DataFrame:
    """Rows of (seconds, person, x1) with a box a tenth wide."""
    return pd.DataFrame(
        [(s, x, 0.2, x + 0.1, 0.8, person, 0.9, np.nan, True) for s, person, x in rows], columns=PEOPLE_COLUMNS
    )


class TestTracker:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("norfair")

    def follow(self, paths, rate=6.0, every=1):
        """Numbers of boxes whose left edges are ``paths`` (moments, people); NaN is nobody."""
        tracker = PersonTracker(rate)
        result = np.zeros(paths.shape, int)
        for moment, lefts in enumerate(paths):
            if moment % every:
                tracker.skip()
                continue
            there = np.flatnonzero(~np.isnan(lefts))
            boxes = np.array([[x, 0.2, x + 0.15, 0.8] for x in lefts[there]]).reshape(-1, 4)
            order = np.random.default_rng(moment).permutation(len(there))  # detectors give no order
            result[moment, there[order]] = tracker.update(boxes[order])
        return result

    def test_people_who_walk_keep_their_numbers(self):
        ids = self.follow(np.stack([np.linspace(0, 0.8, 30), np.linspace(0.8, 0.75, 30) - 0.7], axis=1)[:15])
        assert (ids == ids[0]).all()
        assert set(ids[0]) == {1, 2}

    def test_people_who_cross_keep_their_numbers(self):
        ids = self.follow(np.stack([np.linspace(0, 0.8, 40), np.linspace(0.8, 0, 40)], axis=1))
        assert (ids == ids[0]).all()

    def test_a_short_absence_is_bridged_and_a_long_one_is_not(self):
        path = np.full((40, 1), 0.4)
        path[5:8] = np.nan
        path[20:35] = np.nan
        ids = self.follow(path)[:, 0]
        assert set(ids[:5]) == set(ids[8:20]) == {1}
        assert set(ids[35:]) == {2}

    def test_frames_that_are_not_looked_at(self):
        path = np.stack([np.linspace(0, 0.4, 31), np.linspace(0.8, 0.5, 31)], axis=1)
        ids = self.follow(path, rate=30, every=5)[::5]
        assert (ids == ids[0]).all()
        assert set(ids[0]) == {1, 2}

    def test_nobody(self):
        assert self.follow(np.full((4, 1), np.nan)).tolist() == [[0]] * 4


def test_the_average_over_a_track_is_that_of_a_double_loop():
    rng = np.random.default_rng(0)
    values, person = rng.random((40, 3)), rng.integers(0, 3, 40)
    seconds = rng.choice(np.arange(0, 12, 0.25), 40)
    averaged = average_over_tracks(values, person, seconds, 1.5)
    for i in range(40):
        weight = np.array(
            [max(0, 1 - abs(seconds[i] - seconds[j]) / 1.5) * (person[i] == person[j]) for j in range(40)]
        )
        np.testing.assert_allclose(averaged[i], weight @ values / weight.sum())
    np.testing.assert_array_equal(average_over_tracks(values, person, seconds, 0), values)
    assert average_over_tracks(np.empty((0, 3)), np.empty(0), np.empty(0), 1.0).shape == (0, 3)


def test_glimpses_go_and_the_rest_keep_their_place():
    kept = drop_glimpses(people((0, 1, 0.1), (0, 2, 0.5), (1, 1, 0.1)))
    assert kept.index.tolist() == [0, 2]


def test_a_roll_is_voted_on_within_a_track():
    table = people(*[(0.1 * i, 1, 0.1) for i in range(10)], *[(0.1 * i, 2, 0.6) for i in range(10)])
    table["roll"] = [180.0] * 4 + [0.0] + [180.0] * 5 + [0.0] * 10
    voted = vote_on_rolls(table)
    assert voted.roll.tolist() == [180.0] * 10 + [0.0] * 10
    assert vote_on_rolls(people((0, 1, 0.1))).roll.isna().all()


class TestBetweenDetections:
    def test_boxes_move_evenly(self):
        tracks = Tracks(people((0, 1, 0.1), (1, 1, 0.3), (1, 2, 0.6), (2, 2, 0.6)), reach=0.25)
        (seen,) = tracks.at(0.25)
        assert seen.person_id == 1
        np.testing.assert_allclose(seen.box, [0.15, 0.2, 0.25, 0.8])
        assert sorted(seen.person_id for seen in tracks.at(1.1)) == [1, 2]
        assert list(tracks.at(2.5)) == []

    def test_nobody_is_drawn_in_a_long_absence(self):
        tracks = Tracks(people((0, 1, 0.1), (5, 1, 0.3)), reach=0.25)
        assert [len(list(tracks.at(s))) for s in (0, 0.2, 2.5, 4.9, 5.2, 5.5)] == [1, 1, 0, 1, 1, 0]

    def test_labels_are_those_of_the_nearest_keyframe(self):
        table = people((0, 1, 0.1), (0.5, 1, 0.1), (1, 1, 0.1))
        table["keyframe"] = [True, False, True]
        tracks = Tracks(table, reach=0.5)
        assert [next(tracks.at(s)).row for s in (0.0, 0.4, 0.6, 1.2)] == [0, 0, 1, 1]
        table["keyframe"] = False
        assert next(Tracks(table, reach=0.5).at(0.5)).row == -1

    def test_nobody_at_all(self):
        assert list(Tracks(people(), reach=0.5).at(0.0)) == []


def test_directions_are_averaged_on_the_circle():
    ups, person = np.array([350.0, 10.0, 90.0]), np.array([1, 1, 2])
    averaged = average_ups(ups, person, np.array([0.0, 0.5, 0.5]), 1.0)
    # Each of the first two has weight 1 for itself and 1/2 for the other.
    angles = np.deg2rad([350, 10])
    first = np.degrees(np.angle(np.exp(1j * angles[0]) + np.exp(1j * angles[1]) / 2)) % 360
    np.testing.assert_allclose(averaged, [first, 360 - first, 90.0])
    np.testing.assert_allclose(average_ups(ups, person, np.zeros(3), 0), ups)
    assert np.isnan(average_ups(np.full(3, np.nan), person, np.zeros(3), 1.0)).all()
