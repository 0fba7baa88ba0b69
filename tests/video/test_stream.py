"""Prediction while a source runs: a file played in real time, by itself and over HTTP, through the path of a camera."""

from __future__ import annotations

import functools
import json
import signal
import threading
import time
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from video_helpers import brightness_scorer, find_red, scene, write_video

pytest.importorskip("norfair")

from microg_da.cli import main
from microg_da.data.annotations import read_detections
from microg_da.errors import InputError
from microg_da.types import ClipKey
from microg_da.video.action_scorer import Window
from microg_da.video.box_sources import DetectorBoxes
from microg_da.video.live_source import Arrived, LatestFrames, LiveSource, is_live
from microg_da.video.predict import PredictOptions, analyse
from microg_da.video.reader import Frame, Video
from microg_da.video.stream import Latency, interrupt_stops, predict_stream

OPTIONS = PredictOptions(every=0.25, threshold=0.0, smooth=0.0, video_format="none")
SECONDS = 1.5


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Somebody who walks while the room turns brighter."""
    frames = (scene([(10 + n, 20, 50 + n, 90)], background=40 + 2 * n) for n in range(round(30 * SECONDS)))
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4", frames)


def play(source, folder, **options):
    answers = []
    facts = predict_stream(
        LiveSource(str(source)), find_red, brightness_scorer(), OPTIONS, folder, show=answers.append, **options
    )
    return facts, answers


def test_a_file_in_real_time_is_predicted_as_a_file_is(video, tmp_path):
    begun = time.monotonic()
    facts, answers = play(video, tmp_path)
    assert time.monotonic() - begun >= SECONDS - 0.1  # it is not read faster than it plays
    assert facts.frames == 30 * SECONDS
    assert facts.persons == 1
    assert facts.keyframes == len(answers) > 0
    assert json.loads((tmp_path / "stream.json").read_text())["keyframes"] == facts.keyframes
    # At a keyframe that both have, boxes are the same; probabilities are too if no frame was dropped.
    found = analyse(Video(video), DetectorBoxes(find_red, OPTIONS.every), brightness_scorer(), OPTIONS)
    people = found.people[found.people.keyframe]
    moments = people.seconds.to_numpy()
    both = [(answer, np.abs(moments - answer.seconds).argmin()) for answer in answers if len(answer.boxes)]
    both = [(answer, row) for answer, row in both if abs(moments[row] - answer.seconds) < 0.01]
    for answer, row in both:
        assert answer.boxes[0] == pytest.approx(people[["x1", "y1", "x2", "y2"]].to_numpy()[row], abs=0.02)
        if not facts.dropped:
            assert answer.probabilities[0] == pytest.approx(found.scores[row], abs=0.02)
    assert both
    written = read_detections(tmp_path / "detections.csv")
    assert len(written) == facts.detections == 50 * sum(len(answer.boxes) for answer in answers)
    assert set(written.video_id) == {"walk"}


def test_latency_counts_from_arrival_and_the_keyframe_comes_before_the_rest_of_its_window(video, tmp_path):
    facts, answers = play(video, tmp_path)
    for answer in answers:
        assert 0 <= answer.since_window <= answer.since_keyframe
    # Half of a window of 4 frames, 3 apart, follows the keyframe; only the last one is cut short by the end.
    for answer in answers[:-1]:
        assert answer.since_keyframe - answer.since_window >= 3 / 30 - 0.07
    assert facts.since_window.median <= facts.since_window.percentile_95 <= facts.since_window.longest
    assert facts.since_window.median == np.median([answer.since_window for answer in answers])


def test_an_answer_does_not_wait_for_the_next_window():
    events = []

    def windows():
        for number in range(3):
            events.append(f"asked {number}")
            yield Window(np.zeros((4, 32, 32, 3), np.uint8), np.array([[0.1, 0.1, 0.9, 0.9]]), ClipKey("v", number + 1))

    sink = SimpleNamespace(update=lambda batch, prediction: events.append(f"answered {batch.keys[0].frame_stamp - 1}"))
    replace(brightness_scorer(), batch_size=1).predict(windows(), sink)
    assert events == [f"{what} {number}" for number in range(3) for what in ("asked", "answered")]


def arrived(number):
    return Arrived(Frame(None, (2, 2), number / 30, image=np.zeros((2, 2, 3), np.uint8)), float(number))


def test_a_full_queue_loses_its_oldest_frames_and_counts_them():
    queue = LatestFrames(4)
    for number in range(10):
        queue.put(arrived(number))
    queue.close()
    assert [[each.moment for each in frames] for frames in queue] == [[6, 7, 8, 9]]
    assert (queue.received, queue.dropped) == (10, 6)


def test_an_empty_queue_ends_when_it_is_closed():
    queue = LatestFrames()
    threading.Timer(0.05, queue.close).start()
    assert list(queue) == []


def test_a_slow_detector_loses_frames_and_not_the_moment(video, tmp_path):
    """Frames are dropped, and what is left is still placed at its time."""

    def slow(image):
        time.sleep(0.3)
        return find_red(image)

    answers = []
    source = LiveSource(str(video))
    facts = predict_stream(
        source, slow, brightness_scorer(), OPTIONS, tmp_path, show=answers.append, queue=LatestFrames(2)
    )
    assert facts.dropped > 0
    assert facts.frames == 30 * SECONDS
    for answer in answers:
        for box in answer.boxes:
            assert 128 * box[0] == pytest.approx(10 + 30 * answer.seconds, abs=2)


def test_a_stream_over_http_is_a_recording_in_real_time(video, tmp_path):
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(video.parent))
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        facts, _ = play(f"http://user:secret@127.0.0.1:{server.server_port}/walk.mp4", tmp_path)
        server.shutdown()
    assert facts.frames == 30 * SECONDS
    assert "secret" not in (tmp_path / "stream.json").read_text()
    assert facts.source.endswith("/walk.mp4")


def test_interrupting_once_ends_the_stream_with_its_results(video, tmp_path):
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    with interrupt_stops(stop):
        shown = []

        def show(answer):
            shown.append(answer)
            signal.raise_signal(signal.SIGINT)

        facts = predict_stream(
            LiveSource(str(video)),
            find_red,
            brightness_scorer(),
            OPTIONS,
            tmp_path,
            stop=stop,
            show=lambda a: shown or show(a),
        )
    assert signal.getsignal(signal.SIGINT) == before
    assert 0 < facts.frames < 30 * SECONDS
    assert facts.keyframes >= 1
    assert (tmp_path / "stream.json").exists()


def test_interrupting_twice_interrupts():
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a job in the background
    try:
        with interrupt_stops(stop):
            signal.raise_signal(signal.SIGINT)
            assert stop.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stream_that_breaks_off_keeps_its_results(tmp_path):
    frames = (scene([(10, 20, 50, 90)]) for _ in range(30))
    whole = write_video(tmp_path / "whole.ts", frames, format="mpegts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[: len(whole) // 2])
    facts, _ = play(tmp_path / "cut.ts", tmp_path / "out")
    assert 0 < facts.frames < 30


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("0", True),
        ("12", True),
        ("rtsp://cam/1", True),
        ("HTTP://x/y", True),
        ("walk.mp4", False),
        ("./0", False),
        ("a:b", False),
    ],
)
def test_what_is_live(text, live):
    assert is_live(text) == live


def test_passwords_are_in_no_message():
    with pytest.raises(InputError) as caught:
        LiveSource("http://user:secret@127.0.0.1:9/none?token=hidden")
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    with pytest.raises(InputError, match=r"--video 97: "):
        LiveSource("97")


def test_latency_of_nothing():
    assert np.isnan(Latency.of([]).median)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--video", "0", "1"], "one camera or stream"),
        (["--video", "0", "--boxes", "b.csv"], "--boxes does not apply to a stream"),
        (["--video", "0", "--video-format", "gif"], "no video is written"),
    ],
)
def test_what_a_stream_cannot_have(words, message, tmp_path, capsys):
    (tmp_path / "tiny.onnx").write_bytes(b"\x08\x08")
    boxes = [] if "--boxes" in words else ["--person-detector", str(tmp_path / "tiny.onnx")]
    assert main(["predict", "--run", str(tmp_path), *words, *boxes, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_prints_answers_and_latency(video, tmp_path, capsys):
    from microg_da.cli import predict_live

    args = SimpleNamespace(
        video=[str(video)],
        threshold=0.0,
        person_detector="",
        person_threshold=0.4,
        roll_search=None,
        output=str(tmp_path),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("microg_da.video.person_detector.create_person_detector", lambda *_: find_red)
        assert predict_live.run(args, 0.5, 0.0, brightness_scorer) == 0
    printed = capsys.readouterr()
    assert "person 1" in printed.out
    assert "latency: median" in printed.err
    assert "Ctrl-C" in printed.err
