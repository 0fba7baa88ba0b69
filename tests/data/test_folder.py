"""Clips in one folder per class: classes, ids, splits, source videos and boxes."""

import numpy as np
import pandas as pd
import pytest
from small_trees import write_frames, write_video

from microg_da.config import load_config
from microg_da.data.sources import open_source, read_dataset_files
from microg_da.errors import InputError
from microg_da.taxonomy import get_taxonomy

REQUEST = {"num_frames": 3, "sampling_rate": 1, "image_size": 24, "labelled": True, "train": False}
COUNT = 9


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", count=COUNT)


@pytest.fixture
def fill(tmp_path, video):
    """Puts links to one small video where a test wants clips; returns the folder."""

    def make(*clips: str, suffix: str = ".mp4", root=tmp_path / "clips"):
        for clip in clips:
            path = root / f"{clip}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(video)
        return root

    return make


def ucf(classes=("Archery", "Bowling"), groups=12, clips=2) -> list[str]:
    return [f"{c}/v_{c}_g{g:02d}_c{n:02d}" for c in classes for g in range(1, groups + 1) for n in range(1, clips + 1)]


def read(source: str):
    return read_dataset_files(source)[0]


class TestClasses:
    def test_ids_follow_the_sorted_names(self, fill):
        root = fill("walk/a", "jump/b", "drink/c")
        assert get_taxonomy(str(root)).names == ("drink", "jump", "walk")
        actions = read(f"folder:{root}").annotations.set_index("video_id").action_id
        assert actions.to_dict() == {"a": 3, "b": 2, "c": 1}

    def test_a_list_of_classes_decides_ids_and_leaves_folders_out(self, fill):
        root = fill("walk/a", "jump/b", "drink/c")
        (root / "classes.txt").write_text("walk\n\ndrink\nrun\n")
        files = read(f"folder:{root}")
        assert get_taxonomy(str(root)).names == ("walk", "drink", "run")
        assert files.annotations.set_index("video_id").action_id.to_dict() == {"a": 1, "c": 2}
        assert any("jump" in note for note in files.notes)

    def test_two_domains_with_the_same_classes_share_their_ids(self, fill, tmp_path):
        first = fill("walk/a", "jump/b", root=tmp_path / "first")
        second = fill("train/jump/x", "train/walk/y", "val/walk/z", "test/walk/w", root=tmp_path / "second")
        clips = open_source(f"folder:{second}", split="train", taxonomy=str(first), **REQUEST)
        assert clips.annotations().set_index("video_id").action_id.to_dict() == {"x": 1, "y": 2}

    def test_other_classes_are_refused_by_name(self, fill, tmp_path):
        first, second = fill("walk/a", "jump/b", root=tmp_path / "1"), fill("walk/a", "hop/b", root=tmp_path / "2")
        with pytest.raises(InputError, match=r"hop in the data alone; jump in .*alone"):
            open_source(f"folder:{second}", split="train", taxonomy=str(first), **REQUEST)

    def test_the_same_classes_in_another_order_are_refused(self, fill, tmp_path):
        first, second = (fill("walk/a", "jump/b", root=tmp_path / name) for name in "12")
        (second / "classes.txt").write_text("walk\njump\n")
        with pytest.raises(InputError, match="another order"):
            open_source(f"folder:{second}", split="train", taxonomy=str(first), **REQUEST)

    def test_there_may_be_more_classes_than_ava_has(self, fill):
        root = fill(*(f"class{number:03d}/clip{number}" for number in range(1, 102)))
        taxonomy = get_taxonomy(root)
        assert (len(taxonomy), taxonomy.ids[-1]) == (101, 101)
        assert set(taxonomy.groups) == {"AC"}

    @pytest.mark.parametrize(
        ("lines", "message"), [("walk\nwalk\n", "twice"), ("\n", "no class"), ("hop\n", "no video")]
    )
    def test_a_list_that_cannot_be(self, fill, lines: str, message: str):
        root = fill("walk/a")
        (root / "classes.txt").write_text(lines)
        with pytest.raises(InputError, match=message):
            read(f"folder:{root}")

    def test_a_run_takes_the_classes_of_its_source(self, fill):
        root = fill("walk/a", "jump/b")
        sources = [f"data.source=folder:{root}?fps=10", f"data.target=folder:{root}"]
        assert load_config(None, sources).data.taxonomy == str(root)
        assert load_config(None, [*sources, "data.taxonomy=ava80"]).data.taxonomy == "ava80"
        assert load_config(None, ["data.target=jhmdb:/x"]).data.taxonomy == "jhmdb21"
        assert load_config(None, []).data.taxonomy == "microg50"


class TestClips:
    def test_the_keyframe_is_the_middle_frame_and_the_box_the_whole(self, fill):
        root = fill(*ucf())
        clips = open_source(f"folder:{root}?test_side=24", split="train", taxonomy=str(root), **REQUEST)
        clip = clips[0]
        # Frames have brightness 16 + 7 i; the middle of nine is the one with index 4.
        assert np.allclose(clip.frames.float().mean(dim=(0, 2, 3)), [37, 44, 51], atol=3)
        assert clip.table_boxes.tolist() == [[0, 0, 1, 1]]
        assert clip.labels.sum() == 1

    def test_folders_of_frames_are_clips_too(self, tmp_path):
        for name in ("run", "sit"):
            write_frames(tmp_path / name, [f"{name}{number}" for number in range(4)], count=5)
            for folder in (tmp_path / name / "frames").iterdir():
                folder.rename(tmp_path / name / folder.name)
            (tmp_path / name / "frames").rmdir()
        clips = open_source(f"folder:{tmp_path}?test_side=48", split="train", taxonomy=str(tmp_path), **REQUEST)
        assert np.allclose(clips[0].frames.float().mean(dim=(0, 2, 3)), [12, 22, 32], atol=1.5)
        with pytest.raises(InputError, match="no video files"):
            read(f"folder:{tmp_path}?decode=video")

    def test_equal_names_are_told_apart(self, fill):
        root = fill("train/run/1", "train/sit/1", "test/run/1", "test/run/2", "val/run/3")
        ids = sorted(read(f"folder:{root}").annotations.video_id)
        assert ids == ["2", "3", "sit--1", "test--run--1", "train--run--1"]

    def test_two_files_of_one_name_are_refused(self, fill):
        fill("run/1")
        with pytest.raises(InputError, match="same name"):
            read(f"folder:{fill('run/1', suffix='.avi')}")

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no class folders"):
            read(f"folder:{tmp_path}")
        (tmp_path / "run").mkdir()
        with pytest.raises(InputError, match=r"no video files.*no folders of JPEG"):
            read(f"folder:{tmp_path}")


class TestSplits:
    def test_without_split_folders_source_videos_are_not_divided(self, fill):
        files, options = read_dataset_files(f"folder:{fill(*ucf())}")
        division = files.split(options)
        assert division.scheme == "by-source"
        assert all(not division.shared_source_videos(split, files.sources).clips for split in ("val", "test"))
        assert files.sources["v_Archery_g03_c01"] == files.sources["v_Archery_g03_c02"] == "v_Archery_g03"

    def test_split_folders_are_the_published_split(self, fill):
        files, options = read_dataset_files(f"folder:{fill('train/run/a', 'val/run/b', 'test/sit/c')}")
        assert files.split(options).clips == {"train": ("a",), "val": ("b",), "test": ("c",)}

    @pytest.mark.parametrize("evaluated", ["val", "test"])
    def test_where_one_is_missing_source_videos_of_train_validate(self, fill, evaluated: str):
        train, tested = ucf(), ["Archery/v_Archery_g90_c01"]
        root = fill(*(f"train/{clip}" for clip in train), *(f"{evaluated}/{clip}" for clip in tested))
        files, options = read_dataset_files(f"folder:{root}")
        division = files.split(options)
        assert division.clips["test"] == ("v_Archery_g90_c01",)
        assert len(division.clips["train"]) + len(division.clips["val"]) == len(train)
        assert division.clips["val"]
        assert not division.shared_source_videos("val", files.sources).clips
        assert any("third split" in note for note in files.notes)


class TestSourceVideos:
    @pytest.mark.parametrize(
        ("clips", "expected", "named"),
        [
            (ucf(("Archery",), 2, 1), {"v_Archery_g01", "v_Archery_g02"}, "UCF101"),
            (["yoga/abcdefghij-_000012_000022", "yoga/abcdefghij-_000100_000110"], {"abcdefghij-"}, "Kinetics"),
            (
                [
                    "shake_hands/A_shake_hands_b_shake_hands_f_cm_np2_le_goo_1",
                    "shake_hands/A_shake_hands_u_nm_np2_fr_med_0",
                ],
                {"A_shake_hands_b", "A"},
                "HMDB51",
            ),
        ],
    )
    def test_known_names(self, fill, clips: list[str], expected: set[str], named: str):
        files = read(f"folder:{fill(*clips)}")
        assert set(files.sources) == expected
        assert any(named in note for note in files.notes)

    def test_a_pattern(self, fill):
        files = read(f"folder:{fill('run/film1-a', 'run/film1-b', 'sit/film2-c')}?source_video=^([^-]+)")
        assert files.sources.to_dict() == {"film1-a": "film1", "film1-b": "film1", "film2-c": "film2"}

    def test_where_nothing_tells_every_clip_is_its_own_and_a_note_says_so(self, fill):
        files = read(f"folder:{fill('run/one_a', 'run/one_b')}")
        assert files.sources.nunique() == 2
        assert any("source_video=PATTERN" in note for note in files.notes)

    @pytest.mark.parametrize(("pattern", "message"), [("(", "regular expression"), ("film(9)", "'a'"), ("()", "'a'")])
    def test_patterns_that_cannot_be(self, fill, pattern: str, message: str):
        with pytest.raises(InputError, match=message):
            read(f"folder:{fill('run/a')}?source_video={pattern}")


class TestBoxes:
    @pytest.fixture
    def table(self, fill):
        root = fill("run/a", "run/b", "sit/c")
        rows = [("a", 3, 0.1, 0.1, 0.4, 0.9), ("a", 3, 0.5, 0.1, 0.9, 0.9), ("b", 7, 0.2, 0.2, 0.6, 0.8)]
        pd.DataFrame(rows, columns=["video_id", "frame", "x1", "y1", "x2", "y2"]).to_csv(
            root / "boxes.csv", index=False
        )
        return root

    @pytest.mark.parametrize("boxes", ["detected", "FILE"])
    def test_a_table_gives_boxes_and_keyframes(self, table, boxes: str):
        boxes = boxes.replace("FILE", str(table / "boxes.csv"))
        files = read(f"folder:{table}?boxes={boxes}")
        found = files.annotations
        assert found[["video_id", "frame_stamp", "x1", "person_id", "action_id"]].to_numpy().tolist() == [
            ["a", 3, 0.1, 0, 1],
            ["a", 3, 0.5, 1, 1],
            ["b", 7, 0.2, 0, 1],
            ["c", 0, 0.0, 0, 2],
        ]
        assert any("1 of 3 clips" in note for note in files.notes)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("video_id,frame,x1,y1,x2,y2\nz,3,0.1,0.1,0.4,0.9\n", "no clip"),
            ("video_id,frame,x1,y1,x2,y2\n", "no clip"),
            ("video_id,frame,x1,y1,x2,y2\na,0,0.1,0.1,0.4,0.9\n", "from 1"),
            ("video_id,frame,x1,y1,x2,y2\na,1,10,0.1,40,0.9\n", "box"),
        ],
    )
    def test_tables_that_cannot_be(self, table, text: str, message: str):
        (table / "boxes.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read(f"folder:{table}?boxes=detected")

    def test_a_missing_table_names_the_command_that_writes_it(self, fill):
        with pytest.raises(InputError, match=r"prepare --from folder:.*--person-detector"):
            read(f"folder:{fill('run/a')}?boxes=detected")
