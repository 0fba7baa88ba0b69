"""A SOURCE from text to clips: grammar, options, sides and domains, and the same clips with any number of workers."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trees import NUM_FRAMES, ROWS, write_frames, write_video
from torch.utils.data import DataLoader, SequentialSampler

from microg_da.data import DATA
from microg_da.data.annotations import read_annotations
from microg_da.data.batches import SameSizeBatches, collate_clips
from microg_da.data.sources import Source, open_source, parse_source, read_dataset_files
from microg_da.data.splits import write_split
from microg_da.errors import InputError
from microg_da.taxonomy import get_taxonomy
from microg_da.types import LabelledClip

REQUEST = {
    "split": "train",
    "taxonomy": "microg50",
    "num_frames": 4,
    "sampling_rate": 2,
    "image_size": 24,
    "labelled": True,
    "train": False,
}


def brightness(clip) -> list[int]:
    """Which frames a clip holds, read off their brightness (see conftest)."""
    return [round((value - 4) / 10) for value in clip.frames[0].float().mean(dim=(1, 2)).tolist()]


class TestGrammar:
    def test_parts(self):
        assert parse_source("microg4m:/data/m?domain=real&fold=2") == Source(
            "microg4m", "/data/m", {"footage": "real", "fold": "2"}
        )
        assert parse_source(" synthetic:earth ") == Source("synthetic", "earth", {})

    names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8).filter(lambda name: name != "domain")
    """Without the earlier name of ``footage``, which is read as the present one."""

    @given(st.sampled_from(sorted(DATA)), names, st.dictionaries(names, names, max_size=3))
    def test_writing_and_reading_agree(self, kind: str, path: str, options: dict[str, str]):
        source = Source(kind, path, options)
        assert parse_source(str(source)) == source

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "''.*synthetic:earth"),
            ("/data/m", "'/data/m'.*synthetic:earth"),
            ("microg4:/data/m", "'microg4'.*'microg4m'"),
            ("ava:", "'ava:'"),
            ("ava:/x?fps", "'fps'.*key=value"),
            ("ava:/x?fps=1&fps=2", "'fps'.*twice"),
            ("ava:/x?", "''.*key=value"),
            ("synthetic:earth?split=test", "'split'"),  # training would read test clips
            ("synthetic:earth?labelled=true", "'labelled'"),
        ],
    )
    def test_mistakes(self, text: str, message: str):
        with pytest.raises(InputError, match=message):
            parse_source(text)

    def test_listing_kinds_of_data_imports_neither_torch_nor_pandas(self):
        code = "import sys; from microg_da.data import DATA; print(len(DATA), {'torch', 'pandas', 'cv2'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [str(len(DATA)), "set()"]


class TestOptions:
    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("fotage=real", "'fotage'.*'footage'"),
            ("domain=moon", "footage 'moon'"),
            ("domain=real&footage=real", "'footage'.*twice"),
            ("fps=fast", "fps='fast'"),
            ("on_error=ignore", "on_error 'ignore'"),
            ("scheme=by-sauce", "'by-sauce'.*'by-source'"),
            ("boxes=detected", "boxes=detected.*label"),
            ("min_side=3", "min_side=3"),
            ("flip=0", r"augment\.flip=0"),
        ],
    )
    def test_mistakes(self, tree, query: str, message: str):
        with pytest.raises(InputError, match=message):
            open_source(f"microg4m:{tree}?{query}", **{**REQUEST, "train": True})

    def test_what_follows_the_path_prevails(self, tree):
        clips = open_source(f"microg4m:{tree}?footage=real", **REQUEST, footage="simulated")
        assert len(clips) == 4

    @pytest.mark.parametrize("path", ["footage", "domain"])
    @pytest.mark.parametrize("keyword", ["footage", "domain"])
    def test_footage_may_be_called_domain(self, tree, path: str, keyword: str):
        clips = open_source(f"microg4m:{tree}?{path}=real", **REQUEST, **{keyword: "simulated"})
        assert clips.keys == open_source(f"microg4m:{tree}?footage=real", **REQUEST).keys

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match=r"ava:.*nowhere.*folder"):
            open_source(f"ava:{tmp_path}/nowhere", **REQUEST)

    def test_a_split_that_is_not_one(self, tree):
        with pytest.raises(InputError, match=r"split 'training'.*'train'"):
            open_source(f"microg4m:{tree}", **{**REQUEST, "split": "training"})

    def test_a_folder_without_tables(self, tmp_path):
        for kind in ("ava", "microg4m"):
            with pytest.raises(InputError, match=r"annotations.*\.csv"):
                open_source(f"{kind}:{tmp_path}", **REQUEST)


class TestClips:
    def test_one_clip_per_keyframe_with_its_people(self, tree):
        clips = open_source(f"microg4m:{tree}", **REQUEST)
        assert [tuple(key) for key in clips.keys] == [
            ("filmA_001", 4),
            ("filmA_002", 5),
            ("recB_001", 6),
            ("recB_001", 8),
        ]
        assert clips.num_boxes == 5
        first = clips[0]
        assert first.table_boxes.tolist() == pytest.approx(np.array([[0.1, 0.2, 0.5, 0.9], [0.6, 0.2, 0.9, 0.9]]))
        ids = np.array(get_taxonomy("microg50").ids)
        assert [set(ids[row.bool().numpy()]) for row in first.labels] == [{12, 17}, {80}]
        # 64×48 with the short side at 27 pixels, 8/7 of 24.
        assert first.frames.shape == (3, 4, 27, 36)
        torch.testing.assert_close(first.boxes, first.table_boxes * torch.tensor([36.0, 27, 36, 27]))
        assert "3 videos, 4 keyframes, 5 boxes" in clips.description

    def test_the_window_is_centred_on_the_keyframe_and_clamped(self, tree):
        clips = open_source(f"microg4m:{tree}", **REQUEST)
        # frame_stamp counts from 1: the keyframes are frames 3, 4, 5, 7 from 0.
        assert brightness(clips[0]) == [0, 1, 3, 5]
        assert brightness(clips[2]) == [1, 3, 5, 7]
        long = open_source(f"microg4m:{tree}", **{**REQUEST, "num_frames": 8})
        assert brightness(long[3]) == [0, 1, 3, 5, 7, 9, 11, 11]

    def test_the_published_window_is_one_frame_late(self, tree):
        clips = open_source(f"microg4m:{tree}?window=published", **REQUEST)
        assert brightness(clips[2]) == [2, 4, 6, 8]

    def test_labels_are_absent_unless_asked_for(self, tree):
        clips = open_source(f"microg4m:{tree}", **{**REQUEST, "labelled": False})
        assert not any(isinstance(clip, LabelledClip) for clip in (clips[0], clips[3]))
        assert clips._labels is None
        assert len(clips.annotations()) == 6

    def test_ground_truth_is_what_the_file_says(self, tree):
        expected = read_annotations(tree / "annotations" / "ava_train.csv")
        pd.testing.assert_frame_equal(open_source(f"microg4m:{tree}", **REQUEST).annotations(), expected)

    def test_training_views(self, tree):
        clips = open_source(f"microg4m:{tree}", **{**REQUEST, "train": True})
        clip = clips[1]
        assert clip.frames.shape == (3, 4, 24, 24)
        assert clip.frames.dtype == torch.uint8
        assert len(clip.boxes) == len(clip.labels) == len(clip.table_boxes)

    def test_a_batch(self, tree):
        clips = open_source(f"microg4m:{tree}", **{**REQUEST, "train": True})
        batch = collate_clips([clips[index] for index in range(4)])
        assert batch.frames.shape == (4, 3, 4, 24, 24)
        assert len(batch.labels) == batch.num_boxes

    def test_negative_and_impossible_indices(self, tree):
        clips = open_source(f"microg4m:{tree}", **REQUEST)
        assert clips[-1].key == clips.keys[-1]
        with pytest.raises(IndexError):
            clips[4]


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_clips_and_follows_the_epoch(tree, workers: int):
    clips = open_source(f"microg4m:{tree}", **{**REQUEST, "train": True, "image_size": 20, "seed": 5})
    loader = DataLoader(
        clips,
        batch_size=2,
        num_workers=workers,
        persistent_workers=True,
        collate_fn=collate_clips,
        multiprocessing_context="fork",
    )
    seen = []
    for epoch in (0, 1, 0):
        clips.set_epoch(epoch)
        alone = torch.stack([clips[index].frames for index in range(len(clips))])
        loaded = torch.cat([batch.frames for batch in loader])
        assert torch.equal(alone, loaded)
        seen.append(torch.cat([clips[index].boxes for index in range(len(clips))]))
    assert torch.equal(seen[0], seen[2])
    assert seen[0].shape != seen[1].shape or not torch.equal(seen[0], seen[1])


class TestVideosOfDifferentShape:
    @pytest.fixture
    def clips(self, tmp_path):
        write_frames(tmp_path, ["a_1", "a_2"])
        write_frames(tmp_path, ["b_1", "b_2", "b_3"], height=48, width=96)
        names = ("a_1", "b_1", "b_2", "a_2", "b_3")
        (tmp_path / "train.csv").write_text("".join(f"{name},5,0,0,1,1,12,1\n" for name in names))
        return open_source(f"microg4m:{tmp_path}?on_error=skip", **REQUEST)

    def test_sizes_are_those_of_the_clips(self, clips):
        sizes = clips.frame_sizes()
        assert [tuple(clip.frames.shape[2:]) for clip in map(clips.__getitem__, range(5))] == list(map(tuple, sizes))

    @pytest.mark.parametrize("batch_size", [1, 2, 8])
    def test_batches_have_one_size_and_every_clip_comes_once(self, clips, batch_size: int):
        batches = SameSizeBatches(SequentialSampler(clips), batch_size, clips.frame_sizes())
        loaded = list(DataLoader(clips, batch_sampler=batches, collate_fn=collate_clips))
        assert len(batches) == len(loaded)
        assert max(len(batch) for batch in loaded) <= batch_size
        assert sorted(key for batch in loaded for key in batch.keys) == sorted(clips.keys)

    def test_a_clip_is_replaced_by_one_of_its_size(self, clips):
        path = clips.frames.root / "a_1" / "a_1_000005.jpg"
        path.write_bytes(path.read_bytes()[:-30])
        assert clips[0].key.video_id == "a_2"

    def test_a_clip_without_a_readable_header_comes_alone(self, clips):
        for path in (clips.frames.root / "a_1").iterdir():
            path.write_bytes(b"")
        batches = SameSizeBatches(SequentialSampler(clips), 8, clips.frame_sizes())
        assert [len(batch) for batch in DataLoader(clips, batch_sampler=batches, collate_fn=collate_clips)] == [1, 3, 1]

    def test_training_crops_are_all_alike(self, clips):
        root = clips.frames.root.parent
        crops = open_source(f"microg4m:{root}", **{**REQUEST, "train": True}).frame_sizes()
        assert (crops == 24).all()
        assert len(crops) == 5


class TestSides:
    def test_domains(self, tree):
        (tree / "annotations" / "actions.csv").write_text(
            "video_id,movie_or_real,person_id,action\nfilmA_001,m,1,12\nfilmA_002,m,1,12\nrecB_001,r,1,14\n"
        )
        simulated = open_source(f"microg4m:{tree}?domain=simulated", **REQUEST)
        assert {key.video_id for key in simulated.keys} == {"filmA_001", "filmA_002"}
        assert len(simulated.annotations()) == 4
        assert len(open_source(f"microg4m:{tree}?domain=real", **REQUEST)) == 2

    def test_without_actions_the_six_films_are_known(self, tmp_path):
        write_frames(tmp_path, ["Gravity_001", "xyz_001"])
        (tmp_path / "train.csv").write_text("Gravity_001,4,0,0,1,1,12,1\nxyz_001,4,0,0,1,1,12,1\n")
        clips = open_source(f"microg4m:{tmp_path}?domain=simulated", **REQUEST)
        assert [key.video_id for key in clips.keys] == ["Gravity_001"]

    def test_an_empty_target(self, tree):
        with pytest.raises(InputError, match=r"train.*'published'.*footage=simulated"):
            open_source(f"microg4m:{tree}?domain=simulated", **REQUEST)
        with pytest.raises(InputError, match=r"test.*'published'"):
            open_source(f"microg4m:{tree}", **{**REQUEST, "split": "test"})

    def test_a_split_file(self, tree, tmp_path):
        whole, options = read_dataset_files(f"microg4m:{tree}")
        split = whole.split(options)
        moved = type(split)("mine", {"train": ("filmA_001",), "val": (), "test": ("filmA_002", "recB_001")})
        path = write_split(moved, tmp_path / "mine.json")
        clips = open_source(f"microg4m:{tree}?scheme={path}", **{**REQUEST, "split": "test"})
        assert len(clips) == 3
        assert clips.split_hash == moved.hash
        assert clips.warnings == (
            "split 'mine' shares source videos with train: test 1 of 2 clips (1 of 2 source videos)",
        )

    def test_a_shared_source_video_warns_once(self, tree, caplog):
        (tree / "annotations" / "ava_test.csv").write_text("filmA_009,4,0.1,0.2,0.5,0.9,12,1\n")
        for _ in range(2):
            open_source(f"microg4m:{tree}", **REQUEST)
        assert [record.message for record in caplog.records] == [
            "split 'published' shares source videos with train: test 1 of 1 clips (1 of 1 source videos)"
        ]


class TestAva:
    @pytest.fixture
    def root(self, tmp_path):
        """Two videos at 5 frames a second whose first frame is second 10."""
        write_frames(tmp_path, ["_-one", "_-two"])
        folder = tmp_path / "annotations"
        folder.mkdir()
        (folder / "ava_train_v2.2.csv").write_text(
            "_-one,0011,0.1,0.1,0.5,0.5,12,0\n_-one,0011,0.1,0.1,0.5,0.5,2,0\n_-one,0012,0.2,0.1,0.5,0.5,2,0\n"
        )
        (folder / "ava_val_v2.2.csv").write_text("_-two,0011,0.1,0.1,0.5,0.5,80,0\n")
        return tmp_path

    def test_seconds_become_frames(self, root):
        clips = open_source(f"ava:{root}?start=10&fps=5", **REQUEST)
        assert brightness(clips[0]) == [1, 3, 5, 7]

    def test_ids_outside_the_taxonomy_are_no_labels_but_keep_their_box(self, root):
        clips = open_source(f"ava:{root}?start=10&fps=5", **REQUEST)
        assert [clip.labels.sum().item() for clip in (clips[0], clips[1])] == [1, 0]
        assert clips.annotations().action_id.tolist() == [12]
        assert "26, 28, 61" in " ".join(clips.warnings)

    def test_validation_videos_test_where_nothing_else_does(self, root):
        (root / "annotations" / "ava_train_v2.2.csv").write_text(
            "".join(f"v{i},0011,0.1,0.1,0.5,0.5,12,0\n" for i in range(8))
        )
        tree, options = read_dataset_files(f"ava:{root}")
        split = tree.split(options)
        assert split.clips["test"] == ("_-two",)
        assert len(split.clips["val"]) == 1
        assert "no test split" in tree.notes[0]
        # A whole video is its own source video, underscores in its name or not.
        assert split.leak_warning(tree.sources) is None

    def test_excluded_timestamps(self, root):
        (root / "annotations" / "ava_train_excluded_timestamps_v2.2.csv").write_text("_-one,0012\n")
        clips = open_source(f"ava:{root}?start=10&fps=5", **REQUEST)
        assert [tuple(key) for key in clips.keys] == [("_-one", 11)]

    def test_detected_boxes(self, root):
        (root / "annotations" / "ava_train_predicted_boxes.csv").write_text(
            "_-one,0011,-0.02,0.1,0.4,0.4,,0.95\n_-one,0011,0.5,0.5,0.9,0.9,,0.3\n_-one,0012,0.1,0.1,0.3,1.01,,0.9\n"
        )
        request = {**REQUEST, "labelled": False}
        clips = open_source(f"ava:{root}?start=10&fps=5&boxes=detected", **request)
        assert clips.num_boxes == 2
        assert clips[0].table_boxes.tolist() == [pytest.approx([0, 0.1, 0.4, 0.4])]
        many = open_source(f"ava:{root}?start=10&fps=5&boxes=detected&score_threshold=0.2", **request)
        assert many.num_boxes == 3
        with pytest.raises(InputError, match=r"boxes=detected.*train.*0\.99"):
            open_source(f"ava:{root}?start=10&fps=5&boxes=detected&score_threshold=0.99", **request)

    def test_detected_boxes_that_are_not_there_or_damaged(self, root):
        request = {**REQUEST, "labelled": False}
        with pytest.raises(InputError, match=r"boxes=detected.*annotations/ava_train_predicted_boxes\.csv"):
            open_source(f"ava:{root}?boxes=detected", **request)
        path = root / "annotations" / "ava_train_predicted_boxes.csv"
        path.write_text("_-one,0011,0.1,0.1,,0.4,,0.95\n")
        with pytest.raises(InputError, match=r"ava_train_predicted_boxes\.csv, row 1\b"):
            open_source(f"ava:{root}?boxes=detected", **request)

    def test_the_frame_rate_follows_from_the_length_of_avas_cut(self, root):
        from microg_da.data.dataset import Timing

        class Folder:
            def num_frames(self, video_id):
                return 22525

            def fps(self, video_id):
                return None

        assert Timing("seconds", 900.0).frame(Folder(), "v", 902) == 50

    def test_another_label_map(self, root):
        (root / "annotations" / "label_map.pbtxt").write_text(
            'item { name: "float" id: 2 }\nitem { name: "drift" id: 12 }\nitem { name: "talk" id: 80 }'
        )
        clips = open_source(
            f"ava:{root}?start=10&fps=5", **{**REQUEST, "taxonomy": root / "annotations" / "label_map.pbtxt"}
        )
        assert clips[0].labels.tolist() == [[1, 1, 0]]

    def test_mp4_with_another_frame_rate(self, root):
        for video in ("_-one", "_-two"):
            write_video(root / "videos" / f"{video}.mp4", rate=10)
        clips = open_source(f"ava:{root}?start=10&decode=video", **REQUEST)
        # The file says 10 frames a second: second 11 is frame 10.
        values = clips[0].frames.float().mean(dim=(0, 2, 3))
        assert [round((value - 16) / 7) for value in values.tolist()] == [6, 8, 10, 12]


@pytest.mark.data
def test_the_real_tables_have_the_published_numbers_of_keyframes_boxes_and_labels(test_data):
    from microg_da.data.dataset import multi_hot

    tree, options = read_dataset_files(f"microg4m:{test_data / 'microg4m'}")
    split = tree.split(options)
    taxonomy = get_taxonomy("microg50")
    counted = {}
    for side, clips in split.clips.items():
        table = tree.annotations[tree.annotations.video_id.isin(clips)]
        people, labels = multi_hot(table, taxonomy)
        keyframes = people[["video_id", "frame_stamp"]].drop_duplicates()
        counted[side] = (len(clips), len(keyframes), len(people), len(table))
        assert labels.sum() == len(table.drop_duplicates())
    assert counted == {
        "train": (3331, 3835, 4029, 9266),
        "val": (475, 542, 570, 1329),
        "test": (953, 1091, 1136, 2656),
    }


def test_rows_of_the_fixture_fit_its_frames():
    assert max(int(line.split(",")[1]) for line in ROWS.splitlines()) <= NUM_FRAMES
