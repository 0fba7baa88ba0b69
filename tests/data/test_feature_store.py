"""Entries of the feature store: whole or absent, and the same bytes however often their writing was interrupted."""

import multiprocessing

import numpy as np
import pytest
import torch

from microg_da.data import feature_store
from microg_da.data.feature_store import ClipRecord, EntryWriter, open_entry, writing
from microg_da.errors import InputError

PLAN = {"rows": 5, "chunks": 1}
CHUNKS = [[3, 0], [1], [2, 4]]
PEOPLE = [2, 0, 1, 0, 3]


def record(row):
    rng = np.random.default_rng(row)
    boxes = rng.random((PEOPLE[row], 4)).astype(np.float32)
    return ClipRecord((3, 4, 32, 32 + 16 * (row % 2)), tuple(range(1, 1 + PEOPLE[row])), boxes * 32, boxes)


def maps(row):
    """Two pathways, wider for clips of odd rows."""
    generator = torch.Generator().manual_seed(row)
    return tuple(torch.randn(4, frames, 2, 2 + row % 2, generator=generator) for frames in (2, 1))


def write(folder, chunks=CHUNKS, plan=PLAN):
    writer = EntryWriter(folder, plan)
    for rows in chunks[writer.chunks :]:
        writer.append(rows, [record(row) for row in rows], [maps(row) for row in rows])
    return writer


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_read_is_what_was_written(tmp_path):
    entry = write(tmp_path).finish({"view": "as filmed"})
    assert len(entry) == 5
    for row in range(5):
        for read, made in zip(entry.maps(row), maps(row), strict=True):
            assert read.dtype == torch.float16
            assert torch.equal(read, made.half())
        read, made = entry.record(row), record(row)
        assert (read.shape, read.places) == (made.shape, made.places)
        np.testing.assert_array_equal(read.boxes, made.boxes)
        np.testing.assert_array_equal(read.table_boxes, made.table_boxes)
    assert entry.frame_sizes().tolist() == [[32, 32], [32, 48], [32, 32], [32, 48], [32, 32]]


@pytest.mark.parametrize("done", [0, 1, 2, 3])
@pytest.mark.parametrize("damage", ["none", "torn log", "torn maps", "unknown maps"])
def test_an_interrupted_entry_is_absent_and_continues_to_the_same_bytes(tmp_path, done, damage):
    write(tmp_path / "whole").finish({})
    folder = tmp_path / "interrupted"
    write(folder, CHUNKS[:done])
    if damage == "torn log":
        with (folder / "log.jsonl").open("a") as log:
            log.write('{"rows": [1], "en')
    elif damage == "torn maps":
        kept = (folder / "maps.f16").stat().st_size // 2
        with (folder / "maps.f16").open("rb+") as file:
            file.truncate(kept)
    elif damage == "unknown maps":
        with (folder / "maps.f16").open("ab") as file:
            file.write(b"half a chunk")
    assert open_entry(folder) is None
    writer = EntryWriter(folder, PLAN)
    assert writer.chunks == (done if damage != "torn maps" else 0)
    write(folder).finish({})
    assert content(folder) == content(tmp_path / "whole")


def test_another_plan_begins_again(tmp_path):
    write(tmp_path, CHUNKS[:2])
    assert EntryWriter(tmp_path, {**PLAN, "chunks": 2}).chunks == 0


@pytest.mark.parametrize("name", ["maps.f16", "index.npz", "entry.json"])
def test_a_damaged_entry_counts_as_absent_and_is_written_again(tmp_path, name):
    write(tmp_path).finish({})
    before = content(tmp_path)
    (tmp_path / name).write_bytes(before[name][: len(before[name]) // 2])
    assert open_entry(tmp_path) is None
    write(tmp_path).finish({})
    assert content(tmp_path) == before


def test_a_full_disk_says_so_and_leaves_what_was_written(tmp_path, monkeypatch):
    writer = write(tmp_path, CHUNKS[:1])

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(feature_store, "_append", full)
        with pytest.raises(InputError, match="No space left"):
            writer.append(CHUNKS[1], [record(1)], [maps(1)])
    assert EntryWriter(tmp_path, PLAN).chunks == 1


def test_values_beyond_half_precision_are_refused(tmp_path):
    writer = EntryWriter(tmp_path, PLAN)
    with pytest.raises(InputError, match="half precision"):
        writer.append([1], [record(1)], [(torch.full((4, 2, 2, 3), 1e6),)])
    assert EntryWriter(tmp_path, PLAN).chunks == 0


def test_clips_without_people_and_no_clips_at_all(tmp_path):
    writer = EntryWriter(tmp_path / "nobody", PLAN)
    writer.append([1, 3], [record(1), record(3)], [maps(1), maps(3)])
    assert writer.finish({}).record(0).boxes.shape == (0, 4)
    assert len(EntryWriter(tmp_path / "nothing", PLAN).finish({})) == 0


def _hold(folder, held, released):
    with writing(folder, lambda: None):
        held.set()
        released.wait(30)


def test_a_second_process_waits_for_the_first(tmp_path):
    context = multiprocessing.get_context("fork")
    held, released = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, released))
    process.start()
    assert held.wait(30)
    with writing(tmp_path, released.set):  # it waits, says so, and the other one then ends
        assert released.is_set()
        process.join(30)
    assert process.exitcode == 0


def test_a_process_that_dies_lifts_its_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    held, released = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, released))
    process.start()
    assert held.wait(30)
    process.kill()
    process.join(30)
    with writing(tmp_path, lambda: pytest.fail("the lock is still held")):
        pass
