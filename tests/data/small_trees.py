"""Small data sets on disk: frames that carry their own number, so that a test can read which one it got."""

from pathlib import Path

import cv2
import numpy as np
import pytest

ROWS = """\
filmA_001,4,0.1,0.2,0.5,0.9,12,1
filmA_001,4,0.1,0.2,0.5,0.9,17,1
filmA_001,4,0.6,0.2,0.9,0.9,80,2
filmA_002,5,0.0,0.0,1.0,1.0,12,1
recB_001,6,0.3,0.3,0.6,0.6,14,1
recB_001,8,0.3,0.3,0.6,0.6,79,2
"""
NUM_FRAMES, HEIGHT, WIDTH = 12, 48, 64


def numbered_frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A plain picture whose brightness is ``10 * number``, channels blue, green, red a little apart."""
    return np.full((height, width, 3), 10 * number, np.uint8) + np.array([0, 2, 4], np.uint8)


def write_frames(root: Path, videos, count: int = NUM_FRAMES, height: int = HEIGHT, width: int = WIDTH) -> None:
    for video in videos:
        folder = root / "frames" / video
        folder.mkdir(parents=True)
        for number in range(count):
            path = folder / f"{video}_{number + 1:06d}.jpg"
            cv2.imwrite(str(path), numbered_frame(number, height, width), [cv2.IMWRITE_JPEG_QUALITY, 100])


def write_video(path: Path, count: int = 30, rate: int = 10, keyframe_every: int = 8, size=(WIDTH, HEIGHT)) -> Path:
    """An H.264 file with B frames whose ``i``-th frame has brightness ``16 + 7 i``."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10", "bf": "2", "g": str(keyframe_every)})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(count):
            picture = np.full((size[1], size[0], 3), 16 + 7 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
