"""Several data sets as one: the same clips, and the clips that an adaptation adds to those of the source."""

import numpy as np
import pandas as pd
import pytest
import torch

from microg_da.config import load_config
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.data.joined import JoinedClips, shared_source_videos
from microg_da.errors import InputError
from microg_da.synthetic import SyntheticDataset, SyntheticSpec
from microg_da.training.few_clips import FewClips


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MICROG_DA_CACHE", str(tmp_path_factory.getbasetemp() / "joined-cache"))


def clips(domain="earth", number=5, **options):
    spec = SyntheticSpec(domain, num_clips=number, size=32, num_frames=2, **options)
    return SyntheticDataset(spec, workers=0, progress=False)


def test_clips_follow_one_another():
    parts = [clips(number=5), clips("microgravity", 3)]
    joined = JoinedClips(parts)
    assert len(joined) == 8
    expected = [part[index] for part in parts for index in range(len(part))]
    for index, clip in enumerate(expected):
        assert joined[index].key == joined.keys[index] == clip.key
        assert torch.equal(joined[index].frames, clip.frames)
    with pytest.raises(IndexError):
        joined[8]
    assert len(joined.annotations()) == sum(len(part.annotations()) for part in parts)
    assert joined.frame_sizes() is None
    assert joined.in_test_views().keys == joined.keys


def test_sizes_of_frames_are_joined_if_any_part_has_several():
    class Sized(SyntheticDataset):
        def frame_sizes(self):
            return np.full((len(self), 2), 48)

    sized = Sized(SyntheticSpec("earth", num_clips=2, size=32, num_frames=2), workers=0, progress=False)
    assert JoinedClips([sized, clips(number=3)]).frame_sizes().tolist() == [[48, 48]] * 2 + [[0, 0]] * 3


def test_epochs_reach_all_parts():
    class Counting(SyntheticDataset):
        epoch = -1

        def set_epoch(self, epoch):
            self.epoch = epoch

    parts = [Counting(SyntheticSpec("earth", num_clips=2, size=32), workers=0, progress=False) for _ in range(2)]
    JoinedClips(parts).set_epoch(3)
    assert [part.epoch for part in parts] == [3, 3]


def config(*words):
    small = ["data.image_size=32", "model.num_frames=2", "training.batch_size=4", "synthetic.workers=0"]
    small += [f"synthetic.{split}_clips=8" for split in ("train", "val", "test")]
    return load_config("ava2microg", [*small, *words])


def keys_of(batches):
    return [key for batch in batches for key in batch.keys]


def test_the_adaptation_stage_adds_the_extra_clips_and_others_do_not():
    datasets = DomainDatasets(config("adaptation.extra_source='synthetic:earth?seed=5&num_clips=12'"))
    datasets.open_for_fit()
    plain, adapting = (StageData(datasets, unlabelled="target", batch_size=4, extra=extra) for extra in (False, True))
    assert len(plain.train_dataloader().iterables["source"]) * 4 == 8
    assert len(adapting.train_dataloader().iterables["source"]) * 4 == 20
    assert len(keys_of(plain.unaugmented_clips("source"))) == 8
    read = keys_of(adapting.unaugmented_clips("source"))
    assert read == [*datasets.get("source", "train", labelled=True).keys, *datasets.extra.keys]
    assert len(keys_of(adapting.unaugmented_clips("target"))) == 8
    assert len(datasets.facts()["data"]) == 6
    assert all(batch.labels is not None for batch in adapting.unaugmented_clips("source"))


def test_a_dry_run_counts_the_extra_clips_and_each_process_prepares_all_of_them():
    settings = config("adaptation.extra_source='synthetic:earth?seed=5&num_clips=12'")
    few = FewClips(settings, processes=2)
    adapting = StageData(few, unlabelled="target", batch_size=4, extra=True)
    assert few.training_clips(adapting, "source") == 20
    assert few.training_clips(adapting, "target") == 8
    assert few.steps_per_epoch(adapting, settings.training) == 20 // 2 // 4
    assert few.training_clips(StageData(few, batch_size=4), "source") == 8


def test_extra_clips_that_cannot_be_read_are_listed():
    class Broken(SyntheticDataset):
        def skipped(self):
            return pd.DataFrame([("clip", 1, "damaged")], columns=["video_id", "frame_stamp", "reason"])

    datasets = DomainDatasets(config("adaptation.extra_source=synthetic:earth"))
    datasets._extra = Broken(SyntheticSpec("earth", num_clips=2, size=32), workers=0, progress=False)
    assert datasets.skipped()[["domain", "split", "video_id"]].values.tolist() == [["source", "train", "clip"]]


def test_people_of_the_extra_clips_must_not_be_tested():
    test = clips(split="test")
    assert shared_source_videos(test, test)
    assert not shared_source_videos(test, clips(split="train"))

    class Leaking(DomainDatasets):
        @property
        def extra(self):
            return self.get("source", "test", labelled=True)

    leaking = Leaking(config("adaptation.extra_source=synthetic:earth"))
    with pytest.raises(InputError, match=r"adaptation\.extra_source=synthetic:earth.*'earth-"):
        leaking.open_for_fit()


def test_options_of_the_source_are_not_those_of_the_extra_clips():
    settings = config("data.source_options={keyframes: 2}", "adaptation.extra_source=ava:nowhere")
    assert "keyframes" in settings.source_options("source", "ava", "train")
    assert "keyframes" not in settings.source_options(None, "ava", "train")
