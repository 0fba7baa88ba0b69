"""Making data sets: what comes out is what was filmed, without gravity; the same bytes always; nothing half-made."""

import dataclasses
import hashlib
import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from bar_people import CLIPS, FRAMES, HEIGHT, KEYFRAME, WIDTH, annotations, picture, write_source

from microg_da.cli import main
from microg_da.data.annotations import BOX
from microg_da.data.frames import JpegFolders
from microg_da.data.sources import open_source, read_dataset_files
from microg_da.errors import InputError
from microg_da.transforms.camera import CameraMotion, RollDistribution, view_frame
from microg_da.weightless import making
from microg_da.weightless.folder import Folder
from microg_da.weightless.making import make_data_set
from microg_da.weightless.request import Request

OPEN = {"num_frames": 4, "sampling_rate": 1, "image_size": 63, "train": False}


def make(earth, out, workers=1, options="", **request):
    return make_data_set(f"ava:{earth}{options}", out, Request(**request), workers=workers, progress=False)


def open_made(root, split, labelled=True):
    return open_source(
        f"ava:{root}", split=split, taxonomy=root / "annotations" / "label_map.pbtxt", labelled=labelled, **OPEN
    )


def digests(root: Path) -> dict[str, str]:
    """Of every file except the record of where it lies."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def strong(image, channel):
    """Which pixels are red (2) or blue (0)."""
    others = [other for other in range(3) if other != channel]
    return image[..., channel].astype(int) - image[..., others].max(axis=-1) > 70


def coloured_points(image, channel):
    """The middle of the pixels that are red (2) or blue (0), in pixels."""
    rows, columns = np.nonzero(strong(image, channel))
    assert len(rows) > 20
    return np.array([columns.mean(), rows.mean()])


def up_of(image) -> float:
    """The direction from blue feet to the red head, degrees clockwise from the top."""
    x, y = coloured_points(image, 2) - coloured_points(image, 0)
    return float(np.degrees(np.arctan2(x, -y)) % 360)


def apart(first, second) -> float:
    return abs((first - second + 180) % 360 - 180)


class TestBothModes:
    @pytest.fixture(params=["rolled", "floating"])
    def made(self, request, earth, walls, tmp_path):
        extra = {"backgrounds": walls} if request.param == "floating" else {}
        summary = make(earth, tmp_path / "made", mode=request.param, seed=5, **extra)
        assert (summary.made, summary.present, summary.people) == (6, 0, 6)
        return tmp_path / "made"

    def test_no_label_is_lost_and_the_split_is_kept(self, made, earth):
        before, after = annotations(earth), annotations(made)
        for split in ("train", "val", "test"):
            columns = ["video_id", "frame_stamp", "action_id"]
            assert sorted(map(tuple, before[split][columns].values)) == sorted(map(tuple, after[split][columns].values))

    def test_opens_as_any_data_set_with_ups_that_clips_do_not_carry(self, made):
        clips = open_made(made, "train")
        assert len(clips) == 3
        assert clips.fps == 10
        assert clips.split_hash == json.loads((made / "weightless.json").read_text())["split_hash"]
        ups = clips.ups()
        assert set(ups) == {person for clip in clips for person in clip.people}
        assert not any("up" in name for name in vars(clips[0]))
        assert clips[0].frames.shape[:2] == (3, 4)

    def test_the_source_videos_are_those_of_the_source(self, made):
        files, _ = read_dataset_files(f"ava:{made}")
        assert files.sources.to_dict() == {name: name for name in CLIPS}

    def test_up_is_what_the_picture_shows(self, made):
        store = JpegFolders(made / "frames")
        for table in annotations(made).values():
            for row in table.drop_duplicates("video_id").itertuples():
                (image,) = store.read(row.video_id, np.array([row.frame_stamp - 1]))
                assert apart(up_of(image), row.up) < 6

    def test_boxes_enclose_the_pixels_of_the_person(self, made):
        store = JpegFolders(made / "frames")
        for table in annotations(made).values():
            for row in table.drop_duplicates("video_id").itertuples():
                (image,) = store.read(row.video_id, np.array([row.frame_stamp - 1]))
                box = np.array([row.x1, row.y1, row.x2, row.y2]) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
                red, blue = (
                    image[..., c].astype(int) - image[..., [o for o in range(3) if o != c]].max(-1) > 70 for c in (2, 0)
                )
                rows, columns = np.nonzero(red | blue)
                seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                # The reflection of a person beyond the frame has the same colours: the person is inside the box.
                middle = (coloured_points(image, 2) + coloured_points(image, 0)) / 2
                assert (box[:2] < middle).all()
                assert (middle < box[2:]).all()
                if "floating" in (made / "weightless.json").read_text():
                    np.testing.assert_allclose(box, seen, atol=2.5)

    def test_what_it_was_made_of_is_recorded(self, made, earth):
        record = json.loads((made / "weightless.json").read_text())
        assert record["complete"] is True
        assert record["source"] == f"ava:{earth}"
        assert record["options"]["seed"] == 5
        assert (record["clips"], record["people"]) == (6, 6)
        assert cv2.imread(str(made / "contact_sheet.png")) is not None
        assert len((made / "people.csv").read_text().splitlines()) == 7


class TestRolled:
    def test_is_what_reading_with_gravity_rolled_shows(self, earth, tmp_path):
        make(earth, tmp_path / "made", seed=3)
        label_map = earth / "annotations" / "label_map.pbtxt"
        for split in ("train", "test"):
            written = open_made(tmp_path / "made", split)
            options = {**OPEN, "split": split, "taxonomy": label_map, "labelled": True}
            read = open_source(f"ava:{earth}?gravity=rolled&gravity_seed=3", **options)
            for one, other in zip(written, read, strict=True):
                assert one.key == other.key
                np.testing.assert_allclose(one.table_boxes, other.table_boxes, atol=1e-6)
                assert (one.labels == other.labels).all()
                assert np.abs(one.frames.int() - other.frames.int()).float().mean() < 2  # JPEG
            assert written.ups() == pytest.approx(read.ups())

    def test_turning_back_by_up_restores_the_picture(self, earth, tmp_path):
        make(earth, tmp_path / "made", rolls=RollDistribution.parse("fixed:35"), masks=None)
        row = annotations(tmp_path / "made")["val"].iloc[0]
        (image,) = JpegFolders(tmp_path / "made" / "frames").read(row.video_id, np.array([KEYFRAME - 1]))
        back = view_frame(image, CameraMotion(-row.up).matrix(0.0, image.shape[:2]))
        original, mask = picture((48 + KEYFRAME - 1, 18))
        inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
        assert row.up == 35
        assert np.abs(back.astype(int) - original)[inside].mean() < 12

    def test_spin_counts_into_up(self, earth, tmp_path):
        rolls = RollDistribution.parse("fixed:0")
        make(earth, tmp_path / "made", rolls=rolls, spin=200.0)
        store = JpegFolders(tmp_path / "made" / "frames")
        name = "filmC_001"
        ups = [up_of(image) for image in store.read(name, np.arange(FRAMES))]
        speeds = [(after - before + 180) % 360 - 180 for before, after in pairwise(ups)]
        assert np.std(speeds) < 3
        assert apart(ups[KEYFRAME - 1], annotations(tmp_path / "made")["val"].up.iloc[0]) < 5
        assert 0 < abs(np.mean(speeds)) <= 20.5

    def test_without_masks_boxes_are_those_of_ellipses(self, tmp_path):
        earth = write_source(tmp_path / "bare", {"filmA_001": CLIPS["filmA_001"]}, masks=False)
        make(earth, tmp_path / "made", rolls=RollDistribution.parse("fixed:90"))
        row = annotations(tmp_path / "made")["train"].iloc[0]
        sides = np.array([row.x2 - row.x1, row.y2 - row.y1]) * [WIDTH, HEIGHT]
        np.testing.assert_allclose(sides, [42, 14], atol=1e-3)

    def test_videos_and_smaller_frames(self, earth, tmp_path):
        pytest.importorskip("av")
        make(earth, tmp_path / "made", format="mp4", short_side=36)
        clips = open_made(tmp_path / "made", "test")
        assert clips.shortest_clip() == FRAMES
        assert clips.frames.frame_size("filmD_001") == (36, 48)
        assert clips.frames.fps("filmD_001") == pytest.approx(10)

    def test_a_long_video_becomes_a_clip_for_each_keyframe(self, earth, tmp_path):
        make(earth, tmp_path / "made", max_frames=4)
        table = annotations(tmp_path / "made")["val"]
        assert table.video_id.tolist() == ["filmC_001_000004"]
        assert table.source_video.tolist() == ["filmC_001"]
        assert JpegFolders(tmp_path / "made" / "frames").num_frames("filmC_001_000004") == 4
        assert table.frame_stamp.tolist() == [3]


class TestFloating:
    def test_guests_keep_their_labels_and_their_split(self, earth, walls, tmp_path):
        make(earth, tmp_path / "made", mode="floating", backgrounds=walls, people=3, seed=1)
        before = {row.video_id: set() for table in annotations(earth).values() for row in table.itertuples()}
        for table in annotations(earth).values():
            for row in table.itertuples():
                before[row.video_id].add(row.action_id)
        origin = {}
        for line in (tmp_path / "made" / "people.csv").read_text().splitlines()[1:]:
            video, stamp, person, _, source, _ = line.split(",")
            origin[video, int(stamp), int(person)] = source
        assert len(origin) > 6
        for split, table in annotations(tmp_path / "made").items():
            for (video, stamp, person), rows in table.groupby(["video_id", "frame_stamp", "person_id"]):
                source = origin[video, stamp, person]
                assert CLIPS[source][0] == split
                assert set(rows.action_id) == before[source]

    def test_drawn_modules_need_no_pictures(self, earth, tmp_path):
        make(earth, tmp_path / "made", mode="floating")
        record = json.loads((tmp_path / "made" / "clips" / "filmA_001.json").read_text())
        assert record["background"] == "drawn module"
        (image,) = JpegFolders(tmp_path / "made" / "frames").read("filmA_001", np.array([0]))
        assert image.std() > 10

    def test_nothing_of_the_old_place_comes_along(self, earth, walls, tmp_path):
        make(earth, tmp_path / "made", mode="floating", backgrounds=walls)
        for name in CLIPS:
            (image,) = JpegFolders(tmp_path / "made" / "frames").read(name, np.array([KEYFRAME - 1]))
            green = image[..., 1].astype(int) - image[..., [0, 2]].max(axis=-1) > 40
            assert green.mean() < 0.002

    def test_somebody_without_pixels_is_named(self, tmp_path, earth):
        root = write_source(tmp_path / "set", {"filmA_001": CLIPS["filmA_001"]})
        from microg_da.data.masks import write_masks

        write_masks(np.zeros((FRAMES, HEIGHT, WIDTH), bool), root / "masks" / "filmA_001.npz")
        with pytest.raises(InputError, match=r"filmA_001.*person 0"):
            make(root, tmp_path / "made", mode="floating")


class TestTheSameBytes:
    def test_whatever_the_number_of_workers(self, earth, walls, tmp_path):
        request = {"mode": "floating", "backgrounds": walls, "people": 2}
        make(earth, tmp_path / "one", **request)
        make(earth, tmp_path / "two", workers=2, **request)
        assert digests(tmp_path / "one") == digests(tmp_path / "two")

    def test_another_seed_gives_others(self, earth, tmp_path):
        make(earth, tmp_path / "one")
        make(earth, tmp_path / "two", seed=1)
        one, two = (annotations(tmp_path / name)["train"].up for name in ("one", "two"))
        assert (np.abs(one - two) > 1e-3).all()

    @pytest.mark.parametrize("form", ["frames", "mp4"])
    def test_after_a_run_was_killed_in_the_middle_of_a_clip(self, earth, tmp_path, monkeypatch, form):
        make(earth, tmp_path / "whole", format=form)
        make_rolled, made = making.make_rolled, []

        def dies(plan, footage, request):
            clip = make_rolled(plan, footage, request)
            made.append(plan.name)
            return clip if len(made) < 4 else dataclasses.replace(clip, frames=_broken(clip.frames))

        def _broken(frames):
            yield next(frames)
            raise KeyboardInterrupt

        monkeypatch.setattr(making, "make_rolled", dies)
        with pytest.raises(KeyboardInterrupt):
            make(earth, tmp_path / "made", format=form)
        assert not (tmp_path / "made" / "annotations").exists()
        assert not Folder(tmp_path / "made").has_clip(made[-1])
        monkeypatch.setattr(making, "make_rolled", make_rolled)
        summary = make(earth, tmp_path / "made", format=form)
        assert (summary.made, summary.present) == (3, 3)
        assert digests(tmp_path / "made") == digests(tmp_path / "whole")

    def test_a_folder_of_frames_without_its_people_is_made_again(self, earth, tmp_path):
        make(earth, tmp_path / "whole")
        make(earth, tmp_path / "made")
        (tmp_path / "made" / "clips" / "filmA_001.json").unlink()
        (tmp_path / "made" / "frames" / "filmA_001" / "filmA_001_000001.jpg").write_bytes(b"half")
        assert make(earth, tmp_path / "made").made == 1
        assert digests(tmp_path / "made") == digests(tmp_path / "whole")


class TestRefusals:
    def check(self, earth, out, message, options="", **request):
        with pytest.raises(InputError, match=message):
            make(earth, out, options=options, **request)
        return out

    def test_a_folder_of_another_request(self, earth, tmp_path):
        make(earth, tmp_path / "made")
        before = digests(tmp_path / "made")
        self.check(earth, tmp_path / "made", "seed is 0", seed=7)
        assert digests(tmp_path / "made") == before

    def test_a_folder_of_something_else(self, earth, tmp_path):
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "mine.txt").write_text("")
        self.check(earth, tmp_path / "made", "contains other files")
        assert [path.name for path in (tmp_path / "made").iterdir()] == ["mine.txt"]

    @pytest.mark.parametrize(
        ("message", "options", "request_"),
        [
            ("unknown mode 'rold'", "", {"mode": "rold"}),
            ("spin is -1", "", {"spin": -1.0}),
            ("drift is nan", "", {"drift": float("nan")}),
            ("people is 0", "", {"mode": "floating", "people": 0}),
            ("max_frames is 0", "", {"max_frames": 0}),
            ("short_side is 3", "", {"short_side": 3}),
            ("--backgrounds requires", "", {"backgrounds": Path("walls")}),
            ("folder of background pictures does not exist", "", {"mode": "floating", "backgrounds": Path("nowhere")}),
            ("folder of masks not found", "", {"masks": Path("nowhere")}),
            ("Give one of them", "", {"masks": Path("a"), "segmenter": Path("b.onnx")}),
            ("nowhere.onnx", "", {"mode": "floating", "segmenter": Path("nowhere.onnx")}),
            ("gravity=rolled is not", "?gravity=rolled", {}),
            ("boxes=detected has no", "?boxes=detected", {}),
        ],
    )
    def test_before_anything_is_written(self, earth, tmp_path, message, options, request_):
        out = self.check(earth, tmp_path / "made", message, options, **request_)
        assert not out.exists()

    def test_a_data_set_without_masks_cannot_float(self, tmp_path):
        earth = write_source(tmp_path / "bare", {"filmA_001": CLIPS["filmA_001"]}, masks=False)
        out = self.check(earth, tmp_path / "made", "--masks DIR", mode="floating")
        assert not out.exists()

    def test_a_missing_mask_is_named_or_skipped(self, tmp_path):
        earth = write_source(tmp_path / "set")
        (earth / "masks" / "filmB_001.npz").unlink()
        out = self.check(earth, tmp_path / "made", r"filmB_001\.npz", mode="floating")
        assert not out.exists()
        summary = make(earth, out, options="?on_error=skip", mode="floating")
        assert set(summary.skipped) == {"filmB_001"}
        assert summary.made == 5
        assert "filmB_001" in json.loads((out / "weightless.json").read_text())["skipped"]

    def test_masks_of_another_video(self, tmp_path):
        from microg_da.data.masks import write_masks

        earth = write_source(tmp_path / "set", {"filmA_001": CLIPS["filmA_001"]})
        write_masks(np.ones((3, 10, 10), bool), earth / "masks" / "filmA_001.npz")
        self.check(earth, tmp_path / "made", r"3 frames of 10×10.*7 frames of 96×72")

    def test_the_simulator_is_no_footage(self, tmp_path, capsys):
        assert main(["weightless", "--data", "synthetic:earth", "--to", str(tmp_path / "made")]) == 2
        assert "synthetic data has no files" in capsys.readouterr().err


def test_the_command_says_what_it_made(earth, tmp_path, capsys):
    words = ["--data", f"ava:{earth}", "--to", str(tmp_path / "made"), "--rolls", "fixed:180", "--workers", "1"]
    assert main(["weightless", *words]) == 0
    assert "6 clips made" in capsys.readouterr().out
    assert (annotations(tmp_path / "made")["train"].up == 180).all()
    assert main(["weightless", *words]) == 0
    assert "0 clips made, 6 kept" in capsys.readouterr().out
    assert main(["weightless", *words, "--rolls", "fixed:a"]) == 2
    assert "--rolls" in capsys.readouterr().err


def test_jhmdb_rolls_with_boxes_of_its_masks(test_data, tmp_path):
    if not (test_data / "jhmdb").is_dir():
        pytest.skip(f"no jhmdb in {test_data}")
    pytest.importorskip("av")
    source = tmp_path / "few"
    lines = (test_data / "jhmdb" / "clips.csv").read_text().splitlines()
    source.mkdir()
    chosen = lines[1:400:57]
    (source / "clips.csv").write_text("\n".join([lines[0], *chosen]) + "\n")
    names = {line.split(",")[0] for line in chosen}
    people = (test_data / "jhmdb" / "people.csv").read_text().splitlines()
    (source / "people.csv").write_text(
        "\n".join([people[0], *(row for row in people if row.split(",")[0] in names)]) + "\n"
    )
    for folder in ("videos", "masks"):
        (source / folder).symlink_to(test_data / "jhmdb" / folder)
    rolls = RollDistribution.parse("fixed:180")
    summary = make_data_set(f"jhmdb:{source}", tmp_path / "made", Request(rolls=rolls), workers=1, progress=False)
    assert summary.people == len(names)
    before, _ = read_dataset_files(f"jhmdb:{source}")
    after, _ = read_dataset_files(f"ava:{tmp_path / 'made'}")
    assert after.taxonomy == before.taxonomy
    assert after.sources.to_dict() == before.sources.to_dict()
    one, other = (each.annotations.set_index("video_id").sort_index() for each in (before, after))
    assert (one.action_id == other.action_id).all()
    sides = [(table.x2 - table.x1, table.y2 - table.y1) for table in (one, other)]
    # A half turn keeps every side; people at the border are moved inside by at most the margin.
    np.testing.assert_allclose(sides[0], sides[1], atol=0.02)
    assert (other[BOX].to_numpy() >= 0).all()
