"""Files and augmentation together: each transform of a training clip has one owner, and people keep their identity."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from microg_da.adaptation.base import create_adaptation
from microg_da.config import AugmentConfig, load_config
from microg_da.data.batches import collate_clips
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.data.sources import open_source
from microg_da.models import create_detector
from microg_da.transforms.augmentation import augment_training_batch

CLIPS, PEOPLE, SIDE = 8, 3, 112
REQUEST = {
    "split": "train", "taxonomy": "microg50", "num_frames": 2, "sampling_rate": 1, "image_size": 64, "labelled": True,
    "train": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """Clips whose pixels tell their column and row (red and green), with three people at the edges of the frame."""
    root = tmp_path_factory.mktemp("ramp")
    rows = []
    for clip in range(CLIPS):
        name = f"film_{clip:03d}"
        folder = root / "frames" / name
        folder.mkdir(parents=True)
        column, row = np.meshgrid(2.0 * np.arange(SIDE), 2.0 * np.arange(SIDE))
        image = np.stack([np.zeros_like(row), row, column], axis=-1).astype(np.uint8)
        for frame in range(4):
            cv2.imwrite(str(folder / f"{name}_{frame + 1:06d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
        for person in range(PEOPLE):
            left = 0.01 + 0.46 * person
            top = 0.02 + 0.01 * clip
            rows.append((name, 2, left, top, left + 0.06, top + 0.3, 12, person + 1))
    (root / "annotations").mkdir()
    pd.DataFrame(rows).to_csv(root / "annotations" / "ava_train.csv", header=False, index=False)
    return root


def opened(root, query="", **changes):
    return open_source(f"microg4m:{root}{query}", **{**REQUEST, **changes})


def test_every_person_keeps_their_identity_while_crops_and_rolls_drop_others(ramp):
    """The table's own boxes say who somebody is: an independent way to the same person."""
    table = pd.read_csv(ramp / "annotations" / "ava_train.csv", header=None)
    expected = {
        (name, index): rows.iloc[index, 2:6].to_numpy(float)
        for name, rows in table.groupby(0)
        for index in range(PEOPLE)
    }
    clips = opened(ramp)
    torch.manual_seed(0)
    config = AugmentConfig(rotation=45, min_visibility=0.5)
    counts = []
    for epoch in range(4):
        clips.set_epoch(epoch)
        batch = augment_training_batch(collate_clips([clips[index] for index in range(CLIPS)]), config)
        counts.append(batch.num_boxes)
        for person, box in zip(batch.people, batch.table_boxes, strict=True):
            assert box.numpy() == pytest.approx(expected[person.keyframe.video_id, person.place], abs=1e-6)
    assert len(set(counts)) > 1
    assert max(counts) < CLIPS * PEOPLE


def test_self_training_gives_each_person_of_a_random_crop_their_own_label(ramp):
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=50, dropout=0.0).eval()
    said = {}
    for clip in opened(ramp, train=False, labelled=False):
        batch = collate_clips([clip], "target")
        with torch.no_grad():
            logits = detector(batch.frames, batch.boxes, batch.clip_index).logits
        said |= {
            (clip.key.video_id, *box): label
            for box, label in zip(clip.table_boxes.tolist(), logits.sigmoid(), strict=True)
        }
    assert len({tuple(label.tolist()) for label in said.values()}) == CLIPS * PEOPLE
    config = load_config(
        "ava2microg",
        ["data.image_size=64", "model.num_frames=2", "model.sampling_rate=1", f"data.target=microg4m:{ramp}"],
    )
    data = StageData(DomainDatasets(config), labelled=None, unlabelled="target", batch_size=3)
    method = create_adaptation("self_training", {"rolls": 1}, feature_dim=detector.feature_dim, num_classes=50)
    method.before_training(detector, [], [])
    method.before_epoch(detector, data.unaugmented_clips("target"), epoch=0)
    dropped = 0
    for batch, _, _ in iter(data.train_dataloader()):
        seen = augment_training_batch(batch["target"], AugmentConfig(rotation=45, min_visibility=0.5))
        dropped += PEOPLE * len(seen) - seen.num_boxes
        for clip, box, label in zip(seen.clip_index, seen.table_boxes, method.labels_of(seen.people), strict=True):
            assert torch.allclose(label, said[(seen.keys[clip].video_id, *box.tolist())], atol=1e-4)
    assert dropped > 0


def slopes(frames):
    """Levels of red a pixel to the right: its sign tells a flip, its size the zoom."""
    red = frames[0, 0].float()
    inner = red[24:40, 16:48]
    return float((inner[:, 1:] - inner[:, :-1]).mean())


def zooms(dataset, config):
    found = []
    for epoch in range(6):
        dataset.set_epoch(epoch)
        batch = augment_training_batch(collate_clips([dataset[index] for index in range(CLIPS)]), config)
        found += [slopes(clip) for clip in batch.frames]
    # Two levels a stored pixel; the short side that the zoom is relative to is 8/7 of the crop.
    return np.array([2 * SIDE / (REQUEST["image_size"] * 8 / 7) / slope for slope in found])


@pytest.mark.parametrize(
    ("scale", "query"), [([1.0, 1.25], ""), ([0.9, 1.0], ""), ([0.9, 1.0], "?min_side=73&max_side=91")]
)
def test_decoding_zooms_by_augment_scale_or_the_sides_of_the_source_and_the_batch_not_again(ramp, scale, query):
    low, high = (1.0, 1.25) if query else scale
    found = zooms(opened(ramp, query, scale=scale), AugmentConfig(flip=0, colour=0, scale=scale))
    assert low - 0.04 < found.min() < low + 0.06
    assert high - 0.06 < found.max() < high + 0.04


def test_no_flip_means_none_and_a_certain_flip_mirrors_every_clip_once(ramp):
    for flip in (0.0, 1.0):
        found = zooms(opened(ramp), AugmentConfig(flip=flip, colour=0, scale=[1.0, 1.25]))
        assert ((found < 0) == bool(flip)).all()


def test_what_a_method_looks_at_is_what_is_tested(ramp):
    config = load_config("ava2microg", ["data.image_size=64", "model.num_frames=2", "model.sampling_rate=1"])
    config.data.source = config.data.target = f"microg4m:{ramp}"
    data = StageData(DomainDatasets(config), unlabelled="target")
    tested = opened(ramp, train=False)
    for domain in ("source", "target"):
        looked_at = list(data.unaugmented_clips(domain))
        assert sum(map(len, looked_at)) == CLIPS
        for batch in looked_at:
            assert not batch.zoomed
            assert batch.num_boxes == PEOPLE * len(batch)
            for key, clip in zip(batch.keys, batch.frames, strict=True):
                assert torch.equal(clip, tested[tested.keys.index(key)].frames)


def test_training_clips_stay_random_after_a_method_looked_at_them(ramp):
    clips = opened(ramp)
    assert clips.in_test_views()[0].frames.shape[-1] == 73
    assert clips[0].frames.shape[-1] == 64


def test_people_outside_a_crop_may_stay_with_an_empty_box(ramp):
    """The published training never drops people; theirs is the box that is clipped to nothing."""
    kept, dropped = opened(ramp, "?outside=keep"), opened(ramp)
    empty = 0
    for epoch in range(4):
        kept.set_epoch(epoch)
        dropped.set_epoch(epoch)
        for everybody, inside in zip(kept, dropped, strict=True):
            assert len(everybody.boxes) == len(everybody.labels) == PEOPLE
            assert torch.equal(everybody.frames, inside.frames)
            sizes = everybody.boxes[:, 2:] - everybody.boxes[:, :2]
            has_area = (sizes > 0).all(dim=1)
            assert torch.equal(everybody.boxes[has_area], inside.boxes)
            empty += int((~has_area).sum())
    assert empty


def wide_tree(root):
    """One clip of 48 × 96 pixels with people on the left, in the middle and on the right."""
    (root / "frames" / "film_1").mkdir(parents=True)
    picture = np.repeat(np.arange(96, dtype=np.uint8)[None, :, None], 48, axis=0).repeat(3, axis=2)
    for number in range(1, 5):
        cv2.imwrite(str(root / "frames" / "film_1" / f"film_1_{number:06d}.jpg"), picture)
    rows = [("film_1", 2, left, 0.25, left + 0.125, 0.75, 12, index) for index, left in enumerate((0.0, 0.4375, 0.875))]
    (root / "annotations").mkdir()
    pd.DataFrame(rows).to_csv(root / "annotations" / "ava_val.csv", header=False, index=False)
    return root


def test_the_published_validation_shows_the_centre(tmp_path):
    """The outer people get the score of the bias alone, the one in the middle does not."""
    root = wide_tree(tmp_path)
    request = {"split": "val", "train": False, "labelled": False, "test_side": 64}
    whole, centre = opened(root, **request), opened(root, **request, val_view="centre")
    assert whole[0].frames.shape[-2:] == (64, 128)
    assert centre[0].frames.shape[-2:] == (64, 64)
    assert centre.frame_sizes().tolist() == [[64, 64]]
    # Columns 24 to 72 of 96 are shown: the picture tells its column.
    columns = centre[0].frames[0, 0, 32].float()
    assert (columns[0].item(), columns[-1].item()) == pytest.approx((24, 71), abs=2)
    assert centre[0].boxes[:, 0].tolist() == pytest.approx([0, (0.4375 * 96 - 24) * 64 / 48, 64])
    assert (centre[0].boxes[:, 2] - centre[0].boxes[:, 0]).tolist() == pytest.approx([0, 16, 0])
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_micro").eval()
    torch.nn.init.normal_(detector.head.projection.bias)
    batch = collate_clips([centre[0]])
    with torch.no_grad():
        logits = detector(batch.frames, batch.boxes, batch.clip_index).logits
    assert torch.equal(logits[[0, 2]], detector.head.projection.bias.expand(2, -1))
    assert not torch.allclose(logits[1], detector.head.projection.bias)
