"""Speed of loading clips, compared with the steps of PySlowFast's loader and with JPEG decoding.

    python benchmarks/loader.py [--short-side 480] [--workers 1 2] [--rounds 5]

The program creates a tree of 20 videos of 90 JPEG frames and reads 8×8 windows with training views to 224. All loaders
have the same number of processes and read the same clips:

- `this package`: with OpenCV and, if the extra `jpeg` is installed, with simplejpeg. As in a run, its processes keep
  freed memory;
- `PySlowFast`: the steps of its training loader with `AVA.IMG_PROC_BACKEND=cv2`, the default, in the same order and
  with the same types: decode and resize whole frames, convert to float32, crop, flip, normalise and stack;
- `decoding`: OpenCV decodes the distinct frames at full size and discards them;
- `entropy decoding`: OpenCV decodes the frames at an eighth of their size. This time consists almost entirely of
  reading the compressed bits, which does not depend on crop and scale.

The rounds of all loaders alternate, so other programs affect all loaders equally. The table shows medians over rounds:
clips per second of wall-clock time, and milliseconds of processor time of the worker processes per clip, which depend
less on other programs. The last column is the processor time of PySlowFast divided by that of the row.
"""

from __future__ import annotations

import argparse
import resource
import statistics
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
from torch.utils.data import DataLoader, Dataset, default_collate

from microg_da.allocator import keep_freed_memory
from microg_da.data import jpeg
from microg_da.data.annotations import write_annotations
from microg_da.data.batches import collate_clips
from microg_da.data.dataset import ClipDataset
from microg_da.data.frames import window
from microg_da.data.sources import open_source

VIDEOS, FRAMES = 20, 90
KEYFRAMES_PER_VIDEO = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--short-side", type=int, default=480, help="height of the frames, which have the aspect ratio 4:3"
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()
    title = f"8×8 windows of frames with a short side of {args.short_side}, training views to 224"
    table = Table("workers", "loader", "clips/s", "CPU ms per clip", "PySlowFast / this", title=title)
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder), args.short_side)
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
            costs = measure(clips, workers, args.batch_size, args.rounds)
            other = costs["PySlowFast"][1]
            for name, (seconds, processor) in costs.items():
                figures = (f"{len(clips) / seconds:.1f}", f"{1e3 * processor / len(clips):.2f}")
                table.add_row(str(workers), name, *figures, f"{other / processor:.2f}")
    Console().print(table)


def measure(clips: ClipDataset, workers: int, batch_size: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds and processor seconds of a pass of each loader."""
    has_simplejpeg = jpeg.HAS_SIMPLEJPEG
    loaders = {"this package, OpenCV": loader(clips, workers, batch_size, collate_clips, keep_memory)}
    if has_simplejpeg:
        loaders["this package, simplejpeg"] = loaders["this package, OpenCV"]
    loaders["PySlowFast"] = loader(PySlowFastSteps(clips), workers, batch_size, stack_floats)
    loaders["decoding"] = loader(DecodeOnly(clips, cv2.IMREAD_COLOR), workers, batch_size, torch.tensor)
    reduced = DecodeOnly(clips, cv2.IMREAD_REDUCED_COLOR_8)
    loaders["entropy decoding"] = loader(reduced, workers, batch_size, torch.tensor)
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for _ in range(rounds):
        for name, batches in loaders.items():
            jpeg.HAS_SIMPLEJPEG = has_simplejpeg and not name.endswith("OpenCV")  # each pass starts new processes
            costs[name].append(cost(batches))
    return {name: tuple(map(statistics.median, zip(*each, strict=True))) for name, each in costs.items()}


def make_tree(root: Path, height: int) -> None:
    """Write a tree of the training layout: drifting cloud textures with camera noise."""
    rng = np.random.default_rng(0)
    width = height * 4 // 3
    rows = []
    for number in range(VIDEOS):
        video = f"made-up{number // 5}_{number:03d}"
        (root / "frames" / video).mkdir(parents=True)
        cloud = cv2.resize(
            rng.integers(0, 256, (24, 32, 3), np.uint8), (2 * width, height), interpolation=cv2.INTER_CUBIC
        )
        for frame in range(FRAMES):
            noise = rng.integers(-8, 9, (height, width, 3))
            picture = np.clip(cloud[:, 2 * frame : 2 * frame + width] + noise, 0, 255).astype(np.uint8)
            path = root / "frames" / video / f"{video}_{frame + 1:06d}.jpg"
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        stamps = rng.choice(np.arange(8, 90), KEYFRAMES_PER_VIDEO, replace=False)
        rows += [(video, stamp, 0.2, 0.1, 0.7, 0.9, action, 1) for stamp in stamps for action in (12, 17)]
    columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id"]
    write_annotations(pd.DataFrame(rows, columns=columns), root / "annotations" / "ava_train.csv", header=False)


class DecodeOnly(Dataset):
    """Decodes the distinct frames of a clip and returns a number."""

    def __init__(self, clips: ClipDataset, flags: int) -> None:
        self.paths = [[*dict.fromkeys(paths)] for paths in window_paths(clips)]
        self.flags = flags

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> int:
        return sum(cv2.imread(path, self.flags).shape[0] for path in self.paths[index])


class PySlowFastSteps(Dataset):
    """PySlowFast's steps for the pixels of a training clip of AVA, without boxes and labels, which cost little."""

    mean, deviation = (np.full(3, value, np.float32) for value in (0.45, 0.225))

    def __init__(self, clips: ClipDataset) -> None:
        self.paths = window_paths(clips)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        rng = np.random.default_rng(index)
        images = [cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), 1) for path in self.paths[index]]
        height, width, _ = images[0].shape
        side = round(1 / rng.uniform(1 / 320, 1 / 256))
        size = (width * side // height, side)
        images = [cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) for image in images]
        left, top = rng.integers(0, size[0] - 224), rng.integers(0, size[1] - 224)
        images = [image[top : top + 224, left : left + 224] for image in images]
        if rng.random() < 0.5:
            images = [cv2.flip(image, 1) for image in images]
        images = [np.ascontiguousarray(image.transpose(2, 0, 1) / 255.0).astype(np.float32) for image in images]
        for image in images:
            for channel, (mean, deviation) in enumerate(zip(self.mean, self.deviation, strict=True)):
                image[channel] = (image[channel] - mean) / deviation
        clip = np.concatenate([image[:, None] for image in images], axis=1)
        return torch.from_numpy(np.ascontiguousarray(clip[::-1]))


def stack_floats(clips: list[torch.Tensor]) -> torch.Tensor:
    """Stack clips to a batch, in shared memory inside a worker."""
    return default_collate(clips)


def window_paths(clips: ClipDataset) -> list[list[str]]:
    """Return the files of the frames of each clip's window."""
    root = clips.frames.root
    return [
        [
            str(root / key.video_id / f"{key.video_id}_{frame + 1:06d}.jpg")
            for frame in window(key.frame_stamp - 1, clips.num_frames, clips.sampling_rate, FRAMES)
        ]
        for key in clips.keys
    ]


def loader(
    dataset: Dataset, workers: int, batch_size: int, collate: Callable, start: Callable[[int], None] | None = None
) -> DataLoader:
    options = {"num_workers": workers, "multiprocessing_context": "fork", "worker_init_fn": start}
    return DataLoader(dataset, batch_size, collate_fn=collate, **options)


def keep_memory(_: int) -> None:
    keep_freed_memory()


def cost(batches: DataLoader) -> tuple[float, float]:
    """Return the seconds for all batches and the processor seconds of the workers."""
    before = workers_seconds()
    start = time.perf_counter()
    for _ in batches:
        pass
    seconds = time.perf_counter() - start
    return seconds, workers_seconds() - before


def workers_seconds() -> float:
    """Return the processor seconds of finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
