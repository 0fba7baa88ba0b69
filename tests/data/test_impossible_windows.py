"""Windows that are longer than the clips: refused or clamped as configured, and said."""

import pytest

from microg_da.config import load_config
from microg_da.data.datamodule import DomainDatasets
from microg_da.data.dataset import ClipDataset, Timing
from microg_da.errors import InputError
from microg_da.transforms.view import WholeViews

SMALL = ["synthetic.test_clips=1", "synthetic.workers=0", "data.image_size=32"]


def datasets(*words):
    return DomainDatasets(load_config("ava2microg", [*SMALL, *words]))


@pytest.mark.parametrize(("frames", "rate", "fits"), [(8, 8, True), (8, 16, False), (90, 1, True), (46, 2, False)])
def test_the_embedded_clips_have_90_frames(frames, rate, fits):
    words = [f"model.num_frames={frames}", f"model.sampling_rate={rate}", "model.impossible_window=refuse"]
    opened = datasets(*words)
    if fits:
        assert len(opened.get("target", "test", labelled=False)) == 1
        assert opened.facts()["warnings"] == ()
        assert opened.facts()["fps"] == {"target/test": 30}
    else:
        with pytest.raises(InputError, match=r"synthetic:microgravity.*\b90\b.*model\.impossible_window=clamp"):
            opened.get("target", "test", labelled=False)


def test_a_clamped_window_is_in_the_runs_warnings():
    opened = datasets("model.num_frames=8", "model.sampling_rate=16")
    opened.get("target", "test", labelled=False)
    (warning,) = opened.facts()["warnings"]
    assert "spans 113 frames" in warning
    assert "repeated" in warning


class Videos:
    """Two videos of 30 and 12 frames, and one that cannot be read."""

    def __init__(self):
        self.lengths = {"a": 30, "b": 12}

    def num_frames(self, video_id):
        if video_id not in self.lengths:
            raise InputError(f"{video_id} is damaged")
        return self.lengths[video_id]

    def fps(self, video_id):
        self.num_frames(video_id)
        return 25.0


def test_files_tell_the_length_of_their_shortest_clip():
    import pandas as pd

    rows = [(video, 1, 0.1, 0.1, 0.5, 0.5) for video in ("broken", "a", "b")]
    people = pd.DataFrame(rows, columns=["video_id", "frame_stamp", "x1", "y1", "x2", "y2"])
    shared = {"frames": Videos(), "num_frames": 8, "sampling_rate": 2, "views": WholeViews(32)}
    dataset = ClipDataset(people, None, timing=Timing(), **shared)
    assert dataset.shortest_clip() == 12
    assert dataset.fps == 25.0
    assert ClipDataset(people, None, timing=Timing(fps=30), **shared).fps == 30
    assert ClipDataset(people[:1], None, timing=Timing(), **shared).shortest_clip() is None
