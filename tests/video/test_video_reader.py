"""Videos as they come: irregular, turned, cut off, silent, empty."""

import numpy as np
import pytest
from video_helpers import scene, write_video

from microg_da.errors import InputError
from microg_da.video.reader import Video, at_rate, find_video_files


def grey(values, size=(48, 64)):
    return [np.full((*size, 3), value, np.uint8) for value in values]


def levels(frames):
    return [round(float(frame.image.mean())) for frame in frames]


def test_every_frame_comes_with_its_time(tmp_path):
    values = list(range(20, 220, 10))
    video = Video(write_video(tmp_path / "v.mp4", grey(values), rate=25))
    frames = list(video.frames())
    assert video.size == (48, 64)
    assert video.rate == 25
    assert video.video_id == "v"
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(20) / 25, atol=1e-3)
    np.testing.assert_allclose(levels(frames), values, atol=5)
    assert video.faults == []
    assert levels(video.frames()) == levels(frames)  # it can be read again


def test_irregular_times_are_kept(tmp_path):
    seconds = [0.0, 0.1, 0.55, 0.6, 1.4]
    video = Video(write_video(tmp_path / "v.mp4", grey([30, 60, 90, 120, 150]), seconds=seconds))
    np.testing.assert_allclose([frame.seconds for frame in video.frames()], seconds, atol=1e-3)


def test_leaps_of_hours_are_closed_and_told(tmp_path):
    seconds = [0.0, 0.1, 0.3, 7200.0, 7200.1, 7200.4]
    path = write_video(tmp_path / "v.mp4", grey([30, 60, 90, 120, 150, 180]), seconds=seconds)
    video = Video(path)
    times = [frame.seconds for frame in video.frames()]
    np.testing.assert_allclose(np.diff(times)[[0, 1, 3, 4]], [0.1, 0.2, 0.1, 0.3], atol=1e-3)
    assert 0 < times[3] - times[2] <= 600
    assert video.faults[0].startswith("1 gaps of more than 10 minutes")


def test_frames_of_another_size_are_stretched_and_told(tmp_path):
    sizes = {"a": (48, 64), "b": (96, 96)}
    parts = [write_video(tmp_path / name, grey([90] * 5, size), format="h264") for name, size in sizes.items()]
    joined = tmp_path / "v.mp4"  # a bare stream, which is told by its content
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = Video(joined)
    assert {frame.image.shape for frame in video.frames()} == {(48, 64, 3)}
    assert len(video.faults) == 1
    assert video.faults[0].startswith("5 frames have another size")


@pytest.mark.parametrize("rate", [10, 30, 48])
def test_a_constant_rate_repeats_and_leaves_out(tmp_path, rate):
    seconds = [0.0, 0.1, 0.55, 0.57, 0.6, 1.4]
    video = Video(write_video(tmp_path / "v.mp4", grey([30, 60, 90, 120, 150, 180]), seconds=seconds))
    shown = [(number, round(frame.seconds, 3)) for number, frame in at_rate(video.frames(), rate)]
    assert [number for number, _ in shown] == list(range(round(1.4 * rate) + 1))
    for number, time in shown:
        # The frame that was on the screen at that moment, to within half a frame.
        on_screen = max(s for s in seconds if round(s * rate) <= number)
        assert time == on_screen or round(time * rate) == round(on_screen * rate) == number


def test_a_repeated_frame_is_one_object(tmp_path):
    video = Video(write_video(tmp_path / "v.mp4", grey(range(20, 70, 10)), rate=10))
    frames = [frame for _, frame in at_rate(video.frames(), 30)]
    assert len(frames) == 13
    assert len({id(frame) for frame in frames}) == 5


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))], ids=str)
def test_a_phone_that_lies_is_turned_upright(tmp_path, degrees, corner):
    image = scene(size=(48, 64))
    image[:16, :16] = 250  # upper left as filmed; after a turn clockwise it is elsewhere
    path = write_video(tmp_path / "v.mp4", [image] * 5)
    turn_in_header(path, degrees)
    video = Video(path)
    frame = next(iter(video.frames())).image
    assert frame.shape[:2] == video.size == ((64, 48) if degrees % 180 else (48, 64))
    quarters = frame[:: frame.shape[0] - 1, :: frame.shape[1] - 1, 0]
    assert np.argwhere(quarters > 200).tolist() == [[corner[0] % 2, corner[1] % 2]]


def turn_in_header(path, degrees):
    """Write a turn (clockwise) into the track header of an MP4, as cameras do."""
    cosine, sine = round(np.cos(np.deg2rad(degrees))), round(np.sin(np.deg2rad(degrees)))
    numbers = [cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags; times, number, duration; layer, volume, …
    data[at : at + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    path.write_bytes(data)


def test_what_is_there_of_a_cut_off_file_is_read(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(90)]
    path = write_video(tmp_path / "v.mp4", noise, options={"movflags": "faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    video = Video(path)
    count = sum(1 for _ in video.frames())
    assert 20 < count < 70
    assert any("ends after" in fault for fault in video.faults)


def test_damage_in_the_middle_is_passed_over(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(60)]
    path = write_video(tmp_path / "v.mp4", noise)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4000] = bytes(4000)
    path.write_bytes(data)
    frames = list(Video(path).frames())
    assert len(frames) > 30
    assert frames[-1].seconds == pytest.approx(59 / 30, abs=0.01)


def write_sound(path):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_sound(tmp_path / "sound.mp4")
    path = write_video(tmp_path / "none.mp4", grey([50] * 10))
    data = path.read_bytes()
    place = data.index(b"mdat")
    path.write_bytes(
        data[: place + 4] + bytes(len(data[place + 4 : data.index(b"moov") - 4])) + data[data.index(b"moov") - 4 :]
    )
    for name, words in {
        "text.mp4": r"text\.mp4.*readable",
        "empty.mp4": r"empty\.mp4.*readable",
        "sound.mp4": "sound",
        "none.mp4": "frame",
        "nowhere.mp4": "does not exist",
        ".": "folder",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            Video(tmp_path / name)
        assert str(tmp_path) in str(caught.value)


def test_videos_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("b.MP4", "a/a.mkv", "note.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_video_files(tmp_path)] == ["a.mkv", "b.MP4"]
    (tmp_path / "a" / "b.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=r"'b'.*b\.(mp4|MP4)"):
        find_video_files(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty\b.*\.mp4"):
        find_video_files(tmp_path / "empty")
