"""Preparing MicroG-4M as released: the join, the keyframe rule, rounding, resuming, and the tree that comes out."""

import numpy as np
import pandas as pd
import pytest
from small_trees import HEIGHT, WIDTH, write_video
from test_sources import REQUEST

from microg_da.cli import main
from microg_da.data.annotations import (
    ANNOTATION_COLUMNS,
    BOX,
    PERSON_BOX_COLUMNS,
    read_actions,
    read_annotations,
    read_person_boxes,
)
from microg_da.data.frames import VideoFiles, find_videos
from microg_da.data.microg4m import keyframe_annotations
from microg_da.data.prepare import extract_frames
from microg_da.data.sources import open_source
from microg_da.errors import InputError

ACTIONS = """\
video_id,movie_or_real,person_id,action
filmA_001,m,1,12
filmA_001,m,1,17
filmA_001,m,2,80
recB_001,r,1,14
recC_001,r,1,14
recC_002,r,1,12
"""
CLIPS = ("filmA_001", "recB_001", "recC_001", "recC_002")


@pytest.fixture
def release(tmp_path):
    root = tmp_path / "release"
    for clip in CLIPS:
        kind = "movie" if clip.startswith("film") else "real"
        write_video(root / "videos" / kind / clip.split("_")[0] / f"{clip}.mp4", count=9, rate=30)
    folder = root / "annotation_files"
    folder.mkdir()
    (folder / "actions.csv").write_text(ACTIONS)
    rows = [(clip, frame, 1, 6.4, 4.8, 32, 43.2) for clip in CLIPS for frame in (2, 4, 7)]
    rows += [("filmA_001", frame, 2, 32, 4.8, 60, 40) for frame in (1, 2, 3, 4)]
    table = pd.DataFrame(rows, columns=["video_id", "frame_id", "person_id", "xmin", "ymin", "xmax", "ymax"])
    table.to_csv(folder / "bounding_boxes.csv", index=False)
    return root


def boxes_at(frames, video="v_1", person=1) -> pd.DataFrame:
    """One person whose box tells which frame it is from."""
    rows = [(video, frame, person, frame, 10, frame + 100, 200) for frame in frames]
    return pd.DataFrame(rows, columns=PERSON_BOX_COLUMNS)


def actions_of(*ids, video="v_1", person=1) -> pd.DataFrame:
    return pd.DataFrame(
        [(video, "real", person, i) for i in ids], columns=["video_id", "domain", "person_id", "action_id"]
    )


SIZES = pd.DataFrame({"height": [480], "width": [854]}, index=["v_1"])


class TestKeyframe:
    @pytest.mark.parametrize(
        ("frames", "keyframe"),
        [
            ([1, 2, 3], 2),
            ([1, 2, 3, 50], 2),  # the median 2.5 is as near 2 as 3: the first
            ([10, 12, 50, 90], 12),  # 31 is as far from 12 as from 50: the first
            ([5], 5),
            ([1, 2, 4, 90, 91], 4),
            ([3, 1, 2], 2),
        ],
    )
    def test_is_the_annotated_frame_nearest_the_median(self, frames, keyframe: int):
        table = keyframe_annotations(actions_of(12), boxes_at(frames), SIZES)
        assert table.frame_stamp.tolist() == [keyframe]
        assert table.x1.tolist() == [round(keyframe / 854, 3)]

    def test_boxes_are_fractions_with_three_decimals(self):
        table = keyframe_annotations(actions_of(12), boxes_at([100]), SIZES)
        assert table[BOX].to_numpy().tolist() == [[0.117, 0.021, 0.234, 0.417]]

    def test_every_action_of_a_person_gets_a_row_in_order(self):
        table = keyframe_annotations(actions_of(17, 12, 17), boxes_at([4]), SIZES)
        assert table.action_id.tolist() == [17, 12, 17]
        assert list(table.columns) == ANNOTATION_COLUMNS

    def test_persons_without_a_box_or_an_action_are_left_out(self):
        actions = pd.concat([actions_of(12), actions_of(14, person=2)])
        boxes = pd.concat([boxes_at([4]), boxes_at([5], person=3)], ignore_index=True)
        assert keyframe_annotations(actions, boxes, SIZES).person_id.tolist() == [1]

    def test_a_clip_without_a_size(self):
        with pytest.raises(InputError, match=r"\b1 clips\b.*\bz_1\b"):
            keyframe_annotations(actions_of(12), boxes_at([4], video="z_1"), SIZES)


@pytest.mark.data
def test_the_real_actions_joined_with_boxes_around_the_real_keyframes_give_the_real_table(test_data):
    """The release's boxes are not at hand: three frames per person are made whose median is the real keyframe."""
    real = read_annotations(test_data / "microg4m" / "ava_format_with_header.csv")
    people = real.drop_duplicates(["video_id", "person_id"])
    width, height = 854, 480
    pixels = people[BOX].to_numpy() * [width, height, width, height]
    frames = [people.frame_stamp + step for step in (0, -3, 2)]
    boxes = pd.concat(
        [
            people[["video_id", "person_id"]].assign(
                frame_stamp=stamp, **dict(zip(BOX, (pixels + shift).T, strict=True))
            )
            for stamp, shift in zip(frames, (0, 9, -7), strict=True)
        ],
        ignore_index=True,
    )[PERSON_BOX_COLUMNS]
    sizes = pd.DataFrame({"height": height, "width": width}, index=real.video_id.unique())
    made = keyframe_annotations(read_actions(test_data / "microg4m" / "actions.csv"), boxes, sizes)
    order = ["video_id", "person_id", "action_id"]
    pd.testing.assert_frame_equal(
        made.sort_values(order).reset_index(drop=True), real.sort_values(order).reset_index(drop=True)
    )


class TestPrepare:
    def run(self, release, out, *extra) -> int:
        return main(["prepare", "--from", f"microg4m-release:{release}", "--to", str(out), "--jobs", "2", *extra])

    def test_makes_a_tree_that_opens(self, release, tmp_path):
        out = tmp_path / "tree"
        assert self.run(release, out) == 0
        assert sorted(path.name for path in (out / "frames").iterdir()) == sorted(CLIPS)
        assert len(list((out / "frames" / "recB_001").iterdir())) == 9
        sides = {}
        for side in ("train", "val", "test"):
            clips = open_source(f"microg4m:{out}", **{**REQUEST, "split": side})
            assert clips[0].frames.shape[1] == 4
            sides[side] = {key.video_id for key in clips.keys}
            frame_list = pd.read_csv(out / "frame_lists" / f"{side}.csv", sep=" ")
            assert set(frame_list.video_id) == sides[side]
            assert (out / "frames" / frame_list.path[0]).is_file()
            assert clips.split_hash in (out / "annotations" / "split.json").read_text()
        assert set.union(*sides.values()) == set(CLIPS)
        held = next(side for side, clips in sides.items() if "filmA_001" in clips)
        simulated = open_source(f"microg4m:{out}?domain=simulated", **{**REQUEST, "split": held})
        assert {key.video_id for key in simulated.keys} == {"filmA_001"}

    def test_reading_the_release_itself_gives_the_same_clips_and_labels(self, release, tmp_path):
        self.run(release, tmp_path / "tree")
        tree = open_source(f"microg4m:{tmp_path / 'tree'}?scheme=by-source", **REQUEST)
        direct = open_source(f"microg4m:{release}?scheme=by-source", **REQUEST)
        assert tree.keys == direct.keys
        for index in range(len(tree)):
            a, b = tree[index], direct[index]
            assert (a.frames.int() - b.frames.int()).abs().max() <= 3  # JPEG
            assert (a.table_boxes == b.table_boxes).all()
            assert (a.labels == b.labels).all()

    def test_boxes_are_where_they_were(self, release, tmp_path):
        self.run(release, tmp_path / "tree")
        tables = [read_annotations(path) for path in (tmp_path / "tree" / "annotations").glob("ava_*.csv")]
        table = pd.concat([t for t in tables if len(t)])
        first = table[(table.video_id == "filmA_001") & (table.person_id == 1)].iloc[0]
        assert first[BOX].tolist() == pytest.approx([6.4 / WIDTH, 4.8 / HEIGHT, 32 / WIDTH, 43.2 / HEIGHT])
        assert first.frame_stamp == 4
        assert table[(table.video_id == "filmA_001") & (table.person_id == 2)].frame_stamp.tolist() == [2]

    def test_goes_on_where_it_stopped(self, release, tmp_path, capsys):
        out = tmp_path / "tree"
        videos = VideoFiles(find_videos(release / "videos"))
        (out / "frames" / ".partial-recC_001").mkdir(parents=True)
        (out / "frames" / ".partial-recC_001" / "half").touch()
        extract_frames(videos, "recB_001", out / "frames")
        stamp = (out / "frames" / "recB_001").stat().st_mtime_ns
        assert self.run(release, out) == 0
        assert "3 clips extracted, 1 kept, 0 skipped" in capsys.readouterr().out
        assert (out / "frames" / "recB_001").stat().st_mtime_ns == stamp
        assert sorted(path.name for path in (out / "frames").iterdir()) == sorted(CLIPS)
        assert self.run(release, out) == 0
        assert "0 clips extracted, 4 kept" in capsys.readouterr().out

    def test_interrupted_work_leaves_no_half_folder(self, release, tmp_path, monkeypatch):
        frames = tmp_path / "frames"
        frames.mkdir()
        videos = VideoFiles(find_videos(release / "videos"))

        def stop_after_three(video_id, numbers, min_short_side=None):
            yield from [np.zeros((4, 4, 3), np.uint8)] * 3
            raise KeyboardInterrupt

        monkeypatch.setattr(videos, "read", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            extract_frames(videos, "recB_001", frames)
        assert list(frames.iterdir()) == []

    def test_a_damaged_video(self, release, tmp_path, capsys):
        path = release / "videos" / "real" / "recB" / "recB_001.mp4"
        data = path.read_bytes()
        at = data.index(b"mdat") + 750  # behind x264's text about itself
        path.write_bytes(data[:at] + bytes(40) + data[at + 40 :])
        assert self.run(release, tmp_path / "tree") == 2
        assert "recB_001.mp4" in capsys.readouterr().err
        assert not (tmp_path / "tree" / "annotations").exists()
        assert self.run(release, tmp_path / "tree", "--on-error", "skip") == 0
        assert "1 skipped" in capsys.readouterr().out
        kept = open_source(f"microg4m:{tmp_path / 'tree'}", **REQUEST).annotations()
        assert "recB_001" not in set(kept.video_id)

    @pytest.mark.parametrize(
        ("origin", "message"),
        [
            ("microg4m:/x", "unknown kind of data to prepare 'microg4m'. Did you mean 'microg4m-release'"),
            ("microg4m-release:", "microg4m-release:ROOT"),
            ("microg4m-release:/nowhere/at/all", "not found"),
        ],
    )
    def test_mistakes(self, tmp_path, capsys, origin: str, message: str):
        assert main(["prepare", "--from", origin, "--to", str(tmp_path / "t")]) == 2
        assert message in capsys.readouterr().err


def test_the_real_column_names_of_the_release_are_read(release):
    assert list(read_person_boxes(release / "annotation_files" / "bounding_boxes.csv").columns) == PERSON_BOX_COLUMNS


class TestSplitCommand:
    def test_writes_a_file_that_a_source_can_name(self, release, tmp_path, capsys):
        path = tmp_path / "split.json"
        assert main(["split", "--data", f"microg4m:{release}", "--scheme", "by-source", "--out", str(path)]) == 0
        out = capsys.readouterr().out
        assert "no source video is in two splits" in out
        clips = open_source(f"microg4m:{release}?scheme={path}", **REQUEST)
        assert clips.split_hash in out

    def test_help_is_instant(self):
        import subprocess
        import sys

        code = (
            "import sys; from microg_da.cli import main\n"
            "for name in ('split', 'audit', 'prepare'):\n"
            "    try: main([name, '--help'])\n"
            "    except SystemExit: pass\n"
            "print({'torch', 'pandas', 'cv2'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("set()")

    def test_the_published_split_of_a_release_is_unknown(self, release, capsys):
        assert main(["split", "--data", f"microg4m:{release}", "--scheme", "published"]) == 2
        assert "are in no split file" in capsys.readouterr().err
