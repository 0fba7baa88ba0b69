"""The data set: clips and table agree, workers and caches change nothing."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import torch

from microg_da.data.annotations import read_annotations, write_annotations
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.synthetic import SyntheticDataset, SyntheticSpec, cache, render_clip
from microg_da.synthetic.drawing import CHUNK, _chunks, draw_clips
from microg_da.taxonomy import get_taxonomy
from microg_da.types import LabelledClip

SPEC = SyntheticSpec("microgravity", "val", 6, num_frames=2, size=48, seed=4)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def dataset():
    return SyntheticDataset(SPEC, workers=0, use_cache=False, progress=False)


def test_items_are_clips_of_what_the_renderer_draws(dataset):
    assert len(dataset) == 6
    for index in range(6):
        clip, drawn = dataset[index], render_clip(SPEC, index)
        assert clip.frames.shape == (3, 2, 48, 48)
        assert clip.frames.dtype == torch.uint8
        assert np.array_equal(clip.frames.permute(1, 2, 3, 0).numpy(), drawn.frames)
        assert np.allclose(clip.boxes, drawn.boxes * 48, atol=1e-4)
        assert np.allclose(clip.table_boxes, drawn.boxes, atol=1e-6)
        assert clip.key == (drawn.video_id, 46)
        taxonomy = get_taxonomy("microg50")
        for row, actions in zip(clip.labels, drawn.action_ids, strict=True):
            assert tuple(taxonomy.ids[column] for column in row.nonzero()[:, 0]) == actions


def test_clips_make_a_batch(dataset):
    batch = collate_clips([dataset[index] for index in range(6)])
    assert batch.frames.shape == (6, 3, 2, 48, 48)
    assert batch.labels.shape == (batch.num_boxes, 50)
    assert (batch.boxes[:, 2:] > batch.boxes[:, :2]).all()


def test_the_table_says_what_the_clips_say(dataset, tmp_path):
    table = dataset.annotations()
    assert list(table.columns) == [
        "video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id",
    ]  # fmt: skip
    rows = {(row.video_id, row.person_id, row.action_id) for row in table.itertuples()}
    expected = {
        (clip.video_id, person + 1, action)
        for clip in (render_clip(SPEC, index) for index in range(6))
        for person, actions in enumerate(clip.action_ids)
        for action in actions
    }
    assert rows == expected
    assert len(table) == len(expected)
    path = tmp_path / "table.csv"
    write_annotations(table, path)
    again = read_annotations(path)
    assert (again["action_id"].to_numpy() == table["action_id"].to_numpy()).all()
    assert np.allclose(again[["x1", "y1", "x2", "y2"]], table[["x1", "y1", "x2", "y2"]], atol=1e-4)


def test_unlabelled_clips_carry_no_labels_but_the_table_does():
    dataset = SyntheticDataset(SPEC, labelled=False, workers=0, use_cache=False, progress=False)
    assert not any(isinstance(dataset[index], LabelledClip) for index in range(6))
    assert len(dataset.annotations())


def test_an_empty_set():
    spec = SyntheticSpec("earth", num_clips=0)
    dataset = SyntheticDataset(spec, workers=2, use_cache=False, progress=False)
    assert len(dataset) == 0
    assert len(dataset.annotations()) == 0


@pytest.mark.parametrize("num_clips", [0, 1, 50, 1200])
def test_a_scene_is_drawn_in_one_chunk(num_clips):
    spec = SyntheticSpec("earth", "train", num_clips)
    chunks = _chunks(spec)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(num_clips))
    scenes = [{spec.name(index).source_video for index in chunk} for chunk in chunks]
    assert sum(map(len, scenes)) == len(set().union(*scenes))
    assert all(len(chunk) >= CHUNK for chunk in chunks[:-1])


def test_workers_change_nothing():
    spec = SyntheticSpec("earth", "train", 2 * CHUNK + 3, num_frames=1, size=32)
    alone, together = draw_clips(spec, workers=1), draw_clips(spec, workers=2)
    assert alone.keys() == together.keys()
    assert all(np.array_equal(alone[name], together[name]) for name in alone)


def test_the_cache_is_used_and_faithful(monkeypatch):
    first = SyntheticDataset(SPEC, workers=0, progress=False)
    assert cache.cache_file(SPEC).is_file()
    monkeypatch.setattr("microg_da.synthetic.dataset.draw_clips", lambda *_, **__: pytest.fail("drawn twice"))
    second = SyntheticDataset(SPEC, workers=0, progress=False)
    assert all(torch.equal(first[index].frames, second[index].frames) for index in range(6))
    assert first.annotations().equals(second.annotations())


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "foreign"])
def test_a_damaged_cache_is_drawn_again(damage, dataset):
    SyntheticDataset(SPEC, workers=0, progress=False)
    path = cache.cache_file(SPEC)
    sound = path.read_bytes()
    middle = len(sound) // 2
    damaged = {
        "truncated": sound[:middle],
        "flipped": sound[:middle] + bytes([sound[middle] ^ 0xFF]) + sound[middle + 1 :],
        "empty": b"",
        "text": b"hello",
        "foreign": _archive_of_other_shape(),
    }[damage]
    path.write_bytes(damaged)
    again = SyntheticDataset(SPEC, workers=0, progress=False)
    assert all(torch.equal(again[index].frames, dataset[index].frames) for index in range(6))
    assert path.read_bytes() == sound


def _archive_of_other_shape():
    file = io.BytesIO()
    np.savez(file, frames=np.zeros((1, 2, 3)), boxes=np.zeros((0, 4)), clips=np.zeros(0), labels=np.zeros((0, 81)))
    return file.getvalue()


def test_every_specification_has_a_cache_of_its_own():
    files = {cache.cache_file(SyntheticSpec("earth", seed=seed, size=size)) for seed in (0, 1) for size in (64, 96)}
    assert len(files) == 4


def test_a_cache_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(blocked / "below"))
    assert len(SyntheticDataset(SPEC, workers=0, progress=False)) == 6


def test_files_that_another_process_removes_meanwhile_are_no_obstacle(monkeypatch):
    gone = cache.cache_folder() / ".tmp-of-another-process.npz"
    gone.parent.mkdir(parents=True)
    gone.symlink_to(gone.parent / "absent")  # listed by the folder and absent when asked for its size
    SyntheticDataset(SyntheticSpec("earth", num_clips=4, size=32), workers=0, progress=False)
    assert cache.cache_file(SyntheticSpec("earth", num_clips=4, size=32)).is_file()


def test_old_caches_make_room(monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 150_000)
    specs = [SyntheticSpec("earth", num_clips=2, num_frames=4, size=64, seed=seed) for seed in range(3)]
    for spec in specs:
        SyntheticDataset(spec, workers=0, progress=False)
        time.sleep(0.02)  # files of one instant have no order
    assert [cache.cache_file(spec).exists() for spec in specs] == [False, False, True]


def test_an_unknown_taxonomy_is_named():
    with pytest.raises(InputError, match=r"taxonomy 'microg51'.*microg50"):
        SyntheticDataset(SPEC, "microg51", workers=0, progress=False)


def test_up_is_where_the_head_is_seen():
    """On Earth up is nearly the top of the picture; in orbit a standing person's head is on the side that it names."""
    from microg_da.synthetic.figure import Joint
    from microg_da.synthetic.postures import STAND
    from microg_da.synthetic.render import key_ups, stage_clip

    earth = SyntheticDataset(SyntheticSpec("earth", num_clips=20, size=32), workers=1, use_cache=False).ups()
    assert all(min(angle, 360 - angle) < 15 for angle in earth.values())
    spec = SyntheticSpec("microgravity", num_clips=20, size=32)
    standing = 0
    for index in range(spec.num_clips):
        staging = stage_clip(spec, index)
        bodies = staging.performance.at(np.zeros(1))
        camera = staging.rig.camera(np.zeros(1))
        for actor, body, angle in zip(staging.performance.actors, bodies, key_ups(staging), strict=True):
            if actor.posture != STAND:
                continue
            image, _ = camera.project(body.joints[:, [Joint.PELVIS, Joint.HEAD]])
            across, down = image[0, 1] - image[0, 0]
            seen = np.degrees(np.arctan2(across, -down))
            assert abs((seen - angle + 180) % 360 - 180) < 25
            standing += 1
    assert standing > 3
