"""Decoding: the frames asked for, from JPEG folders and video files, and what is said of damaged ones."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_trees import HEIGHT, NUM_FRAMES, WIDTH, numbered_frame, write_frames, write_video

from microg_da.data.frames import JpegFolders, VideoFiles, find_videos, index_video, window
from microg_da.errors import InputError


def numbers(images) -> list[int]:
    return [round((float(image[..., 0].mean())) / 10) for image in images]


def brightness(images) -> list[int]:
    return [round((float(image.mean()) - 16) / 7) for image in images]


class TestWindow:
    @pytest.mark.parametrize(("frames", "rate"), [(8, 8), (16, 4), (4, 16), (32, 2)])
    def test_is_the_published_range(self, frames: int, rate: int):
        half = frames * rate // 2
        expected = [min(max(i, 0), 89) for i in range(51 - half, 51 + half, rate)]
        assert window(51, frames, rate, 90).tolist() == expected

    @given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 20), st.integers(1, 100))
    def test_has_its_length_and_holds_the_keyframe(self, keyframe: int, frames: int, rate: int, length: int):
        keyframe %= length
        found = window(keyframe, frames, rate, length)
        assert len(found) == frames
        assert (np.diff(found) >= 0).all()
        assert found.min() >= 0
        assert found.max() < length
        if frames % 2 == 0:
            assert found[frames // 2] == keyframe


class TestJpegFolders:
    def test_reads_the_frames_asked_for(self, tmp_path):
        write_frames(tmp_path, ["a_1"])
        store = JpegFolders(tmp_path / "frames")
        assert store.num_frames("a_1") == NUM_FRAMES
        assert store.frame_size("a_1") == (HEIGHT, WIDTH)
        assert store.fps("a_1") is None
        assert numbers(store.read("a_1", np.array([0, 3, 11]))) == [0, 3, 11]

    def test_shrinks_while_decoding_but_not_below_what_is_needed(self, tmp_path):
        write_frames(tmp_path, ["a_1"], height=480, width=640)
        store = JpegFolders(tmp_path / "frames")
        sizes = {side: next(store.read("a_1", np.array([2]), side)).shape[:2] for side in (241, 240, 121, 120, 1)}
        assert sizes == {241: (480, 640), 240: (240, 320), 121: (240, 320), 120: (120, 160), 1: (60, 80)}
        assert numbers(store.read("a_1", np.array([2, 5]), 100)) == [2, 5]

    def test_channels_are_blue_green_red(self, tmp_path):
        (tmp_path / "a").mkdir()
        cv2.imwrite(str(tmp_path / "a" / "a_1.jpg"), np.full((16, 16, 3), (200, 100, 20), np.uint8))
        assert next(JpegFolders(tmp_path).read("a", np.array([0])))[8, 8].tolist() == pytest.approx(
            [200, 100, 20], abs=3
        )

    def test_frames_counted_from_nought(self, tmp_path):
        (tmp_path / "a").mkdir()
        for number in range(3):
            cv2.imwrite(str(tmp_path / "a" / f"img_{number:05d}.jpg"), numbered_frame(number))
        assert numbers(JpegFolders(tmp_path).read("a", np.array([0, 2]))) == [0, 2]

    def test_a_missing_folder(self, tmp_path):
        write_frames(tmp_path, ["a_1"])
        store = JpegFolders(tmp_path / "frames")
        assert list(store.missing(["a_1", "b_1"])) == ["b_1"]
        with pytest.raises(InputError, match=r"frames/b_1\b"):
            store.num_frames("b_1")
        with pytest.raises(InputError, match=r"nowhere\b.*decode=video"):
            JpegFolders(tmp_path / "nowhere").missing(["a_1"])

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(InputError, match=r"a_000001\.jpg"):
            JpegFolders(tmp_path).num_frames("a")

    def test_a_frame_missing_in_the_middle(self, tmp_path):
        write_frames(tmp_path, ["a_1"])
        (tmp_path / "frames/a_1/a_1_000005.jpg").unlink()
        with pytest.raises(InputError, match=r"a_1_000005\.jpg.*missing"):
            JpegFolders(tmp_path / "frames").num_frames("a_1")

    @pytest.mark.parametrize("keep", [0.3, 0.9])
    def test_a_truncated_file(self, tmp_path, keep: float):
        write_frames(tmp_path, ["a_1"], height=240, width=320)
        path = tmp_path / "frames/a_1/a_1_000004.jpg"
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        with pytest.raises(InputError, match=r"a_1_000004\.jpg.*truncated"):
            list(JpegFolders(tmp_path / "frames").read("a_1", np.arange(6)))

    def test_padding_after_the_end_is_no_truncation(self, tmp_path):
        write_frames(tmp_path, ["a_1"])
        path = tmp_path / "frames/a_1/a_1_000004.jpg"
        path.write_bytes(path.read_bytes() + bytes(100))
        assert numbers(JpegFolders(tmp_path / "frames").read("a_1", np.array([3]))) == [3]

    def test_a_file_that_is_no_jpeg(self, tmp_path):
        write_frames(tmp_path, ["a_1"])
        (tmp_path / "frames/a_1/a_1_000004.jpg").write_bytes(b"not a picture \xff\xd9")
        with pytest.raises(InputError, match=r"a_1_000004\.jpg.*JPEG"):
            list(JpegFolders(tmp_path / "frames").read("a_1", np.arange(6)))

    def test_frames_of_two_sizes(self, tmp_path):
        write_frames(tmp_path, ["a_1"])
        cv2.imwrite(str(tmp_path / "frames/a_1/a_1_000004.jpg"), np.zeros((10, 20, 3), np.uint8))
        with pytest.raises(InputError, match=r"a_1_000004\.jpg.*size"):
            list(JpegFolders(tmp_path / "frames").read("a_1", np.arange(6)))


class TestVideoFiles:
    @pytest.fixture
    def store(self, tmp_path) -> VideoFiles:
        write_video(tmp_path / "real" / "b" / "b_1.mp4")
        return VideoFiles(find_videos(tmp_path))

    def test_says_what_the_file_says(self, store):
        assert store.num_frames("b_1") == 30
        assert store.fps("b_1") == pytest.approx(10)
        assert store.frame_size("b_1") == (HEIGHT, WIDTH)

    @pytest.mark.parametrize("wanted", [[0], [29], [7, 8, 9], [0, 13, 29], list(range(30)), [15, 16, 23, 24]])
    def test_seeks_to_the_frames_asked_for(self, store, wanted):
        assert brightness(store.read("b_1", np.array(wanted))) == wanted

    def test_starts_at_the_entry_before(self, tmp_path):
        index = index_video(str(write_video(tmp_path / "b_1.mp4")))
        assert len(index.entries) == 4
        assert np.isin(index.entries, index.order).all()

    @pytest.mark.parametrize("frames_between", [0, 3])
    def test_pixels_are_those_of_decoding_every_frame(self, tmp_path, frames_between):
        av = pytest.importorskip("av")
        path = tmp_path / "moving.mp4"
        picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 128, 3), np.uint8), (0, 0), 3)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"bf": str(frames_between), "g": "12"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(30):
                moved = np.ascontiguousarray(picture[:, 2 * number : 2 * number + 64])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="bgr24")))
            container.mux(stream.encode())
        with av.open(str(path)) as container:
            every = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        for wanted in (np.arange(0, 30, 4), np.array([1, 2, 29]), np.arange(30)):
            found = list(VideoFiles({"moving": path}).read("moving", wanted))
            np.testing.assert_array_equal(found, [every[number] for number in wanted])

    def test_shrinks_only_as_far_as_allowed(self, store):
        assert next(store.read("b_1", np.array([3]), 24)).shape == (24, 32, 3)
        assert next(store.read("b_1", np.array([3]), 25)).shape == (48, 64, 3)

    def test_a_video_without_an_entry(self, tmp_path):
        av = pytest.importorskip("av")
        path = tmp_path / "cut.mkv"
        with av.open(str(write_video(tmp_path / "v.mp4", 6))) as whole, av.open(str(path), "w") as cut:
            stream = cut.add_stream_from_template(whole.streams.video[0])
            for packet in whole.demux(video=0):
                if packet.dts is not None and not packet.is_keyframe:
                    packet.stream = stream
                    cut.mux(packet)
        # Older FFmpeg gives such frames no time.
        with pytest.raises(InputError, match=r"cut\.mkv: .*\bno (video )?frame"):
            index_video(str(path))

    def test_a_zero_byte_video(self, store, tmp_path):
        (tmp_path / "c_1.mp4").touch()
        store = VideoFiles(find_videos(tmp_path))
        assert "empty (0 bytes)" in store.missing(["b_1", "c_1"])["c_1"]
        with pytest.raises(InputError, match=r"c_1\.mp4"):
            store.num_frames("c_1")

    def test_a_truncated_video(self, tmp_path):
        path = write_video(tmp_path / "b_1.mp4")
        path.write_bytes(path.read_bytes()[:-600])
        with pytest.raises(InputError, match=r"b_1\.mp4"):
            list(VideoFiles({"b_1": path}).read("b_1", np.arange(30)))

    def test_a_missing_video(self, store):
        assert "no video file of that name" in store.missing(["z_9"])["z_9"]
        with pytest.raises(InputError, match=r"z_9\b.*\.mp4"):
            store.num_frames("z_9")

    def test_the_same_name_twice(self, tmp_path):
        for folder in ("movie", "real"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a_1.mp4").touch()
        with pytest.raises(InputError, match=r"real/a_1\.mp4.*movie/a_1\.mp4|movie/a_1\.mp4.*real/a_1\.mp4"):
            find_videos(tmp_path)

    def test_no_videos(self, tmp_path):
        with pytest.raises(InputError, match=r"\.mp4, \.mkv"):
            find_videos(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("name", ["pool_cleaning.mp4", "one-by-one-person-detection.mp4"])
def test_seeking_in_real_videos_gives_what_decoding_from_the_start_gives(test_data, name):
    av = pytest.importorskip("av")
    path = test_data / "videos" / name
    wanted = np.array([0, 17, 60, 61, 95])
    store = VideoFiles({"clip": path})
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        all_frames = [
            frame.to_ndarray(format="bgr24") for _, frame in zip(range(96), container.decode(video=0), strict=False)
        ]
    assert Fraction(store.fps("clip")).limit_denominator(1001) == rate
    for number, image in zip(wanted, store.read("clip", wanted), strict=True):
        np.testing.assert_array_equal(image, all_frames[number])
