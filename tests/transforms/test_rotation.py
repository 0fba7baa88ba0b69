"""Camera roll by known angles: exact where it can be, and frames and boxes always together."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from microg_da.config import AugmentConfig, load_config
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.transforms.affine import _resample_by_opencv, _resample_by_torch
from microg_da.transforms.augmentation import augment_batch
from microg_da.transforms.rotation import draw_roll, even_rolls, roll_batch, roll_map, spin_through
from microg_da.types import Clip, ClipKey


def batch_of(boxes_per_clip, height=48, width=48, length=2):
    clips = []
    for number, boxes in enumerate(boxes_per_clip):
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        generator = torch.Generator().manual_seed(number)
        frames = torch.randint(0, 256, (3, length, height, width), dtype=torch.uint8, generator=generator)
        table = boxes / torch.tensor([width, height] * 2)
        labels = torch.arange(5 * len(boxes)).view(-1, 5).float()
        clips.append(Clip(frames, boxes, table, ClipKey(f"v_{number}", 1)).with_labels(labels))
    return collate_clips(clips)


PEOPLE = [[[4, 6, 20.25, 30], [1, 2, 47, 40]], [], [[20, 20, 30, 47.5]]]

angles = st.floats(-400, 400)


def smooth(size=48):
    """A clip without fine grain, in which rounding of coordinates matters little."""
    batch = batch_of([[]], size, size).without_labels()
    rows, columns = torch.meshgrid(torch.linspace(0, 3, size), torch.linspace(0, 5, size), indexing="ij")
    planes = [100 + 90 * (rows + k).sin() * (columns * (1 + k / 3)).cos() for k in range(6)]
    batch.frames = torch.stack(planes).view(1, 3, 2, size, size).to(torch.uint8)
    return batch


def test_full_turns_are_the_identity():
    batch = batch_of(PEOPLE)
    for degrees in (0, 360, -720):
        rolled = roll_batch(batch, degrees)
        assert torch.equal(rolled.frames, batch.frames)
        assert torch.equal(rolled.boxes, batch.boxes)


@pytest.mark.parametrize("as_float", [False, True])
def test_four_quarter_turns_give_back_frames_and_boxes(as_float):
    batch = batch_of(PEOPLE)
    batch.frames = batch.frames.float() / 7 if as_float else batch.frames
    rolled = batch
    for _ in range(4):
        rolled = roll_batch(rolled, 90)
    assert torch.equal(rolled.frames, batch.frames)
    assert torch.equal(rolled.boxes, batch.boxes)


@pytest.mark.parametrize(("rolls", "width"), [(8, 48), (4, 48), (6, 48), (8, 40), (1, 48)])
def test_even_rolls_are_rolls_by_each_angle(rolls, width):
    batch = batch_of(PEOPLE, width=width)
    batch.frames = smooth().frames[..., :width].expand(3, -1, -1, -1, -1).contiguous()
    views = even_rolls(batch, rolls)
    assert len(views) == rolls
    assert views[0] is batch
    for turn, view in enumerate(views[1:], start=1):
        alone = roll_batch(batch, 360 * turn / rolls)
        # What is turned after it was resampled may round otherwise, by one level.
        assert (view.frames.int() - alone.frames.int()).abs().max() <= (1 if rolls == 8 and width == 48 else 0)
        assert torch.equal(view.boxes, alone.boxes)


def test_quarter_turns_go_clockwise():
    batch = batch_of([[[40, 0, 48, 8]]])
    batch.frames.zero_()[..., :8, 40:] = 255
    rolled = roll_batch(batch, 90)
    assert rolled.boxes.tolist() == [[40, 40, 48, 48]]
    assert (rolled.frames[..., 40:, 40:] == 255).all()
    assert rolled.frames.float().mean() == batch.frames.float().mean()


def test_a_batch_may_mix_angles():
    batch = batch_of(PEOPLE * 2)
    degrees = torch.tensor([90.0, 33, 0, -90, 33, 360])
    rolled = roll_batch(batch, degrees)
    for number, angle in enumerate(degrees.tolist()):
        alone = roll_batch(batch, angle)
        assert torch.equal(rolled.frames[number], alone.frames[number])
        here = batch.clip_index == number
        assert torch.equal(rolled.boxes[here], alone.boxes[here])
    assert rolled.labels is batch.labels
    assert rolled.table_boxes is batch.table_boxes


@given(angles, angles)
@settings(max_examples=12, deadline=None)
def test_two_rolls_are_one_by_the_sum(first, second):
    batch = smooth()
    twice = roll_batch(roll_batch(batch, first), second).frames.int()
    once = roll_batch(batch, first + second).frames.int()
    middle = (..., slice(12, 36), slice(12, 36))  # what no roll brings beyond the border
    assert (twice[middle] - once[middle]).abs().max() <= 6
    torch.testing.assert_close(
        roll_map(torch.tensor(first)) @ roll_map(torch.tensor(second)),
        roll_map(torch.tensor(first + second)),
        atol=1e-5,
        rtol=0,
    )


@given(angles)
@settings(max_examples=12, deadline=None)
def test_a_mirrored_clip_turns_the_other_way(degrees):
    batch = smooth()
    rolled, back = roll_batch(batch, degrees), roll_batch(_mirrored(batch), -degrees)
    assert (rolled.frames.flip(-1).int() - back.frames.int()).abs().max() <= 3
    people = batch_of(PEOPLE)
    expected = _mirrored(roll_batch(people, degrees)).boxes
    torch.testing.assert_close(roll_batch(_mirrored(people), -degrees).boxes, expected, atol=1e-3, rtol=0)


def _mirrored(batch):
    width = batch.frames.shape[-1]
    x1, y1, x2, y2 = batch.boxes.unbind(1)
    batch = roll_batch(batch, 0)
    batch.frames, batch.boxes = batch.frames.flip(-1), torch.stack([width - x2, y1, width - x1, y2], 1)
    return batch


@given(angles, st.sampled_from(["ellipse", "rectangle"]), st.integers(20, 60), st.integers(20, 60))
@settings(max_examples=20, deadline=None)
def test_boxes_stay_inside_and_rectangles_are_the_larger(degrees, box, height, width):
    batch = batch_of([[[4, 6, 18, 19], [0, 0, width, height]]], height, width)
    boxes = roll_batch(batch, degrees, box=box).boxes
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([width, height] * 2)).all()
    rectangle = roll_batch(batch, degrees, box="rectangle").boxes
    assert (rectangle[:, :2] <= boxes[:, :2] + 1e-4).all()
    assert (rectangle[:, 2:] >= boxes[:, 2:] - 1e-4).all()


@given(angles)
@settings(max_examples=12, deadline=None)
def test_a_rectangle_is_the_tightest_around_its_turned_corners(degrees):
    boxes = roll_batch(batch_of([[[18, 14, 30, 34]]]), degrees, box="rectangle").boxes[0]
    corners = [complex(x - 24, y - 24) for x in (18, 30) for y in (14, 34)]
    turned = [c * complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees))) for c in corners]
    xs, ys = [c.real + 24 for c in turned], [c.imag + 24 for c in turned]
    torch.testing.assert_close(boxes, torch.tensor([min(xs), min(ys), max(xs), max(ys)]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("fill", ["reflect", "edge", "circle"])
def test_opencv_and_torch_agree(fill):
    frames = smooth().frames
    for degrees in (10.0, 45, 200):
        matrix = roll_map(torch.tensor([degrees]))
        one, two = (by(frames, matrix, None, fill).int() for by in (_resample_by_opencv, _resample_by_torch))
        assert (one - two).abs().max() <= 3


def test_float_frames_roll_as_uint8_does_and_carry_gradients():
    batch = smooth()
    as_uint8 = roll_batch(batch, 30).frames.float()
    batch.frames = batch.frames.float()
    assert (roll_batch(batch, 30).frames - as_uint8).abs().max() <= 3
    batch.frames.requires_grad_()
    roll_batch(batch, 30).frames.sum().backward()
    assert batch.frames.grad is not None


def test_half_turns_of_wide_frames_are_exact_and_quarter_turns_keep_the_shape():
    batch = batch_of([[[4, 6, 20, 18]]], height=24, width=40)
    half = roll_batch(batch, 180)
    assert torch.equal(half.frames, batch.frames.flip(-1, -2))
    assert half.boxes.tolist() == [[20, 6, 36, 18]]
    quarter = roll_batch(batch, 90)
    assert quarter.frames.shape == batch.frames.shape
    square = torch.rot90(batch.frames[..., 8:32], -1, dims=(-2, -1))
    assert torch.equal(quarter.frames[..., 8:32], square)


def test_corners_are_filled_and_a_circle_hides_the_angle():
    batch = batch_of([[], []])
    batch.frames.fill_(200)
    degrees = torch.tensor([0.0, 37])
    for fill in ("reflect", "edge"):
        assert (roll_batch(batch, degrees, fill=fill).frames == 200).all()
    upright, rolled = roll_batch(batch, degrees, fill="circle").frames
    assert torch.equal(upright, rolled)
    assert (upright[..., 0, 0] == 115).all()
    assert (upright == 200).float().mean() == pytest.approx(math.pi / 4, abs=0.01)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"fill 'black'.*circle, edge, reflect"):
        roll_batch(batch_of([[]]), 10, fill="black")
    with pytest.raises(InputError, match=r"box 'elipse'.*ellipse"):
        roll_batch(batch_of([[]]), 10, box="elipse")


# ------------------------------------------------------------------------------------------------------ random rolls


def still(**rotation):
    """Augmentation by roll alone."""
    return AugmentConfig(flip=0, scale=[1, 1], colour=0, **rotation)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_uniform_rolls_reach_as_far_as_they_may():
    degrees = draw_roll(20_000, still(rotation=60), seeded())
    assert stats.kstest(degrees.numpy(), "uniform", (-60, 120)).pvalue > 0.01


def test_von_mises_rolls_have_their_mean_and_concentration():
    config = still(rotation_distribution="von_mises", rotation_mean=30, rotation_concentration=5)
    radians = torch.deg2rad(draw_roll(20_000, config, seeded())).numpy()
    assert stats.kstest(radians, stats.vonmises(5, math.radians(30)).cdf).pvalue > 0.01
    again = torch.deg2rad(draw_roll(20_000, config, seeded())).numpy()
    assert (radians == again).all()


def test_fixed_rolls_are_all_drawn_and_no_others():
    config = still(rotation_distribution="fixed", rotation_angles=[0, 90, 200])
    assert set(draw_roll(100, config, seeded()).tolist()) == {0, 90, 200}


def test_an_augmented_batch_is_the_batch_rolled():
    batch = smooth()
    batch.boxes, batch.clip_index = torch.tensor([[4.0, 6, 20, 30]]), torch.tensor([0])
    config = still(rotation_distribution="fixed", rotation_angles=[70], rotation_box="rectangle", rotation_fill="edge")
    augmented, rolled = augment_batch(batch, config), roll_batch(batch, 70, box="rectangle", fill="edge")
    assert (augmented.frames.int() - rolled.frames.int()).abs().max() <= 1
    torch.testing.assert_close(augmented.boxes, rolled.boxes, atol=1e-3, rtol=0)


@pytest.mark.parametrize("length", [1, 4, 5])
def test_a_spin_turns_steadily_and_leaves_the_keyframe(length):
    batch = smooth()
    batch.frames = batch.frames[:, :, :1].repeat(1, 1, length, 1, 1)
    batch.boxes, batch.clip_index = torch.tensor([[4.0, 6, 20, 30]]), torch.tensor([0])
    turning = augment_batch(batch, still(rotation_spin=90), seeded(3))
    assert torch.equal(turning.frames[:, :, length // 2], batch.frames[:, :, length // 2])
    torch.testing.assert_close(turning.boxes, batch.boxes)
    steps = spin_through(length, torch.tensor([60.0]))[0]
    assert steps[length // 2] == 0
    if length > 1:
        assert steps[-1] - steps[0] == 60
        assert steps.diff().unique().numel() == 1


def test_each_frame_of_a_spin_is_rolled_by_its_own_angle():
    frames = smooth().frames[:, :, :1].repeat(2, 1, 4, 1, 1)
    degrees = spin_through(4, torch.tensor([80.0, -30]))
    for by in (_resample_by_opencv, _resample_by_torch):
        turned = by(frames, roll_map(degrees), None).int()
        for clip in range(2):
            for place in range(4):
                alone = roll_batch(smooth(), float(degrees[clip, place])).frames[0, :, 0].int()
                assert (turned[clip, :, place] - alone).abs().max() <= 3


def test_people_who_left_the_picture_are_dropped_with_all_that_is_theirs():
    wide = [[0, 0, 8, 8], [16, 4, 24, 20], [20, 2, 38, 22]]  # a quarter turn brings the first beyond the top
    batch = batch_of([wide, []], height=24, width=40)
    config = still(rotation_distribution="fixed", rotation_angles=[90])
    everyone = augment_batch(batch, config)
    assert everyone.num_boxes == 3
    config.min_visibility = 0.9
    left = augment_batch(batch, config)
    # By hand: a quarter turn maps (x, y) to (32 - y, x - 8); x is cut at 0 and 40, y at 0 and 24.
    assert left.boxes.tolist() == [[12, 8, 28, 16]]
    assert left.clip_index.tolist() == [0]
    assert torch.equal(left.labels, batch.labels[1:2])
    assert torch.equal(left.table_boxes, batch.table_boxes[1:2])
    assert augment_batch(batch.without_labels(), config).num_boxes == 1


def test_nobody_left():
    batch = batch_of([[[0, 0, 8, 8]]], height=24, width=40)
    config = still(rotation_distribution="fixed", rotation_angles=[90], min_visibility=0.5)
    left = augment_batch(batch, config)
    assert left.boxes.shape == (0, 4)
    assert left.labels.shape == (0, 5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["augment.rotation_distribution=vonmises"], "'vonmises'.*'von_mises'"),
        (["augment.rotation_fill=black"], "augment.rotation_fill 'black'"),
        (
            ["augment.rotation_distribution=von_mises", "augment.rotation=30"],
            r"augment\.rotation=30\b.*rotation_distribution=von_mises",
        ),
        (["augment.rotation_distribution=fixed"], r"rotation_angles=\[\].*rotation_distribution=fixed"),
        (["augment.rotation_angles=[0,90]"], r"rotation_angles=\[0.*90.*\].*rotation_distribution=uniform"),
        (["augment.min_visibility=2"], r"augment\.min_visibility.*\[0, 1\]"),
    ],
)
def test_impossible_rotations_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        load_config("ava2microg", keys)


def test_a_stage_with_its_own_rotation_draws_it_uniformly():
    config = still(rotation_distribution="fixed", rotation_angles=[90], rotation_fill="edge")
    assert config.with_rotation(None) is config
    stage = config.with_rotation(180)
    assert (stage.rotation, stage.rotation_distribution, stage.rotation_fill) == (180, "uniform", "edge")
