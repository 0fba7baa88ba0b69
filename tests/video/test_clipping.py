"""Shots, clips, and people followed through them."""

import numpy as np
import pandas as pd
import pytest
from video_helpers import find_red, scene, write_video

from microg_da.data.annotations import BOX, PERSON_BOX_COLUMNS
from microg_da.errors import InputError
from microg_da.taxonomy import get_taxonomy
from microg_da.video.clipping import CLIP_FRAMES, ClipTracker, cut_into_clips
from microg_da.video.cvat import attribute_names, read_tracks, write_labels, write_tracks
from microg_da.video.reader import Video, at_rate
from microg_da.video.shots import with_shots

TAXONOMY = get_taxonomy("microg50")


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("norfair")
    pytest.importorskip("scenedetect")


def film(*shots, rate=30):
    """Frames of shots: (frames, background seed, has a person). The person drifts to the right."""
    for count, seed, person in shots:
        background = np.random.default_rng(seed).integers(0, 130, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        background[..., 2] //= 2  # nothing else is red
        for i in range(count):
            image = background.copy()
            if person:
                x = 10 + 60 * i // count
                image[20:80, x : x + 24] = (0, 0, 255)
            yield image


@pytest.mark.parametrize("rate", [30, 10])
def test_cuts_are_where_the_film_cuts(tmp_path, rate):
    path = write_video(
        tmp_path / "v.mp4", film((4 * rate, 1, True), (2 * rate, 2, True), (3 * rate, 3, False)), rate=rate
    )
    seen = list(with_shots(at_rate(Video(path).frames(), 30)))
    numbers = [number for number, _, _ in seen]
    assert numbers == list(range(len(numbers)))
    begins = np.array([number for number, _, first in seen if first])
    np.testing.assert_allclose(begins, [0, 120, 180], atol=2)


def test_a_film_becomes_clips(tmp_path):
    path = write_video(tmp_path / "my_film.mp4", film((200, 1, True), (60, 2, True), (100, 3, False)))
    clipped = cut_into_clips(Video(path), find_red, tmp_path / "videos")
    clips = clipped.clips.set_index("video_id")
    assert clips.index.tolist() == [f"my_film_{i:04d}" for i in range(1, 7)][: len(clips)]
    assert clips.reason.tolist() == ["", "", "cut", "cut", "no person", "end of video"]
    assert clips.kept.tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(clips.start, [0, 3, 6, 6.667, 8.667, 11.667], atol=0.01)
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["my_film_0001.mp4", "my_film_0002.mp4"]
    for name in ("my_film_0001", "my_film_0002"):
        video = Video(tmp_path / "videos" / f"{name}.mp4")
        assert sum(1 for _ in video.frames()) == CLIP_FRAMES
        assert video.rate == 30
        rows = clipped.boxes[clipped.boxes.video_id == name]
        assert set(rows.person_id) == {1}
        assert rows.frame_stamp.iloc[0] == 1
        assert rows.frame_stamp.iloc[-1] == CLIP_FRAMES
        shown = {number: frame.image for number, frame in enumerate(video.frames(), start=1)}
        for row in rows.itertuples():  # the boxes are those of the frames as they were written
            np.testing.assert_allclose(
                find_red(shown[row.frame_stamp]).boxes[0], [row.x1, row.y1, row.x2, row.y2], atol=1.5
            )


def test_large_frames_are_written_with_480_lines(tmp_path):
    frames = (scene([(100, 100, 300, 600)], size=(722, 1280)) for _ in range(CLIP_FRAMES))
    clipped = cut_into_clips(Video(write_video(tmp_path / "v.mp4", frames)), find_red, tmp_path / "videos")
    assert clipped.clips[["height", "width"]].iloc[0].tolist() == [480, 850]
    np.testing.assert_allclose(clipped.boxes[BOX].mean(), np.array([100, 100, 300, 600]) * 480 / 722, atol=1.5)


def looks_at(positions):
    """How often somebody at these left edges is looked at."""
    followed = ClipTracker(find_red)
    for i, x in enumerate(positions):
        followed.add(scene([(x, 20, x + 20, 80)]), last=i == len(positions) - 1)
    return followed.table("v_1")


def test_fast_people_are_looked_at_more_often():
    still, slow, fast = (looks_at(10 + speed * np.arange(CLIP_FRAMES)) for speed in (0, 0.8, 1.1))
    assert len(still) < len(slow) < len(fast)
    for table in (still, slow, fast):
        assert set(table.person_id) == {1}
        assert table.frame_stamp.iloc[[0, -1]].tolist() == [1, CLIP_FRAMES]


def test_somebody_seen_twice_is_nobody():
    followed = ClipTracker(find_red)
    for i in range(CLIP_FRAMES):
        followed.add(scene([(10, 20, 30, 80)] if i < 6 else []))
    assert followed.table("v_1").empty


class TestCvat:
    def boxes(self):
        rows = [("a_1", s, p, 10.25 * p + s, 5.0, 60.5 + s, 90.75) for p in (1, 2) for s in (1, 11, 30 * p)]
        return pd.DataFrame(rows, columns=PERSON_BOX_COLUMNS)

    def write(self, path):
        return write_tracks("a_1", self.boxes(), (96, 128), 90, TAXONOMY, path)

    def test_boxes_come_back(self, tmp_path):
        (clip,) = read_tracks(self.write(tmp_path / "t.xml"), TAXONOMY)
        assert clip.video_id == "a_1"
        pd.testing.assert_frame_equal(
            clip.boxes.assign(person_id=clip.boxes.person_id + 1), self.boxes(), check_dtype=False
        )
        assert clip.actions.empty

    def test_every_track_ends(self, tmp_path):
        from xml.etree import ElementTree as ET

        for track in ET.parse(self.write(tmp_path / "t.xml")).iter("track"):
            *shown, last = track.iter("box")
            assert {box.get("outside") for box in shown} == {"0"}
            assert last.get("outside") == "1"
            assert int(last.get("frame")) == int(shown[-1].get("frame")) + 1
            frames = [int(box.get("frame")) for box in track.iter("box")]
            assert frames == sorted(set(frames))

    def test_what_an_importer_needs_is_there(self, tmp_path):
        """CVAT's loader asks of a box for frame, outside, occluded, keyframe and corners, and of labels for a name."""
        import json
        from xml.etree import ElementTree as ET

        root = ET.parse(self.write(tmp_path / "t.xml")).getroot()
        assert root.tag == "annotations"
        assert root.findtext("version") == "1.1"
        (labels,) = json.loads(write_labels(TAXONOMY, tmp_path / "labels.json").read_text())
        names = [attribute["name"] for attribute in labels["attributes"]]
        assert names == attribute_names(TAXONOMY)
        assert len(set(names)) == 50
        for track in root.iter("track"):
            assert track.get("label") == labels["name"]
            for box in track.iter("box"):
                assert {"frame", "outside", "occluded", "keyframe", "xtl", "ytl", "xbr", "ybr"} <= set(box.keys())
                assert [each.get("name") for each in box] == names

    def test_checked_boxes_are_actions(self, tmp_path):
        path = self.write(tmp_path / "t.xml")
        text = path.read_text()
        name = attribute_names(TAXONOMY)[11]
        at = text.index("<track", text.index("<track") + 1)
        path.write_text(text[:at] + text[at:].replace(f'name="{name}">false', f'name="{name}">true'))
        (clip,) = read_tracks(path, TAXONOMY)
        assert clip.actions.to_numpy().tolist() == [[1, TAXONOMY.ids[11]]]

    def test_an_export_is_a_zip_with_every_frame(self, tmp_path):
        import zipfile

        path = self.write(tmp_path / "t.xml")
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
            archive.writestr("annotations.xml", path.read_text().replace('keyframe="1"', 'keyframe="0"'))
        (clip,) = read_tracks(tmp_path / "t.zip", TAXONOMY)
        assert len(clip.boxes) == len(self.boxes())

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("no xml", "XML"),
            ("<other/>", "annotations"),
            ("<annotations><meta/></annotations>", "meta/task"),
            ("<annotations><meta><task><name>a</name></task></meta><image/></annotations>", "image"),
            (
                '<annotations><meta><task><name>a</name></task></meta><track label="person"><box frame="0" outside="0" '
                'xtl="0" ytl="0" xbr="1" ybr="1"><attribute name="2 crawl">true</attribute></box></track></annotations>',
                "'2 crawl'.*'microg50'",
            ),
        ],
    )
    def test_other_files_are_refused(self, tmp_path, content, words):
        (tmp_path / "t.xml").write_text(content)
        with pytest.raises(InputError, match=words):
            read_tracks(tmp_path / "t.xml", TAXONOMY)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match=r"none\.xml"):
            read_tracks(tmp_path / "none.xml", TAXONOMY)
