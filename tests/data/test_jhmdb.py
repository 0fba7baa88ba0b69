"""JHMDB: its tables, keyframes, masks and splits, on small files with the same layout and on the real ones."""

import pickle

import numpy as np
import pandas as pd
import pytest
from small_trees import write_video

from microg_da.data.jhmdb import read_clips, read_masks, read_person_frames
from microg_da.data.sources import open_source, read_dataset_files
from microg_da.errors import InputError
from microg_da.taxonomy import GROUP_NAMES, get_taxonomy, transfer

ACTIONS = ("jump", "run", "wave")
FRAMES = 9
SIZE = (48, 62)  # a width that is no multiple of 8
REQUEST = {"num_frames": 3, "sampling_rate": 1, "image_size": 24, "labelled": True, "train": False}


def mask_of(clip: str, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(len(clip) + int(clip[-1])).random((frames, *SIZE)) < 0.3


def write_masks(path, masks: np.ndarray) -> None:
    np.savez_compressed(path, bits=np.packbits(masks, axis=-1), shape=np.array(masks.shape))


@pytest.fixture(scope="module")
def _template(tmp_path_factory):
    """Ten source videos, three clips each, one clip without a box."""
    root = tmp_path_factory.mktemp("jhmdb")
    (root / "masks").mkdir()
    write_video(root / "video.mp4", count=FRAMES, size=SIZE[::-1])
    (root / "videos").mkdir()
    clips, people = [], []
    for number in range(30):
        clip, film = f"film-{number // 3}-clip_{number}", f"film-{number // 3}"
        clips.append((clip, ACTIONS[number % 3], film, FRAMES))
        (root / "videos" / f"{clip}.mp4").hardlink_to(root / "video.mp4")
        write_masks(root / "masks" / f"{clip}.npz", mask_of(clip))
        # The person of clip 1 is seen in frames 4 to 8 alone, that of clip 2 never.
        seen = {1: range(4, 9), 2: range(0)}.get(number, range(1, FRAMES + 1))
        people += [(clip, frame, 0.1, 0.2, 0.5 + frame / 100, 0.9) for frame in seen]
    (root / "video.mp4").unlink()
    pd.DataFrame(clips, columns=["video_id", "action", "source_video", "frames"]).to_csv(
        root / "clips.csv", index=False
    )
    pd.DataFrame(people, columns=["video_id", "frame", "x1", "y1", "x2", "y2"]).to_csv(root / "people.csv", index=False)
    return root


@pytest.fixture
def root(_template, tmp_path):
    """The template as links, with tables that a test may change."""
    for name in ("masks", "videos"):
        (tmp_path / name).symlink_to(_template / name)
    for name in ("clips.csv", "people.csv"):
        (tmp_path / name).write_bytes((_template / name).read_bytes())
    return tmp_path


def change(path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


class TestTaxonomy:
    def test_has_the_actions_in_the_order_of_their_names(self):
        taxonomy = get_taxonomy("jhmdb21")
        assert taxonomy.names == tuple(sorted(taxonomy.names))
        assert taxonomy.ids == tuple(range(1, 22))
        assert set(taxonomy.groups) == set(GROUP_NAMES) - {"AC"}

    def test_shares_no_id_with_ava(self):
        found = transfer("ava80", "jhmdb21")
        assert (found.carried, found.changed) == ((), ())
        assert found.added == get_taxonomy("jhmdb21").ids
        assert found.dropped == get_taxonomy("ava80").ids
        assert set(found.source_index) == {None}


class TestClips:
    def test_the_keyframe_is_the_middle_frame_with_a_box(self, root):
        files, _ = read_dataset_files(f"jhmdb:{root}")
        stamps = files.annotations.set_index("video_id").frame_stamp
        assert stamps["film-0-clip_0"] == 5  # of 1…9
        assert stamps["film-0-clip_1"] == 6  # of 4…8
        assert "film-0-clip_2" not in stamps
        assert "film-0-clip_2" in files.notes[0]

    @pytest.mark.parametrize(
        ("count", "stamps"), [(2, [3, 7]), (3, [2, 5, 8]), (9, list(range(1, 10))), (50, list(range(1, 10)))]
    )
    def test_several_keyframes_are_spread_evenly(self, root, count: int, stamps: list[int]):
        files, _ = read_dataset_files(f"jhmdb:{root}?keyframes={count}")
        table = files.annotations
        assert table.frame_stamp[table.video_id == "film-1-clip_3"].tolist() == stamps

    def test_every_box_is_that_of_its_frame(self, root):
        files, _ = read_dataset_files(f"jhmdb:{root}?keyframes=4")
        assert np.allclose(files.annotations.x2, 0.5 + files.annotations.frame_stamp / 100)

    def test_a_clip_holds_the_frames_around_its_keyframe_and_one_label(self, root):
        data = open_source(f"jhmdb:{root}?test_side=24", split="train", taxonomy="jhmdb21", **REQUEST)
        clip = data[0]
        assert clip.frames.shape[:3] == (3, 3, 24)
        # Frames of the file have brightness 16 + 7 i; the window is 3, 4, 5 for the keyframe with index 4.
        assert np.allclose(clip.frames.float().mean(dim=(0, 2, 3)), [37, 44, 51], atol=3)
        assert clip.labels.sum() == 1
        name = data.annotations().action_id.iloc[0]
        assert clip.labels[0].argmax() + 1 == name

    def test_no_source_video_is_in_two_splits_and_the_split_repeats(self, root):
        files, options = read_dataset_files(f"jhmdb:{root}")
        division = files.split(options)
        assert sum(len(clips) for clips in division.clips.values()) == 29
        films = [set(files.sources[list(clips)]) for clips in division.clips.values()]
        assert all(films)
        assert sum(map(len, films)) == len(set.union(*films)) == 10
        again, _ = read_dataset_files(f"jhmdb:{root}")
        assert again.split(options).hash == division.hash

    def test_folds_test_every_clip_once(self, root):
        tested = []
        for fold in range(3):
            files, options = read_dataset_files(f"jhmdb:{root}?scheme=by-source-kfold&folds=3&fold={fold}")
            tested += files.split(options).clips["test"]
        assert sorted(tested) == sorted(set(files.annotations.video_id))

    def test_another_taxonomy_is_refused(self, root):
        with pytest.raises(InputError, match=r"jhmdb21.*microg50"):
            open_source(f"jhmdb:{root}", split="train", taxonomy="microg50", **REQUEST)

    @pytest.mark.parametrize("kind", ["ava", "microg4m"])
    def test_other_kinds_of_data_have_no_option_keyframes(self, root, kind: str):
        with pytest.raises(InputError, match="'keyframes'"):
            read_dataset_files(f"{kind}:{root}?keyframes=2")


class TestTables:
    @pytest.mark.parametrize(
        ("file", "before", "after", "message"),
        [
            ("clips.csv", "video_id,action", "video_id,act", r"clips\.csv.*'action'"),
            ("clips.csv", ",wave,", ",waev,", r"clips\.csv, line 4.*'waev'.*'wave'"),
            ("clips.csv", "film-0-clip_1,", "film-0-clip_0,", r"clips\.csv, line 3.*earlier"),
            ("clips.csv", ",film-0,9", ",,9", r"clips\.csv, line 2.*source_video is empty"),
            ("clips.csv", ",film-0,9", ",film-0,many", r"clips\.csv, line 2.*frames"),
            ("clips.csv", ",film-0,9", ",film-0,3", r"people\.csv.*beyond"),
            ("people.csv", "film-0-clip_0,1,", "film-9-clip_99,1,", r"people\.csv.*not in clips\.csv"),
            ("people.csv", "film-0-clip_0,1,", "film-0-clip_0,2,", r"people\.csv.*second box"),
            ("people.csv", "film-0-clip_0,1,", "film-0-clip_0,0,", r"people\.csv.*frame"),
            ("people.csv", "film-0-clip_0,1,", "film-0-clip_0,1.5,", r"people\.csv.*frame"),
            ("people.csv", "film-0-clip_0,1,0.1", "film-0-clip_0,1,1.1", r"people\.csv, line 2.*box"),
        ],
    )
    def test_mistakes(self, root, file: str, before: str, after: str, message: str):
        change(root / file, before, after)
        with pytest.raises(InputError, match=message):
            read_dataset_files(f"jhmdb:{root}")

    @pytest.mark.parametrize("name", ["clips.csv", "people.csv"])
    def test_a_missing_table(self, root, name: str):
        (root / name).unlink()
        with pytest.raises(InputError, match=name):
            read_dataset_files(f"jhmdb:{root}")

    @pytest.mark.parametrize(("option", "message"), [("boxes=detected", "detected"), ("keyframes=0", "keyframes=0")])
    def test_options_that_cannot_be(self, root, option: str, message: str):
        with pytest.raises(InputError, match=message):
            read_dataset_files(f"jhmdb:{root}?{option}")


class TestMasks:
    def test_are_those_that_were_written(self, root):
        clip = "film-2-clip_7"
        masks = read_masks(root, clip)
        assert masks.dtype == bool
        assert (masks == mask_of(clip)).all()

    @pytest.mark.parametrize(
        "arrays",
        [
            {"bits": np.zeros((2, 4, 1), np.uint8)},
            {"shape": np.array([2, 4, 8])},
            {"bits": np.zeros((2, 4, 1), np.uint8), "shape": np.array([2, 4, 9])},
            {"bits": np.zeros((2, 4, 1), np.uint8), "shape": np.array([2, 4])},
            {"bits": np.zeros((2, 4, 1), np.uint8), "shape": np.array([2.0, 4, 8])},
            {"bits": np.zeros((0, 4, 1), np.uint8), "shape": np.array([0, 4, 8])},
            {"bits": np.zeros((2, 4, 1), np.int16), "shape": np.array([2, 4, 8])},
            {"bits": np.array([object()]), "shape": np.array([2, 4, 8])},
        ],
    )
    def test_a_file_of_another_shape_is_refused(self, tmp_path, arrays):
        (tmp_path / "masks").mkdir()
        np.savez(tmp_path / "masks" / "a.npz", **arrays)
        with pytest.raises(InputError, match=r"a\.npz"):
            read_masks(tmp_path, "a")

    @pytest.mark.parametrize(
        "damage", [lambda data: data[:-200], lambda data: b"", lambda data: data[:60] + b"xx" + data[62:]]
    )
    def test_a_damaged_file_is_refused(self, tmp_path, damage):
        (tmp_path / "masks").mkdir()
        path = tmp_path / "masks" / "a.npz"
        write_masks(path, mask_of("a1"))
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(InputError, match=r"a\.npz"):
            read_masks(tmp_path, "a")

    def test_nothing_is_unpickled(self, tmp_path):
        (tmp_path / "masks").mkdir()
        (tmp_path / "masks" / "a.npz").write_bytes(pickle.dumps({"bits": 1}))
        with pytest.raises(InputError, match=r"a\.npz"):
            read_masks(tmp_path, "a")

    @pytest.mark.parametrize(("name", "message"), [("nobody", r"nobody\.npz"), ("../clips", "is outside")])
    def test_a_file_that_is_not_there(self, root, name: str, message: str):
        with pytest.raises(InputError, match=message):
            read_masks(root, name)


@pytest.mark.data
def test_real_boxes_are_those_of_the_real_masks(test_data):
    root = test_data / "jhmdb"
    if not root.is_dir():
        pytest.skip(f"no JHMDB at {root}")
    clips, boxes = read_clips(root), read_person_frames(root)
    assert (boxes.groupby("video_id").size().reindex(clips.video_id).to_numpy() == clips.frames).all()
    for clip in clips.video_id.iloc[::67]:
        masks = read_masks(root, clip)
        found = boxes[boxes.video_id == clip]
        assert len(masks) == len(found)
        for mask, box in zip(masks, found.itertuples(), strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            expected = [columns[0] / 320, rows[0] / 240, (columns[-1] + 1) / 320, (rows[-1] + 1) / 240]
            assert np.allclose([box.x1, box.y1, box.x2, box.y2], expected, atol=1e-4)
