"""How fast clips are loaded, as a share of what plain JPEG decoding of the same frames allows.

    python benchmarks/loader.py

Makes a tree of 20 videos of 90 JPEG frames, 640×480, and reads 8×8 windows with training views to 224. The limit is
a loader with as many processes that decodes the same frames at full size with OpenCV and throws them away. Rounds of
both alternate, so that a busy machine slows both; the ratio is the median over rounds. The last column compares the
processor time of the worker processes instead of the clock's: what is left of the ratio when nothing else runs.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from microg_da.data.annotations import write_annotations
from microg_da.data.batches import collate_clips
from microg_da.data.dataset import ClipDataset
from microg_da.data.frames import window
from microg_da.data.sources import open_source

VIDEOS, FRAMES, HEIGHT, WIDTH = 20, 90, 480, 640
KEYFRAMES_PER_VIDEO = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()
    columns = ("workers", "clips/s", "decoding limit", "ratio", "ratio in processor time")
    table = Table(*columns, title="Loading 8×8 windows, training views to 224")
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder))
        clips = open_source(
            f"microg4m:{folder}",
            split="train",
            taxonomy="microg50",
            num_frames=8,
            sampling_rate=8,
            image_size=224,
            labelled=True,
            train=True,
        )
        for workers in args.workers:
            ours = loader(clips, workers, args.batch_size, collate_clips)
            limit = loader(DecodeOnly(clips), workers, args.batch_size, torch.tensor)
            rounds = np.array([(*cost(limit), *cost(ours)) for _ in range(args.rounds)])
            seconds, processor = rounds[:, [2, 0]], rounds[:, [3, 1]]
            speeds = [f"{speed:.1f}" for speed in len(clips) / np.median(seconds, axis=0)]
            ratios = [f"{np.median(limits / own):.2f}" for own, limits in (seconds.T, processor.T)]
            table.add_row(str(workers), *speeds, *ratios)
    Console().print(table)


def make_tree(root: Path) -> None:
    """A tree of the training layout: cloudy pictures that drift, with a camera's noise."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(VIDEOS):
        video = f"made-up{number // 5}_{number:03d}"
        (root / "frames" / video).mkdir(parents=True)
        cloud = cv2.resize(
            rng.integers(0, 256, (24, 32, 3), np.uint8), (2 * WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        for frame in range(FRAMES):
            noise = rng.integers(-8, 9, (HEIGHT, WIDTH, 3))
            picture = np.clip(cloud[:, 2 * frame : 2 * frame + WIDTH] + noise, 0, 255).astype(np.uint8)
            path = root / "frames" / video / f"{video}_{frame + 1:06d}.jpg"
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        stamps = rng.choice(np.arange(8, 90), KEYFRAMES_PER_VIDEO, replace=False)
        rows += [(video, stamp, 0.2, 0.1, 0.7, 0.9, action, 1) for stamp in stamps for action in (12, 17)]
    columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id"]
    write_annotations(pd.DataFrame(rows, columns=columns), root / "annotations" / "ava_train.csv", header=False)


class DecodeOnly(Dataset):
    """Decodes what a clip needs at full size, and gives back a number."""

    def __init__(self, clips: ClipDataset) -> None:
        root = clips.frames.root
        self.paths = [
            [str(root / key.video_id / f"{key.video_id}_{frame + 1:06d}.jpg") for frame in frames]
            for key in clips.keys
            for frames in [np.unique(window(key.frame_stamp - 1, clips.num_frames, clips.sampling_rate, FRAMES))]
        ]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> int:
        return sum(cv2.imread(path).shape[0] for path in self.paths[index])


def loader(dataset: Dataset, workers: int, batch_size: int, collate: Callable) -> DataLoader:
    return DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate, multiprocessing_context="fork")


def cost(batches: DataLoader) -> tuple[float, float]:
    """Seconds from the first batch asked for to the last, and processor seconds of the workers."""
    before = workers_seconds()
    start = time.perf_counter()
    for _ in batches:
        pass
    seconds = time.perf_counter() - start
    return seconds, workers_seconds() - before


def workers_seconds() -> float:
    """What child processes that have ended used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
