"""Whose pixels are whose, and the paths and places of people who float."""

import numpy as np
import pytest

from microg_da.weightless.compositing import colour_gains, cut_out, light_on_people, put_before
from microg_da.weightless.floating import bounce, without_gaps
from microg_da.weightless.floating_motion import Float, find_place, smooth_path

from microg_da.weightless.people import separate_people  # isort: skip


def disc(x, y, radius=6, size=(60, 80)):
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return np.hypot(columns - x, rows - y) < radius


class TestSeparation:
    def test_people_who_cross_the_picture_keep_their_pixels(self):
        one = np.stack([disc(15 + 4 * frame, 15) for frame in range(9)])
        two = np.stack([disc(65 - 4 * frame, 45) for frame in range(9)])
        boxes = [{4: (25 / 80, 9 / 60, 37 / 80, 21 / 60)}, {4: (43 / 80, 39 / 60, 55 / 80, 51 / 60)}]
        first, second = separate_people(one | two, boxes)
        assert (first == one).all()
        assert (second == two).all()

    def test_what_is_in_no_box_is_nobodys(self):
        found = disc(15, 15) | disc(60, 40)
        (only,) = separate_people(np.stack([found] * 3), [{1: (9 / 80, 9 / 60, 21 / 80, 21 / 60)}])
        assert (only == disc(15, 15)).all()

    def test_every_keyframe_is_used(self):
        found = np.stack([disc(15, 15), disc(60, 40)])
        boxes = [{0: (9 / 80, 9 / 60, 21 / 80, 21 / 60), 1: (54 / 80, 34 / 60, 66 / 80, 46 / 60)}]
        (only,) = separate_people(found, boxes)
        assert (only == found).all()

    def test_nothing_found_is_nothing(self):
        (only,) = separate_people(np.zeros((3, 60, 80), bool), [{1: (0.1, 0.1, 0.5, 0.5)}])
        assert not only.any()


class TestTime:
    def test_time_runs_back_at_the_ends(self):
        assert bounce(np.arange(-3, 8), 4).tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
        assert bounce(np.arange(-2, 3), 1).tolist() == [0] * 5

    def test_gaps_take_the_nearest_mask(self):
        masks = np.zeros((5, 2, 2), bool)
        masks[1, 0, 0] = masks[4, 1, 1] = True
        filled = without_gaps(masks)
        assert filled[:, 0, 0].tolist() == [True, True, True, False, False]
        assert filled[:, 1, 1].tolist() == [False, False, False, True, True]
        assert without_gaps(np.zeros((5, 2, 2), bool)) is None


class TestPlace:
    def motion(self, masks, roll, **changes):
        made = {"spin": 0.0, "drift": (0.0, 0.0), "scale": 1.0, "place": (0.0, 0.0), **changes}
        return Float(path=smooth_path(masks, 10.0), key=2, fps=10.0, roll=roll, **made)

    def test_a_steady_path_is_that_of_the_person(self):
        masks = np.stack([disc(30, 20)] * 5)
        np.testing.assert_allclose(smooth_path(masks, 30.0), [[30, 20]] * 5)

    @pytest.mark.parametrize("roll", [0.0, 77.0, 180.0, 290.0])
    def test_who_is_whole_stays_whole(self, roll):
        masks = np.stack([disc(30 + frame, 25, 12) for frame in range(5)])
        motion = self.motion(masks, roll, spin=30.0, drift=(20.0, 0.0))
        motion, box = find_place(motion, masks, (60, 80), [], np.random.default_rng(0))
        assert (box >= 0).all()
        assert (box <= [80, 60, 80, 60]).all()
        for frame in range(5):
            rows, columns = np.nonzero(masks[frame])
            there = (
                np.stack([columns + 0.5, rows + 0.5], axis=1) @ motion.matrix(frame)[:, :2].T
                + motion.matrix(frame)[:, 2]
            )
            assert ((there >= 0) & (there <= [80, 60])).mean() > 0.98

    @pytest.mark.parametrize("roll", [0.0, 90.0, 180.0, 235.0])
    def test_who_is_cut_by_the_frame_is_put_where_the_cut_is_not_seen(self, roll):
        masks = np.zeros((5, 60, 80), bool)
        masks[:, 25:, 30:50] = True  # cut below
        motion, _ = find_place(self.motion(masks, roll), masks, (60, 80), [], np.random.default_rng(0))
        cut = np.stack([np.arange(30, 50) + 0.5, np.full(20, 59.5)], axis=1)
        there = cut @ motion.matrix(2)[:, :2].T + motion.matrix(2)[:, 2]
        assert ((there >= 0) & (there <= [80, 60])).all(axis=1).mean() < 0.4
        rows, columns = np.nonzero(masks[2])
        body = np.stack([columns + 0.5, rows + 0.5], axis=1) @ motion.matrix(2)[:, :2].T + motion.matrix(2)[:, 2]
        assert ((body >= 0) & (body <= [80, 60])).all(axis=1).mean() > 0.55

    def test_people_keep_apart(self):
        masks = np.stack([disc(30, 25, 9)] * 5)
        taken = np.array([20.0, 10, 60, 50])
        _, box = find_place(self.motion(masks, 0.0), masks, (60, 80), [taken], np.random.default_rng(0))
        common = np.prod(np.maximum(np.minimum(box[2:], taken[2:]) - np.maximum(box[:2], taken[:2]), 0))
        assert common / np.prod(box[2:] - box[:2]) < 0.35

    def test_the_roll_and_the_middle_follow_the_motion(self):
        masks = np.stack([disc(30, 25)] * 5)
        motion = self.motion(masks, 40.0, spin=50.0, drift=(10.0, -20.0), place=(33.0, 21.0), scale=0.5)
        assert motion.roll_at(4) == pytest.approx(40 + 50 * 0.2)
        np.testing.assert_allclose(motion.matrix(4) @ [30, 25, 1], [33 + 2, 21 - 4])
        angle = np.deg2rad(50)
        up = motion.matrix(4)[:, :2] @ [0, -1]
        np.testing.assert_allclose(up, [0.5 * np.sin(angle), -0.5 * np.cos(angle)])


class TestCompositing:
    def test_edges_carry_the_colours_of_the_person(self):
        image = np.full((60, 80, 3), (0, 255, 0), np.uint8)  # a green wall
        mask = disc(40, 30, 15)
        image[mask] = (0, 0, 200)
        layer = cut_out(image, mask)
        opaque = layer[..., 3] > 40
        colours = layer[..., :3][opaque] / (layer[..., 3][opaque][:, None] / 255)
        assert colours[:, 1].max() < 8
        np.testing.assert_allclose(colours[:, 2], 200, atol=6)

    def test_opacity_is_soft_and_inside_the_mask(self):
        mask = disc(40, 30, 15)
        opacity = cut_out(np.full((60, 80, 3), 99, np.uint8), mask)[..., 3]
        assert opacity[~disc(40, 30, 18)].max() == 0
        assert opacity[disc(40, 30, 11)].min() == 255
        assert 0.8 < (opacity >= 128).sum() / mask.sum() < 1.01

    def test_thin_people_are_not_eroded_away(self):
        mask = np.zeros((60, 80), bool)
        mask[10:50, 40:42] = True
        assert (cut_out(np.full((60, 80, 3), 99, np.uint8), mask)[..., 3] > 100)[mask].mean() > 0.9

    def test_nobody_changes_nothing(self):
        layer = cut_out(np.full((60, 80, 3), 99, np.uint8), np.zeros((60, 80), bool))
        picture = np.random.default_rng(0).uniform(0, 255, (60, 80, 3)).astype(np.float32)
        before = picture.copy()
        put_before(picture, layer, np.ones(3, np.float32), np.ones((60, 80), np.float32))
        assert (picture == before).all()

    def test_composition_is_the_weighted_mean(self):
        rng = np.random.default_rng(1)
        image = rng.integers(0, 256, (60, 80, 3), np.uint8)
        picture = rng.uniform(0, 255, (60, 80, 3)).astype(np.float32)
        layer = cut_out(image, disc(40, 30, 12))
        expected = layer[..., :3] + picture * (1 - layer[..., 3:] / 255)
        put_before(picture, layer, np.ones(3, np.float32), np.ones((60, 80), np.float32))
        np.testing.assert_allclose(picture, expected, atol=1.5)

    def test_gains_bring_colours_nearer(self):
        person, wall = np.array([60.0, 100, 140]), np.array([120.0, 100, 90])
        gains = colour_gains(person, wall)
        assert (np.abs(np.log(person * gains / wall)) < np.abs(np.log(person / wall)) + 1e-6).all()
        assert np.isfinite(colour_gains(np.zeros(3), wall)).all()

    def test_light_is_even_on_an_even_background_and_brighter_where_that_is(self):
        even = light_on_people(np.full((60, 80, 3), 100, np.float32))
        np.testing.assert_allclose(even, 1, atol=1e-3)
        ramp = np.repeat(np.linspace(20, 220, 80, dtype=np.float32)[None, :, None], 60, axis=0).repeat(3, axis=2)
        light = light_on_people(ramp)
        assert light[:, 70].mean() > 1.1 > 0.9 > light[:, 10].mean()
