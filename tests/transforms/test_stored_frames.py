"""Stored frames behave like frames as far as shapes and clips go, and never give pixels away."""

import pytest
import torch

from microg_da.config import AugmentConfig
from microg_da.errors import InputError
from microg_da.transforms.augmentation import augment_batch, augment_training_batch
from microg_da.transforms.rotation import even_rolls, roll_batch, roll_frames
from microg_da.transforms.stored_frames import AS_FILMED, StoredClip, StoredFrames, StoredView, even_views
from microg_da.types import ClipBatch, ClipKey


class NumberedMaps:
    """The map of a clip holds its row and its roll."""

    def maps(self, row, view):
        return (torch.tensor([row, view.roll, view.mirrored]).half().view(3, 1, 1, 1),)


def new_frames(rows=range(4), shape=(3, 2, 32, 48)):
    reader = NumberedMaps()
    return StoredFrames([StoredClip(reader, row, shape) for row in rows])


def read(frames):
    (maps,) = frames.maps()
    return maps.flatten(1).tolist()


def new_batch(frames):
    boxes = torch.tensor([[4.0, 6, 20, 28]] * len(frames))
    keys = tuple(ClipKey(f"clip_{number}", 1) for number in range(len(frames)))
    return ClipBatch(frames, boxes, torch.arange(len(frames)), boxes / 48, keys)


def test_clips_are_taken_and_joined_as_those_of_a_tensor():
    frames, pixels = new_frames(), torch.zeros(4, 3, 2, 32, 48)
    for chosen in (slice(1, 3), torch.tensor([True, False, False, True]), torch.tensor([2, 0, 2])):
        assert frames[chosen].shape == pixels[chosen].shape
        rows = torch.arange(4)[chosen].tolist()
        assert [row for row, *_ in read(frames[chosen])] == rows
    joined = torch.cat([frames[:1], frames[2:]])
    assert joined.shape == (3, 3, 2, 32, 48)
    assert [row for row, *_ in read(joined)] == [0, 2, 3]


@pytest.mark.parametrize(
    "ask",
    [
        lambda frames: frames.float(),
        lambda frames: frames[:, :, 0],
        lambda frames: torch.rot90(frames, 1, (-2, -1)),
        lambda frames: frames.masked_fill(torch.zeros(1), 0),
        lambda frames: frames.flip(-2),
        lambda frames: roll_frames(frames, torch.tensor([10.0] * 4), fill="circle"),
        lambda frames: augment_batch(new_batch(frames), AugmentConfig()),
        lambda frames: augment_training_batch(new_batch(frames), AugmentConfig(), torch.zeros(4)),
    ],
)
def test_whoever_asks_for_pixels_is_told_that_there_are_none(ask):
    with pytest.raises(InputError, match="feature_store"):
        ask(new_frames())


def test_training_batches_are_augmented_already():
    batch = new_batch(new_frames())
    assert augment_training_batch(batch, AugmentConfig(flip=1.0)) is batch


def test_rolls_compose_and_boxes_move_as_with_pixels():
    batch, pixels = new_batch(new_frames()), new_batch(torch.zeros(4, 3, 2, 32, 48))
    degrees = torch.tensor([0.0, 90, 45.5, -30])
    rolled = roll_batch(roll_batch(batch, degrees), 15)
    assert [roll for _, roll, _ in read(rolled.frames)] == pytest.approx([15, 105, 60.5, 345])
    torch.testing.assert_close(roll_batch(batch, degrees).boxes, roll_batch(pixels, degrees).boxes)


@pytest.mark.parametrize("shape", [(3, 2, 32, 48), (3, 2, 32, 32)])
@pytest.mark.parametrize("rolls", [1, 3, 8])
def test_even_rolls_ask_for_the_views_that_are_named(shape, rolls):
    seen = even_rolls(new_batch(new_frames(shape=shape)), rolls)
    assert [each.frames.clips[0].view for each in seen] == list(even_views(rolls))


def test_a_mirror_image_turns_the_other_way():
    frames = new_frames([0]).rolled(torch.tensor([30.0])).flip(-1).rolled(torch.tensor([50.0]))
    assert frames.clips[0].view == StoredView(340, mirrored=True)
    assert frames.flip(-1).rolled(torch.tensor([20.0])).clips[0].view == AS_FILMED


def test_clips_of_a_batch_have_one_shape():
    clips = [StoredClip(NumberedMaps(), 0, shape) for shape in ((3, 2, 8, 8), (3, 2, 8, 9))]
    with pytest.raises(ValueError, match="one shape"):
        StoredFrames(clips)
