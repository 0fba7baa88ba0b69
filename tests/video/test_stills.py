"""Stills: photographs are read upright, nobody in them is dropped, and what was found is drawn into a picture."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from video_helpers import brightness_scorer, find_red, scene

from microg_da.data.annotations import read_detections
from microg_da.errors import InputError
from microg_da.video.box_sources import StillBoxes, TableBoxes, boxes_of_still, read_box_table
from microg_da.video.inputs import check_output, check_person_detector
from microg_da.video.person_boxes import PersonBoxes
from microg_da.video.predict import PredictOptions, predict_video
from microg_da.video.stills import Still, open_input

TWO = [(70, 20, 90, 80), (10, 30, 40, 90)]


def save(path, image, **options):
    Image.fromarray(np.ascontiguousarray(image[:, :, ::-1])).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["s.png", "s.jpg", "s.JPEG", "s.bmp", "s.webp", "s.tiff"])
def test_everybody_is_kept_and_numbered_from_left_to_right(tmp_path, name):
    video = open_input(save(tmp_path / name, scene(TWO, background=150)))
    facts = predict_video(video, StillBoxes(find_red), brightness_scorer(), PredictOptions(), tmp_path / "out")
    assert (facts["still"], facts["persons"], facts["keyframes"], facts["seconds"]) == (True, 2, 1, 0.0)
    people = pd.read_csv(tmp_path / "out" / "people.csv")
    assert people.person_id.tolist() == [1, 2]
    expected = np.array([TWO[1], TWO[0]]) / [128, 96, 128, 96]
    np.testing.assert_allclose(people[["x1", "y1", "x2", "y2"]], expected, atol=0.02)
    detections = read_detections(tmp_path / "out" / "detections.csv")
    assert set(detections.frame_stamp) == {0.0}
    drawn = np.asarray(Image.open(tmp_path / "out" / facts["rendered"]).convert("RGB")).astype(int)
    plain = np.asarray(Image.open(tmp_path / name).convert("RGB"))
    assert drawn.shape == plain.shape
    assert (np.abs(drawn - plain).max(axis=2) > 60).sum() > 100


def test_scores_are_those_of_the_image_repeated(tmp_path):
    video = Still(save(tmp_path / "s.png", scene(TWO, background=180)))
    predict_video(
        video, StillBoxes(find_red), brightness_scorer(), PredictOptions(threshold=0, top=1), tmp_path / "out"
    )
    detections = read_detections(tmp_path / "out" / "detections.csv")
    # The helper's rule: the mean of blue over the window, less 100, by class / 1000. Blue is 0 in the red blocks.
    area = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in TWO)
    level = 180 * (1 - area / (96 * 128)) - 100
    expected = 1 / (1 + np.exp(-level * np.arange(50) / 1000))
    np.testing.assert_allclose(np.sort(detections.score.to_numpy()), np.sort(np.tile(expected, 2)), atol=5e-3)


def test_cameras_say_how_a_picture_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    save(tmp_path / "s.jpg", scene(TWO), exif=exif, quality=95)
    still = Still(tmp_path / "s.jpg")
    assert still.size == (128, 96)
    upright = find_red(np.ascontiguousarray(np.rot90(scene(TWO), -1))).boxes
    (frame,) = still.frames()
    np.testing.assert_allclose(find_red(frame.image).boxes, upright, atol=2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_images_of_other_kinds_have_three_channels(tmp_path, mode):
    path = tmp_path / ("s.tiff" if mode == "CMYK" else "s.png")
    Image.fromarray(scene(TWO)[:, :, ::-1].copy()).convert(mode).save(path)
    (frame,) = Still(path).frames()
    assert frame.image.shape == (96, 128, 3)
    assert frame.image.dtype == np.uint8


def test_without_anybody_and_without_a_picture(tmp_path):
    video = Still(save(tmp_path / "s.png", scene()))
    options = PredictOptions(video_format="none")
    facts = predict_video(video, StillBoxes(find_red), brightness_scorer(), options, tmp_path / "out")
    assert (facts["persons"], facts["detections"], facts["rendered"]) == (0, 0, None)
    assert not (tmp_path / "out" / "s.jpg").exists()
    assert json.loads((tmp_path / "out" / "video.json").read_text()) == facts


def test_a_roll_that_was_searched_is_kept(tmp_path):
    def lying(image):
        found = find_red(image)
        return PersonBoxes(found.boxes, found.scores, np.full(len(found.boxes), 90.0))

    still = Still(save(tmp_path / "s.png", scene(TWO)))
    predict_video(still, StillBoxes(lying), brightness_scorer(), PredictOptions(), tmp_path / "out")
    assert pd.read_csv(tmp_path / "out" / "people.csv").roll.tolist() == [90.0, 90.0]


class TestBoxesOfATable:
    def table(self, path, text):
        path.write_text("video_id,timestamp,x1,y1,x2,y2\n" + text)
        return read_box_table(path, ["s"])

    def test_at_one_moment(self, tmp_path):
        still = Still(save(tmp_path / "s.png", scene()))
        table = self.table(tmp_path / "b.csv", "s,902,0.1,0.1,0.5,0.5\ns,902,0.6,0.1,0.9,0.5\n")
        people = TableBoxes(boxes_of_still(table, still.path), 0.5, still)
        facts = predict_video(still, people, brightness_scorer(), PredictOptions(), tmp_path / "out")
        assert (facts["persons"], facts["boxes"]) == (2, 2)

    def test_at_several(self, tmp_path):
        table = self.table(tmp_path / "b.csv", "s,1,0.1,0.1,0.5,0.5\ns,2,0.6,0.1,0.9,0.5\n")
        with pytest.raises(InputError, match=r"s\.png\b.*still"):
            boxes_of_still(table, tmp_path / "s.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"s\.png"),
        (b"<html>not found</html>", r"s\.png.*image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "image"),
        ("cut", r"s\.png.*read"),
    ],
)
def test_what_is_no_image(tmp_path, content, message):
    path = tmp_path / "s.png"
    if content == "cut":
        save(path, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
        content = path.read_bytes()[:6000]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Still(path)


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        ({}, "none.onnx", r"none\.onnx"),
        ({"a.onnx": b"PK\x03\x04"}, "a.onnx", r"a\.onnx.*ONNX"),
        ({"a.onnx": b""}, "a.onnx", r"a\.onnx.*ONNX"),
        ({"d/yolox.onnx": b"\x08\x08"}, "d", r"d/yolox\.onnx"),
        ({"d/note.txt": b"x"}, "d", "folder"),
    ],
)
def test_what_is_no_person_detector(tmp_path, files, given, message):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_person_detector(tmp_path / given)


def test_a_file_in_the_way_of_the_results(tmp_path):
    (tmp_path / "out").write_text("x")
    for path in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(InputError, match="--output"):
            check_output(path)
    check_output(tmp_path / "new" / "deeper")
    assert not (tmp_path / "new").exists()
