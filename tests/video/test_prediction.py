"""From a video to detections: windows, batches, smoothing, memory."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from video_helpers import brightness_scorer, find_red, scene, write_video

from microg_da.adaptation.base import NoArguments, Task, TestTimeMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.data.annotations import read_detections
from microg_da.data.dataset import ClipDataset, Timing
from microg_da.data.frames import VideoFiles
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.transforms.view import WholeViews
from microg_da.video.action_scorer import ActionScorer
from microg_da.video.box_sources import DetectorBoxes, TableBoxes, read_box_table
from microg_da.video.predict import PredictOptions, analyse, predict_video
from microg_da.video.reader import Video


@pytest.fixture
def scorer() -> ActionScorer:
    return brightness_scorer()


def walk(count, start=10, step=1.0):
    """One red person who walks to the right; the background grows brighter."""
    return [scene([(start + step * i, 20, start + step * i + 20, 80)], background=40 + i) for i in range(count)]


def boxes_csv(path, rows):
    pd.DataFrame(rows, columns=["video_id", "timestamp", "x1", "y1", "x2", "y2", "person_id"]).to_csv(path, index=False)
    return path


def test_scores_are_those_of_the_training_data_set(tmp_path):
    """The same network, the same keyframes: windows and boxes as the test split of a data set has them."""
    rng = np.random.default_rng(0)
    frames = np.cumsum(rng.integers(-8, 9, (75, 48, 64, 3)), axis=0).clip(-90, 90) + 128
    path = write_video(tmp_path / "v.mp4", frames.astype(np.uint8))
    detector = create_detector("r2plus1d_tiny").eval()
    base = brightness_scorer()
    scorer = ActionScorer(Predictor(detector), base.taxonomy, 8, 4, 40, "tiny", batch_size=2)
    rows = [("v", s, 0.1, 0.2, 0.6, 0.9, 1) for s in (0.0, 0.5, 1.0, 1.5, 2.0, 2.4)]
    rows.insert(2, ("v", 0.5, 0.5, 0.1, 0.9, 0.7, 2))
    table = read_box_table(boxes_csv(tmp_path / "b.csv", rows), ["v"])
    video = Video(path)
    found = analyse(video, TableBoxes(table, 0.4, video), scorer, PredictOptions(smooth=0))
    clips = ClipDataset(
        table[["video_id", "frame_stamp", "x1", "y1", "x2", "y2"]],
        None,
        frames=VideoFiles({"v": path}),
        timing=Timing("seconds"),
        num_frames=8,
        sampling_rate=4,
        views=WholeViews(40),
    )
    expected = []
    for clip in (clips[i] for i in range(len(clips))):
        index = clip.boxes.new_zeros(len(clip.boxes)).long()
        expected.append(detector(clip.frames[None], clip.boxes, index).logits.sigmoid().detach().numpy())
    np.testing.assert_allclose(found.scores, np.concatenate(expected), atol=1e-5)
    assert found.keyframes == 6


def test_a_slow_video_is_seen_at_the_same_speed(tmp_path, scorer):
    """A window covers the same time whatever the frame rate."""
    levels = np.linspace(60, 200, 91)
    fast = write_video(tmp_path / "fast.mp4", [np.full((48, 64, 3), v, np.uint8) for v in levels], rate=30)
    slow = write_video(tmp_path / "slow.mp4", [np.full((48, 64, 3), v, np.uint8) for v in levels[::3]], rate=10)
    scores = []
    for path in (fast, slow):
        video = Video(path)
        rows = [(path.stem, s, 0.1, 0.1, 0.9, 0.9, 1) for s in (0.5, 1.0, 2.0)]
        table = read_box_table(boxes_csv(tmp_path / "b.csv", rows), [path.stem])
        found = analyse(video, TableBoxes(table, 0.5, video), scorer, PredictOptions(smooth=0))
        scores.append(np.log(found.scores / (1 - found.scores))[:, -1] * 1000 / 49)
    np.testing.assert_allclose(scores[0], scores[1], atol=4)
    # The window of keyframe c is frames c-6, c-3, c, c+3.
    expected = [levels[[c - 6, c - 3, c, c + 3]].mean() - 100 for c in (15, 30, 60)]
    np.testing.assert_allclose(scores[0], expected, atol=5)


def test_people_are_tracked_and_everything_is_written(tmp_path, scorer):
    pytest.importorskip("norfair")
    video = Video(write_video(tmp_path / "walk.mp4", walk(70)))
    told = []
    facts = predict_video(
        video,
        DetectorBoxes(find_red, 0.5),
        scorer,
        PredictOptions(threshold=0.3),
        tmp_path / "out",
        advance=told.append,
    )
    assert facts["persons"] == 1
    assert facts["keyframes"] == facts["boxes"] == 5
    detections = read_detections(tmp_path / "out" / "detections.csv")
    assert sorted(set(detections.frame_stamp)) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert detections.score.between(0.3, 1).all()
    at_one = detections[detections.frame_stamp == 1.0].iloc[0]
    np.testing.assert_allclose(
        at_one[["x1", "y1", "x2", "y2"]].astype(float), [40 / 128, 20 / 96, 60 / 128, 80 / 96], atol=0.02
    )
    assert told == sorted(told)
    assert told[-1] == pytest.approx(2 * video.seconds, abs=0.1)
    rendered = Video(tmp_path / "out" / "walk.mp4")
    drawn = [frame.image for frame in rendered.frames()]
    assert len(drawn) == 70
    plain = [frame.image for frame in video.frames()]
    changed = [np.abs(a.astype(int) - b).max(axis=2) > 60 for a, b in zip(drawn, plain, strict=True)]
    assert all(mask.sum() > 100 for mask in changed)
    assert json.loads((tmp_path / "out" / "video.json").read_text()) == facts


def test_labels_belong_to_people_not_to_frames(tmp_path, scorer):
    """One keyframe that flickers does not change what a person does."""
    pytest.importorskip("norfair")
    frames = [scene([(40, 20, 60, 80)], background=150 if i < 37 or i > 50 else 20) for i in range(90)]
    video = Video(write_video(tmp_path / "v.mp4", frames))
    runs = {}
    for smooth in (0.0, 1.5):
        people = DetectorBoxes(find_red, 0.5)
        runs[smooth] = analyse(video, people, scorer, PredictOptions(smooth=smooth)).scores[:, -1]
    assert runs[0.0].max() - runs[0.0].min() > 0.5
    assert runs[1.5].min() > 0.5


@pytest.mark.parametrize("video_format", ["mp4", "gif", "none"])
def test_a_video_without_people(tmp_path, scorer, video_format):
    pytest.importorskip("norfair")
    video = Video(write_video(tmp_path / "v.mp4", [scene() for _ in range(20)]))
    options = PredictOptions(video_format=video_format)
    facts = predict_video(video, DetectorBoxes(find_red, 0.5), scorer, options, tmp_path / "out")
    assert (facts["persons"], facts["detections"], facts["keyframes"]) == (0, 0, 2)
    assert read_detections(tmp_path / "out" / "detections.csv").empty
    made = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert made == sorted([".csv", ".csv", ".json", ".json", *([] if video_format == "none" else [f".{video_format}"])])


def test_a_method_that_adapts_while_tested_is_told_of_each_video(tmp_path, scorer):
    calls = []

    class Told(TestTimeMethod):
        def start_test(self, detector):
            calls.append("start")

        def end_test(self, detector):
            calls.append("end")

    task = Task(feature_dim=1, num_classes=50, class_groups=(0,) * 50)
    predictor = Predictor(scorer.predictor.detector, Told(NoArguments(), task))
    scorer = replace(scorer, predictor=predictor)
    video = Video(write_video(tmp_path / "v.mp4", walk(20)))
    rows = [("v", 0.3, 0.1, 0.1, 0.9, 0.9, 1)]
    table = read_box_table(boxes_csv(tmp_path / "b.csv", rows), ["v"])
    predict_video(video, TableBoxes(table, 0.5, video), scorer, PredictOptions(video_format="none"), tmp_path / "o")
    assert calls == ["start", "end"]


class TestTablesOfBoxes:
    def test_unknown_videos_are_named(self, tmp_path):
        path = boxes_csv(tmp_path / "b.csv", [("walk_1", 1.0, 0.1, 0.1, 0.5, 0.5, 1)])
        with pytest.raises(InputError, match=r"'walk1'.*'walk_1'"):
            read_box_table(path, ["walk1"])
        assert len(read_box_table(path, ["walk_1", "other"])) == 1

    def test_stamps_after_the_end_are_named(self, tmp_path):
        video = Video(write_video(tmp_path / "v.mp4", walk(20)))
        table = read_box_table(boxes_csv(tmp_path / "b.csv", [("v", 902, 0.1, 0.1, 0.5, 0.5, 1)]), ["v"])
        with pytest.raises(InputError, match=r"\b0\.7 s\b.*\b902\b"):
            TableBoxes(table, 0.5, video)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("v,1,0.1,0.1,1.5,0.5\n", r"line 1\b.*\[0, 1\]"),
            ("v,1,0.5,0.1,0.5,0.5\n", "line 1.*x1 < x2"),
            ("v,one,0.1,0.1,0.5,0.5\nv,2,0.1,0.1,0.5,0.5\n", r"line 1\b.*\bone\b"),
            ("v,1,0.1,0.1\n", r"\b4 columns"),
        ],
    )
    def test_wrong_values_name_the_line(self, tmp_path, text, words):
        path = tmp_path / "b.csv"
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_box_table(path, ["v"])

    def test_ava_annotations_are_boxes_too(self, tmp_path):
        path = tmp_path / "b.csv"
        path.write_text("v,1,0.1,0.1,0.5,0.5,12,0\nv,1,0.1,0.1,0.5,0.5,17,0\nv,1,0.2,0.1,0.5,0.5,12,1\n")
        assert len(read_box_table(path, ["v"])) == 2


LONG = """
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from video_helpers import brightness_scorer, find_red, scene, write_video
from microg_da.video.box_sources import DetectorBoxes
from microg_da.video.predict import PredictOptions, predict_video
from microg_da.video.reader import Video
seconds, folder = int(sys.argv[1]), Path(sys.argv[3])
path = folder / f"{seconds}.mp4"
frames = (scene([(20 + i % 40, 20, 40 + i % 40, 80)]) for i in range(10 * seconds))
write_video(path, frames, rate=10)
facts = predict_video(Video(path), DetectorBoxes(find_red, 0.5), brightness_scorer(), PredictOptions(), folder / str(seconds))
assert facts["keyframes"] == 2 * seconds, facts
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_length(tmp_path):
    """Peak resident size for one minute and for five; each in a process of its own."""
    pytest.importorskip("norfair")
    peaks = {}
    for seconds in (60, 300):
        done = subprocess.run(
            [sys.executable, "-c", LONG, str(seconds), str(__file__).rsplit("/", 1)[0], str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=1000,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        peaks[seconds] = float(done.stdout)
    # A minute at this size holds 66 MB of pixels; four more would hold 265.
    assert peaks[300] - peaks[60] < 40, peaks
