"""A rolling camera, against scipy, closed forms and points moved one by one."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from microg_da.errors import InputError
from microg_da.transforms.camera import (
    MARGIN,
    CameraMotion,
    RollDistribution,
    draw_motion,
    keep_inside,
    mask_box,
    mask_outline,
    outline,
    turn,
    view_boxes,
    view_frame,
    view_mask,
    warp,
    without_bars,
)
from microg_da.transforms.rotation import roll_batch, roll_map
from microg_da.types import ClipBatch, ClipKey

SIZE = (60, 80)
MOTION = CameraMotion(roll=37.0, spin=20.0, drift=(0.2, -0.1), zoom=0.8, pan=(0.1, 0.05))


def smooth_picture(height=60, width=80, seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3))
    return np.clip(ndimage.gaussian_filter(noise, (4, 4, 0)) * 6 - 640, 0, 255).astype(np.uint8)


class TestMaps:
    @pytest.mark.parametrize("degrees", [0, 90, 180, 270, 360, -90, 33.3, 271.5, -700.25])
    def test_a_turn_is_that_of_rotation_augmentation(self, degrees):
        np.testing.assert_allclose(turn(degrees), roll_map(torch.tensor(degrees)).numpy(), atol=1e-6)

    @pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90])
    def test_quarter_turns_have_no_rounding(self, degrees):
        assert set(np.abs(turn(degrees)).ravel().tolist()) == {0.0, 1.0}

    def test_clockwise_means_that_the_top_goes_to_the_right(self):
        matrix = CameraMotion(90.0).matrix(0.0, (100, 100))
        np.testing.assert_allclose(matrix @ [50, 0, 1], [100, 50])

    def test_spin_drift_zoom_and_pan_follow_from_their_units(self):
        matrix = MOTION.matrix(2.0, SIZE)
        angle = np.deg2rad(37 + 40)
        linear = 0.8 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        np.testing.assert_allclose(matrix[:, :2], linear)
        np.testing.assert_allclose(matrix @ [40, 30, 1], [40 + 60 * (0.1 + 0.4), 30 + 60 * (0.05 - 0.2)])


class TestFrames:
    def test_agrees_with_scipy(self):
        picture, matrix = smooth_picture(), MOTION.matrix(0.3, SIZE)
        seen = view_frame(picture, matrix)
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
        rows, columns = np.mgrid[:60, :80] + 0.5
        x, y, _ = np.tensordot(inverse, np.stack([columns, rows, np.ones(SIZE)]), axes=1)
        inside = (x > 1) & (x < 79) & (y > 1) & (y < 59)
        for channel in range(3):
            expected = ndimage.map_coordinates(picture[..., channel].astype(float), [y - 0.5, x - 0.5], order=1)
            assert np.abs(seen[..., channel] - expected)[inside].max() < 3
        assert inside.mean() > 0.4

    def test_agrees_with_rotation_augmentation(self):
        picture = smooth_picture()
        frames = torch.from_numpy(picture).permute(2, 0, 1)[None, :, None]
        boxes = torch.tensor([[10.0, 20, 40, 50]])
        batch = ClipBatch(frames, boxes, torch.zeros(1, dtype=torch.int64), boxes / 80, (ClipKey("a", 1),))
        rolled, matrix = roll_batch(batch, 25.0), CameraMotion(25.0).matrix(0.0, SIZE)
        difference = rolled.frames[0, :, 0].permute(1, 2, 0).numpy().astype(int) - view_frame(picture, matrix)
        assert np.abs(difference).max() <= 1
        np.testing.assert_allclose(view_boxes(boxes.numpy(), matrix, SIZE), rolled.boxes.numpy(), atol=1e-4)

    def test_turning_back_by_the_roll_restores_the_picture(self):
        picture = smooth_picture(90, 90)
        there = view_frame(picture, CameraMotion(143.0).matrix(0.0, (90, 90)))
        back = view_frame(there, CameraMotion(-143.0).matrix(0.0, (90, 90)))
        rows, columns = np.mgrid[:90, :90] - 44.5
        disc = np.hypot(rows, columns) < 42
        assert np.abs(back.astype(int) - picture)[disc].mean() < 2
        assert np.abs(there.astype(int) - picture)[disc].mean() > 20

    def test_fills_differ_only_beyond_the_frame(self):
        picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
        matrix = CameraMotion(30.0, zoom=0.6).matrix(0.0, SIZE)
        reflected, blurred = (view_frame(picture, matrix, fill).astype(int) for fill in ("reflect", "blur"))
        depth = warp(np.ones(SIZE, np.float32), matrix, SIZE, border=cv2.BORDER_CONSTANT)
        deep = cv2.erode(depth, np.ones((9, 9)), borderValue=0) == 1
        assert np.abs(reflected - blurred)[deep].max() <= 1
        beyond = depth == 0
        assert np.std(np.diff(blurred, axis=1)[beyond[:, 1:]]) < 0.5 * np.std(np.diff(reflected, axis=1)[beyond[:, 1:]])
        assert (blurred[beyond] > 0).any()

    def test_an_unknown_fill_is_refused(self):
        with pytest.raises(InputError, match=r"'relfect'.*reflect"):
            view_frame(smooth_picture(), MOTION.matrix(0, SIZE), "relfect")


class TestBoxesAndMasks:
    @pytest.mark.parametrize("degrees", [0.0, 17.0, 90.0, 133.0, 300.0])
    def test_a_turned_box_is_that_of_the_turned_ellipse(self, degrees):
        box = np.array([[20.0, 15, 50, 40]])
        matrix = CameraMotion(degrees, zoom=0.7, pan=(0.05, -0.1)).matrix(0.0, SIZE)
        angles = np.linspace(0, 2 * np.pi, 20_000)
        points = np.stack([35 + 15 * np.cos(angles), 27.5 + 12.5 * np.sin(angles)], axis=1)
        moved = points @ matrix[:, :2].T + matrix[:, 2]
        expected = np.concatenate([moved.min(axis=0), moved.max(axis=0)])
        np.testing.assert_allclose(view_boxes(box, matrix, SIZE)[0], np.clip(expected, 0, [80, 60, 80, 60]), atol=1e-4)

    def test_a_turned_disc_is_a_disc_of_the_same_area_at_the_turned_place(self):
        rows, columns = np.mgrid[:60, :80] + 0.5
        mask = np.hypot(columns - 50, rows - 25) < 9
        matrix = CameraMotion(70.0).matrix(0.0, SIZE)
        turned = view_mask(mask, matrix, SIZE)
        assert abs(turned.sum() / mask.sum() - 1) < 0.03
        y, x = ndimage.center_of_mass(turned)
        np.testing.assert_allclose([x + 0.5, y + 0.5], matrix @ [50, 25, 1], atol=0.1)

    def test_the_box_of_a_turned_mask_is_that_of_its_pixels(self):
        rng = np.random.default_rng(3)
        mask = np.zeros(SIZE, bool)
        mask[20:45, 30:38] = rng.random((25, 8)) < 0.7
        turned = view_mask(mask, CameraMotion(61.0).matrix(0.0, SIZE), SIZE)
        y, x = np.nonzero(turned)
        assert mask_box(turned).tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        exact = (
            mask_outline(mask) @ CameraMotion(61.0).matrix(0, SIZE)[:, :2].T + CameraMotion(61.0).matrix(0, SIZE)[:, 2]
        )
        assert np.abs(mask_box(turned) - [*exact.min(axis=0), *exact.max(axis=0)]).max() <= 1.5

    def test_an_empty_mask_has_neither_box_nor_outline(self):
        assert mask_box(np.zeros((4, 5), bool)) is None
        assert mask_outline(np.zeros((4, 5), bool)).shape == (0, 2)

    def test_a_whole_mask_has_the_box_of_the_picture(self):
        assert mask_box(np.ones((4, 5), bool)).tolist() == [0, 0, 5, 4]


class TestPeopleStayInside:
    @pytest.mark.parametrize("seed", range(8))
    def test_at_every_moment(self, seed):
        rng = np.random.default_rng(seed)
        motion = draw_motion(rng, RollDistribution(), 60.0, 0.5)
        low = rng.uniform(0, 40, (3, 2))
        boxes = np.concatenate([low, low + rng.uniform(5, 20, (3, 2))], axis=1)
        seen = [(seconds, outline(boxes[[place]])) for place, seconds in enumerate((-0.5, 0.0, 0.7))]
        kept = keep_inside(motion, seen, SIZE)
        assert 0 < kept.zoom <= motion.zoom
        assert (kept.roll, kept.spin, kept.drift) == (motion.roll, motion.spin, motion.drift)
        for seconds, points in seen:
            matrix = kept.matrix(seconds, SIZE)
            moved = points @ matrix[:, :2].T + matrix[:, 2]
            edge = MARGIN * np.array([80, 60])
            assert (moved >= edge - 1e-6).all()
            assert (moved <= np.array([80, 60]) - edge + 1e-6).all()

    def test_who_is_inside_changes_nothing(self):
        motion = CameraMotion(80.0)
        assert keep_inside(motion, [(0.0, outline(np.array([[35.0, 25, 45, 35]])))], SIZE) == motion

    def test_without_people_nothing_changes(self):
        assert keep_inside(CameraMotion(80.0), [(0.0, np.empty((0, 2)))], SIZE) == CameraMotion(80.0)

    def test_the_zoom_is_no_smaller_than_it_must_be(self):
        kept = keep_inside(CameraMotion(90.0), [(0.0, outline(np.array([[0.0, 0, 80, 60]])))], SIZE)
        assert kept.zoom == pytest.approx((1 - 2 * MARGIN) * 60 / 80, rel=1e-3)


class TestDistributions:
    @pytest.mark.parametrize("text", ["uniform", "von-mises:10,4", "normal:-5,20", "fixed:90,180,270"])
    def test_text_comes_back(self, text):
        assert str(RollDistribution.parse(text)) == text

    def test_angles_are_distributed_as_named(self):
        def angles(text):
            rng = np.random.default_rng(0)
            return np.array([RollDistribution.parse(text).draw(rng) for _ in range(2000)])

        assert stats.kstest(angles("uniform") / 360, "uniform").pvalue > 0.01
        signed = (angles("normal:-5,20") + 180) % 360 - 180
        assert stats.kstest((signed + 5) / 20, "norm").pvalue > 0.01
        signed = np.deg2rad((angles("von-mises:10,4") - 10 + 180) % 360 - 180)
        assert stats.kstest(signed, stats.vonmises(4).cdf).pvalue > 0.01
        assert set(angles("fixed:90,-90").tolist()) == {90.0, 270.0}

    @pytest.mark.parametrize(
        "text", ["unifrom", "uniform:3", "normal:1", "normal:0,-1", "fixed", "fixed:", "fixed:a", "normal:nan,1", ""]
    )
    def test_what_is_none_is_refused(self, text):
        with pytest.raises(InputError, match=r"--rolls"):
            RollDistribution.parse(text, "--rolls")

    def test_speeds_keep_to_their_limits(self):
        rng = np.random.default_rng(1)
        motions = [draw_motion(rng, RollDistribution(), 12.0, 0.3) for _ in range(300)]
        assert 11 < max(abs(motion.spin) for motion in motions) <= 12
        assert 0.28 < max(np.hypot(*motion.drift) for motion in motions) <= 0.3
        still = draw_motion(rng, RollDistribution(), 0.0, 0.0)
        assert (still.spin, still.drift) == (0.0, (0.0, 0.0))


def test_black_bars_become_the_mirror_image_of_the_picture():
    rng = np.random.default_rng(4)
    picture = rng.integers(60, 250, (40, 60, 3), dtype=np.uint8)
    framed = np.zeros((50, 64, 3), np.uint8)
    framed[6:46, 2:62] = picture
    mended = without_bars(framed)
    assert (mended[6:46, 2:62] == picture).all()
    assert (mended[:6, 2:62] == picture[:6][::-1]).all()
    assert (mended[:, 62:] == mended[:, 60:62][:, ::-1]).all()


def test_a_frame_without_bars_and_a_black_frame_are_left_alone():
    rng = np.random.default_rng(4)
    for frame in (rng.integers(60, 250, (40, 60, 3), dtype=np.uint8), np.zeros((40, 60, 3), np.uint8)):
        assert without_bars(frame) is frame
