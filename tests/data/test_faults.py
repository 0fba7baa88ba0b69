"""Every fault of docs/data_faults.md: what is said, and that ``on_error=skip`` goes on where it can."""

import numpy as np
import pytest
from small_trees import ROWS, write_video
from test_sources import REQUEST

from microg_da.data.sources import open_source
from microg_da.errors import InputError


def clips_of(tree, query: str = "", **changes):
    return open_source(f"microg4m:{tree}{query}", **{**REQUEST, **changes})


def read_all(clips) -> None:
    for index in range(len(clips)):
        clips[index]


def remove_folder(tree) -> None:
    for path in (tree / "frames" / "filmA_002").iterdir():
        path.unlink()
    (tree / "frames" / "filmA_002").rmdir()


def truncate(tree) -> None:
    path = tree / "frames" / "filmA_002" / "filmA_002_000005.jpg"
    path.write_bytes(path.read_bytes()[:-40])


def remove_frame(tree) -> None:
    (tree / "frames" / "filmA_002" / "filmA_002_000005.jpg").unlink()


def shorten(tree) -> None:
    for number in range(5, 13):
        (tree / "frames" / "filmA_002" / f"filmA_002_{number:06d}.jpg").unlink()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (remove_folder, r"frames/filmA_002\b.*\b1 videos of microg4m:.*on_error=skip"),
        (truncate, r"filmA_002_000005\.jpg.*truncated"),
        (remove_frame, r"filmA_002_000005\.jpg.*missing"),
        (shorten, r"filmA_002\b.*\bframe 5\b.*\b4 frames"),
    ],
)
class TestUnreadableClips:
    def test_raises(self, tree, fault, message):
        fault(tree)
        with pytest.raises(InputError, match=message):
            read_all(clips_of(tree))

    def test_is_skipped_counted_and_listed(self, tree, fault, message):
        fault(tree)
        clips = clips_of(tree, "?on_error=skip")
        keys = [clips[index].key.video_id for index in range(len(clips))]
        assert set(keys) == {"filmA_001", "recB_001"}
        skipped = clips.skipped()
        assert skipped.video_id.tolist() == ["filmA_002"]
        assert message.split(" ")[0].split("\\")[0] in skipped.reason[0]


def test_nothing_skipped_is_an_empty_table(tree):
    clips = clips_of(tree, "?on_error=skip")
    read_all(clips)
    assert clips.skipped().empty


def test_a_data_set_in_which_nothing_can_be_read(tree):
    for path in (tree / "frames").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"on_error=skip.*\b4 clips\b"):
        read_all(clips_of(tree, "?on_error=skip"))


def test_workers_report_what_they_skipped(tree):
    from torch.utils.data import DataLoader

    truncate(tree)
    clips = clips_of(tree, "?on_error=skip")
    list(DataLoader(clips, num_workers=2, collate_fn=len, batch_size=1, multiprocessing_context="fork"))
    assert clips.skipped().video_id.tolist() == ["filmA_002"]


def test_a_zero_byte_video(tree):
    for video in ("filmA_001", "filmA_002"):
        write_video(tree / "videos" / f"{video}.mp4", count=12)
    (tree / "videos" / "recB_001.mp4").touch()
    with pytest.raises(InputError, match=r"recB_001\.mp4\b.*\b0 bytes"):
        clips_of(tree, "?decode=video")
    assert len(clips_of(tree, "?decode=video&on_error=skip")) == 2


def test_a_video_shorter_than_the_window_repeats_its_ends(tree):
    clip = clips_of(tree, num_frames=16, sampling_rate=4)[0]
    # Keyframe 3 of 12 frames: the first eight places are frame 0, the last ones frame 11.
    values = [round((value - 4) / 10) for value in clip.frames[0].float().mean(dim=(1, 2)).tolist()]
    assert values == [0] * 8 + [3, 7] + [11] * 6


def test_a_wrong_frame_rate(tree):
    for video in ("filmA_001", "filmA_002", "recB_001"):
        write_video(tree / "videos" / f"{video}.mp4", count=12, rate=10)
    clips = clips_of(tree, "?decode=video&fps=30")
    with pytest.raises(InputError, match=r"filmA_001\b.*\b10 frames per second.*fps=30"):
        clips[0]
    assert clips_of(tree, "?decode=video&fps=10")[0].frames.shape[1] == 4


def test_seconds_without_a_frame_rate(tree):
    (tree / "annotations" / "ava_train.csv").write_text("filmA_001,0902,0.1,0.2,0.5,0.9,12,1\n")
    clips = open_source(f"ava:{tree}", **REQUEST)
    with pytest.raises(InputError, match=r"filmA_001\b.*\?fps=25&start=0"):
        clips[0]


def test_seconds_that_count_from_elsewhere(tree):
    (tree / "annotations" / "ava_train.csv").write_text("filmA_001,0902,0.1,0.2,0.5,0.9,12,1\n")
    with pytest.raises(InputError, match=r"filmA_001\b.*\b902\b.*\b12 frames.*start=.*fps="):
        open_source(f"ava:{tree}?start=0&fps=5", **REQUEST)[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("filmA_001,4,0.1,0.2,1.5,0.9,12,1", r"line 7\b.*\[0, 1\]"),
        ("filmA_001,4,0.5,0.2,0.5,0.9,12,1", "line 7.*x1 < x2"),
        ("filmA_001,4,0.1,0.2,0.5,0.9,2,1", "line 7.*action_id.*50.*'microg50'"),
        ("filmA_001,4,0.1,nan,0.5,0.9,12,1", "line 7.*y1"),
        ("filmA_001,4,0.1,0.2", r"line 7\b.*\b4 columns"),
    ],
)
def test_a_wrong_row(tree, row: str, message: str):
    path = tree / "annotations" / "ava_train.csv"
    path.write_text(ROWS + row + "\n")
    with pytest.raises(InputError, match=message):
        clips_of(tree)


@pytest.mark.parametrize(
    "encode", [lambda text: b"\xef\xbb\xbf" + text.encode(), lambda text: text.replace("\n", "\r\n").encode()]
)
def test_byte_order_marks_and_windows_line_ends_change_nothing(tree, encode):
    expected = clips_of(tree).annotations()
    (tree / "annotations" / "ava_train.csv").write_bytes(encode(ROWS))
    assert clips_of(tree).annotations().equals(expected)


def test_mixed_encodings(tree):
    (tree / "annotations" / "ava_train.csv").write_bytes(ROWS.encode() + "vidé_1,4,0,0,1,1,12,1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"line 7.*UTF-8"):
        clips_of(tree)


def test_a_clip_on_two_sides(tree):
    (tree / "annotations" / "ava_test.csv").write_text(ROWS.splitlines()[0])
    with pytest.raises(InputError, match=r"'published'.*\b1 clips\b.*filmA_001\b.*train.*test"):
        clips_of(tree)


def test_an_empty_table(tree):
    (tree / "annotations" / "ava_train.csv").write_text("")
    with pytest.raises(InputError, match="empty"):
        clips_of(tree)


def test_no_frames_at_all(tmp_path):
    (tmp_path / "train.csv").write_text(ROWS)
    with pytest.raises(InputError, match=r"frames/.*videos/"):
        clips_of(tmp_path)


def test_a_taxonomy_that_shares_no_label(tree, tmp_path):
    label_map = tmp_path / "mine.pbtxt"
    label_map.write_text('item { name: "spin" id: 3 }')
    with pytest.raises(InputError, match=r"train.*'mine'"):
        clips_of(tree, taxonomy=label_map)


def test_people_never_outnumber_labels(tree):
    clips = clips_of(tree, train=True, image_size=8)
    for epoch in range(20):
        clips.set_epoch(epoch)
        for index in range(len(clips)):
            clip = clips[index]
            assert len(clip.boxes) == len(clip.labels) == len(clip.table_boxes)
            assert np.isfinite(clip.boxes.numpy()).all()


def test_a_run_can_say_what_to_do_with_bad_data(tree):
    from microg_da.config import Config
    from microg_da.data.datamodule import DomainDatasets

    remove_folder(tree)
    config = Config()
    config.data.source = f"microg4m:{tree}"
    with pytest.raises(InputError, match=r"frames/filmA_002.*on_error=skip"):
        DomainDatasets(config).get("source", "train", labelled=True)
    config.data.on_error = "skip"
    assert len(DomainDatasets(config).get("source", "train", labelled=True)) == 3
