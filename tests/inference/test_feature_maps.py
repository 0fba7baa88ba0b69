"""The feature store of a run: predictions as without it, made once, by whatever process, and for one encoder only."""

import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from microg_da.adaptation.base import Task
from microg_da.adaptation.roll_tta import RollTTA, RollTTAArguments
from microg_da.config import AugmentConfig, load_config
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.errors import InputError
from microg_da.inference import feature_maps
from microg_da.inference.encoding import seen_under
from microg_da.inference.feature_maps import FeatureMaps
from microg_da.models import create_detector
from microg_da.transforms.rotation import roll_frames
from microg_da.transforms.stored_frames import AS_FILMED, StoredView, even_views, is_stored

ROWS = """\
wide_1,4,0.1,0.2,0.5,0.9,12,1
wide_1,4,0.6,0.2,0.9,0.9,80,2
square_1,5,0.0,0.0,1.0,1.0,12,1
wide_2,6,0.3,0.3,0.6,0.6,14,1
wide_2,8,0.3,0.3,0.6,0.6,79,2
"""
SIZES = {"wide_1": (32, 48), "square_1": (40, 40), "wide_2": (32, 48)}
QUIET = Console(quiet=True)


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    for video, size in SIZES.items():
        (tmp_path / "frames" / video).mkdir(parents=True)
        for number in range(10):
            picture = cv2.GaussianBlur(rng.integers(0, 255, (*size, 3), dtype=np.uint8), (5, 5), 0)
            cv2.imwrite(str(tmp_path / "frames" / video / f"{video}_{number + 1:06d}.jpg"), picture)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "ava_train.csv").write_text(ROWS)
    return tmp_path


def new_config(tree, store, *words):
    source = f"ava:{tree}?stamp=frames"
    return load_config(
        "ava2microg",
        [
            *(f"data.source={source}", f"data.target={source}", "data.image_size=32", "model.num_frames=2"),
            *("model.name=r2plus1d_micro", "model.freeze=all", f"data.feature_store={store}"),
            *("evaluation.batch_size=2", "training.batch_size=2", "trainer.accelerator=cpu", *words),
        ],
    )


def new_detector(seed=0):
    torch.manual_seed(seed)
    detector = create_detector("r2plus1d_micro", freeze="all")
    nn.init.normal_(detector.head.projection.weight)
    for module in detector.backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return detector.eval()


def with_store(config, detector, console=QUIET):
    datasets = DomainDatasets(config)
    datasets.maps = FeatureMaps(detector, config, console)
    return datasets


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


@torch.no_grad()
def answers(datasets, method, detector):
    """Each person's logits."""
    found = {}
    for batch in StageData(datasets).unaugmented_clips("target"):
        assert is_stored(batch.frames) == (datasets.maps is not None)
        found |= dict(zip(batch.people, method(detector, batch).logits, strict=True))
    return found


def roll_tta():
    return RollTTA(RollTTAArguments(rolls=8), Task(1, 50, (0,) * 50))


def alone(detector, batch):
    return detector(batch.frames, batch.boxes, batch.clip_index)


@pytest.mark.parametrize("rolls", [False, True])
def test_predictions_are_those_of_pixels_up_to_half_precision(tree, tmp_path, rolls):
    config, detector = new_config(tree, tmp_path / "store"), new_detector()
    method = roll_tta().predict if rolls else alone
    datasets = with_store(config, detector)
    if rolls:
        datasets.maps.looked_at = frozenset(roll_tta().stored_views)
    pixels, maps = (answers(each, method, detector) for each in (DomainDatasets(config), datasets))
    assert maps.keys() == pixels.keys()
    assert len(maps) == 5
    for person, logits in pixels.items():
        torch.testing.assert_close(maps[person], logits, rtol=5e-3, atol=5e-3)
    assert float(torch.stack(list(pixels.values())).std(dim=0).max()) > 0.05  # people differ by far more than that


def test_what_is_stored_is_read_and_neither_decoded_nor_encoded_again(tree, tmp_path, monkeypatch):
    config, detector = new_config(tree, tmp_path / "store"), new_detector()
    first = answers(with_store(config, detector), alone, detector)

    def never(*_):
        pytest.fail("a clip was encoded")

    monkeypatch.setattr(feature_maps.Encoder, "__call__", never)
    again = answers(with_store(config, detector), alone, detector)
    assert all(torch.equal(again[person], logits) for person, logits in first.items())


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_an_interrupted_run_continues_to_the_same_bytes(tree, tmp_path, monkeypatch, stop):
    detector, views = new_detector(), frozenset(even_views(2))
    whole, broken = (new_config(tree, tmp_path / name) for name in ("whole", "broken"))

    def fill(config):
        datasets = with_store(config, detector)
        datasets.maps.looked_at = views
        datasets.tested("target", "train")

    fill(whole)
    count, encode = [0], feature_maps.Encoder.__call__

    def interrupted(self, frames):
        count[0] += 1
        if count[0] > stop + len(SIZES):  # what each size takes is asked for first
            raise KeyboardInterrupt
        return encode(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(feature_maps.Encoder, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fill(broken)
    fill(broken)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def _fill(config):
    with_store(config, new_detector()).tested("target", "train")


def test_two_processes_make_the_entries_once(tree, tmp_path):
    config = new_config(tree, tmp_path / "store")
    _fill(new_config(tree, tmp_path / "alone"))
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(config,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert content(tmp_path / "store") == content(tmp_path / "alone")


def test_other_weights_and_other_data_make_other_entries(tree, tmp_path):
    config = new_config(tree, tmp_path / "store")
    with_store(config, new_detector()).tested("target", "train")
    before = content(tmp_path / "store")
    with_store(config, new_detector(1)).tested("target", "train")
    assert len(list((tmp_path / "store").iterdir())) == 2
    picture = tree / "frames" / "square_1" / "square_1_000005.jpg"
    cv2.imwrite(str(picture), np.zeros((40, 40, 3), np.uint8))
    with_store(config, new_detector()).tested("target", "train")
    after = content(tmp_path / "store")
    assert len(after) > 2 * len(before)
    assert before.items() <= after.items()


def test_a_detector_with_another_encoder_is_refused(tree, tmp_path):
    detector = new_detector()
    maps = FeatureMaps(detector, new_config(tree, tmp_path / "store"), QUIET)
    nn.init.normal_(detector.head.projection.weight)
    maps.check(detector)
    with pytest.raises(InputError, match="encoder"):
        maps.check(new_detector(1))


def test_too_little_room_is_refused_before_anything_is_written(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_maps, "free_bytes", lambda _: 100)
    with pytest.raises(InputError, match="GiB"):
        with_store(new_config(tree, tmp_path / "store"), new_detector()).tested("target", "train")
    assert not (tmp_path / "store").exists()


def test_the_size_that_is_told_is_the_size_that_is_written(tree, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(
        FeatureMaps, "_bytes", lambda *args, ask=FeatureMaps._bytes: told.append(ask(*args)) or told[-1]
    )
    with_store(new_config(tree, tmp_path / "store"), new_detector()).tested("target", "train")
    (maps,) = (tmp_path / "store").rglob("maps.f16")
    assert told == [maps.stat().st_size]


def test_training_clips_are_augmented_a_few_times_and_boxes_follow(tree, tmp_path):
    detector = new_detector()
    config = new_config(tree, tmp_path / "store", "data.feature_draws=3")
    datasets = with_store(config, detector)
    data = StageData(datasets, labelled="source", batch_size=2)
    data.augment = AugmentConfig(flip=0.5, rotation=90.0)
    seen = set()
    loader = data.train_dataloader().iterables["source"]
    for epoch in range(12):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            assert is_stored(batch.frames)
            assert batch.labels.shape == (batch.num_boxes, 50)
            for clip, key in enumerate(batch.keys):
                boxes = batch.boxes[batch.clip_index == clip]
                assert bool(((boxes >= 0) & (boxes <= 32)).all())
                seen.add((key, tuple(boxes.flatten().tolist())))
    assert max(sum(key == other for other, _ in seen) for key in {key for key, _ in seen}) == 3
    assert len(list((tmp_path / "store").rglob("maps.f16"))) == 3


def test_a_clip_that_stands_in_for_an_unreadable_one_is_refused(tree, tmp_path):
    damaged = tree / "frames" / "wide_1" / "wide_1_000004.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    config = new_config(tree, tmp_path / "store", "data.on_error=skip")
    with pytest.raises(InputError, match="wide_1"):
        with_store(config, new_detector()).tested("target", "train")


def test_clips_without_people_are_stored(tmp_path):
    config = load_config(
        "ava2microg",
        [
            *("data.image_size=32", "model.num_frames=2", "model.name=r2plus1d_micro", "synthetic.workers=0"),
            *("synthetic.test_clips=3", f"data.feature_store={tmp_path}", "trainer.accelerator=cpu"),
        ],
    )
    detector, datasets = new_detector(), DomainDatasets(config)
    clips = datasets.get("target", "test", labelled=False)
    clips._starts = [0, 0, 0, len(clips._boxes)]  # everybody is in the last clip
    datasets.maps = FeatureMaps(detector, config, QUIET)
    (batch,) = StageData(datasets).test_loader("target")
    assert len(batch) == 3
    assert set(batch.clip_index.tolist()) == {2}
    (pixels,) = StageData(replace_maps(datasets)).test_loader("target")
    torch.testing.assert_close(alone(detector, batch).logits, alone(detector, pixels).logits, rtol=5e-3, atol=5e-3)


def replace_maps(datasets):
    datasets.maps = None
    return datasets


@pytest.mark.parametrize("size", [(24, 24), (24, 40)])
def test_views_compose_as_their_pixels_do(size):
    frames = torch.randint(0, 255, (1, 3, 2, *size), dtype=torch.uint8)

    def rolled(frames, degrees):
        return roll_frames(frames, torch.tensor([degrees], dtype=torch.float64))

    half_turn = seen_under(frames, AS_FILMED.then_rolled(90).then_rolled(90))
    assert torch.equal(half_turn, rolled(frames, 180.0))
    mirrored = AS_FILMED.then_mirrored().then_rolled(180)
    assert torch.equal(seen_under(frames, mirrored), rolled(frames.flip(-1), 180.0))
    assert torch.equal(seen_under(frames, StoredView(30.0)), rolled(frames, 30.0))
    if size[0] == size[1]:
        assert torch.equal(seen_under(frames, AS_FILMED.then_mirrored().then_rolled(90)), rolled(frames.flip(-1), 90.0))
        assert torch.equal(seen_under(frames, StoredView(120.0)), rolled(rolled(frames, 30.0), 90.0))
