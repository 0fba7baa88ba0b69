"""Cost as a function of the size of a data set: generated tables like AVA's, from ten thousand rows to AVA's size.

    python benchmarks/scaling.py [--tiny] [--json scaling.json] [--subjects annotations detections keyframes]

- annotations: reading, splitting by source video and auditing.
- detections: reading and evaluating 80 scores for every box.
- keyframes: opening a SOURCE until two workers load the first batch, and the memory of each worker.

Each measurement runs in a separate process, so peak memory is measured separately. Wall-clock time is unreliable on a
shared machine, so the table also shows processor time. The memory of workers is the unique set size (memory that
becomes free when the worker ends) and the proportional set size (shared pages are divided by their users), on Linux.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

VIDEOS = {"train": 235, "val": 64}
FIRST_SECOND, SECONDS = 902, 897
LABELS_PER_KEYFRAME = 6
CLASSES = 80
FRAMES_PER_VIDEO = 900
WORKERS = 2

SIZES = {
    "annotations": [10_000, 100_000, 1_000_000, 1_600_000],
    "detections": [10_000, 100_000, 1_000_000, 6_000_000],
    "keyframes": [10_000, 100_000, 250_000],
}
TINY = {"annotations": [2_000], "detections": [4_000], "keyframes": [600]}
LIMITS = {
    "annotations": {"seconds": 15, "peak_mib": 2048},
    "detections": {"seconds": 60},
    "keyframes": {"seconds": 10, "worker_unique_mib": 1024, "worker_proportional_mib": 1024},
}
"""Limits for the largest size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--tiny", action="store_true", help="use tiny sizes, for tests of the program")
    parser.add_argument("--repeats", type=int, default=3, help="number of repetitions for medians (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    parser.add_argument("--measure", nargs=2, metavar=("SUBJECT", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        subject, folder = args.measure
        print(json.dumps(MEASURES[subject](Path(folder))))
        return
    sizes = TINY if args.tiny else SIZES
    figures = {subject: [measure(subject, size, args.repeats) for size in sizes[subject]] for subject in args.subjects}
    for subject, rows in figures.items():
        show(subject, rows)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(subject: str, size: int, repeats: int) -> dict[str, float]:
    """Return the medians of one subject at one size."""
    with tempfile.TemporaryDirectory() as folder:
        draw = multiprocessing.Process(target=DRAWS[subject], args=(Path(folder), size))
        draw.start()
        draw.join()
        command = [sys.executable, __file__, "--measure", subject, folder]
        outputs = [
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout for _ in range(repeats)
        ]
    rounds = [json.loads(output.splitlines()[-1]) for output in outputs]
    medians = {key: round(float(np.median([each[key] for each in rounds])), 2) for key in rounds[0]}
    return {"size": size, **medians}


def show(subject: str, rows: list[dict[str, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    limits = LIMITS[subject]
    table = Table(title=f"{subject}: medians")
    for key in rows[0]:
        table.add_column(key.replace("_", " ") + (f" (limit {limits[key]})" if key in limits else ""), justify="right")
    for row in rows:
        table.add_row(*(f"{value:,}" for value in row.values()))
    Console(width=160 if not sys.stdout.isatty() else None).print(table)


# ------------------------------------------------------------------------------------------------ generated data


def draw_annotations(folder: Path, rows: int) -> None:
    """Generate AVA's tables: labels of people at whole seconds of long videos."""
    rng = np.random.default_rng(0)
    total = sum(VIDEOS.values())
    for side, count in VIDEOS.items():
        size = rows * count // total
        keyframe = np.sort(rng.integers(0, count * SECONDS, size))
        video, second = np.divmod(keyframe, SECONDS)
        person = rng.integers(0, 3, size)
        _write_people(folder, f"ava_{side}_v2.2", side, video, FIRST_SECOND + second, person, rng)


def draw_detections(folder: Path, rows: int) -> None:
    """Generate a score for every class of every box, and the ground truth of these boxes."""
    rng = np.random.default_rng(0)
    boxes = rows // CLASSES
    video, second = np.divmod(np.arange(boxes) // 3, SECONDS)
    names = np.char.add("film", video.astype(str))
    people = pd.DataFrame({"video_id": names, "frame_stamp": FIRST_SECOND + second} | _boxes(np.arange(boxes) % 3, rng))
    table = people.loc[people.index.repeat(CLASSES)].assign(action_id=np.tile(np.arange(1, CLASSES + 1), boxes))
    true = rng.random(len(table)) < 2.3 / CLASSES
    scores = (rng.normal(size=len(table)) + 2 * true).round(4)
    table.assign(score=scores).to_csv(folder / "detections.csv", index=False)
    table[true].assign(person_id=0).to_csv(folder / "truth.csv", index=False)


def draw_keyframes(folder: Path, keyframes: int) -> None:
    """Generate a tree of AVA's layout. All videos are hard links to one small file."""
    draw_annotations_of_keyframes(folder, keyframes)
    first = folder / "first.mp4"
    write_video(first)
    (folder / "videos").mkdir()
    for side, count in VIDEOS.items():
        for number in range(count):
            (folder / "videos" / f"{side}{number}.mp4").hardlink_to(first)


def draw_annotations_of_keyframes(folder: Path, keyframes: int) -> None:
    rng = np.random.default_rng(0)
    per_video = -(-keyframes // sum(VIDEOS.values()))
    for side, count in VIDEOS.items():
        video, frame = np.divmod(np.arange(count * per_video), per_video)
        again = np.repeat(np.arange(len(video)), LABELS_PER_KEYFRAME)
        person = np.tile(np.arange(LABELS_PER_KEYFRAME) // 2, len(video))
        _write_people(folder, f"ava_{side}", side, video[again], 1 + frame[again], person, rng)


def write_video(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(FRAMES_PER_VIDEO):
            picture = np.full((120, 160, 3), number % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _write_people(folder: Path, name: str, side: str, video, stamp, person, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    names = np.char.add(side, video.astype(str))
    people = {"video_id": names, "frame_stamp": stamp} | _boxes(person, None)
    table = pd.DataFrame(people | {"action_id": rng.integers(1, CLASSES + 1, len(video)), "person_id": person})
    (folder / "annotations").mkdir(exist_ok=True)
    table.to_csv(folder / "annotations" / f"{name}.csv", index=False, header=False)


def _boxes(person: np.ndarray, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
    """Return adjacent boxes, with jitter if boxes must differ between keyframes."""
    jitter = 0 if rng is None else rng.uniform(0, 0.05, len(person))
    x1 = (0.3 * person + jitter).round(3)
    return {"x1": x1, "y1": np.full(len(person), 0.1), "x2": (x1 + 0.28).round(3), "y2": np.full(len(person), 0.9)}


# ------------------------------------------------------------------------------------------------- measurements


@contextmanager
def stage(figures: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall-clock and processor seconds of a block."""
    start, processor = time.perf_counter(), time.process_time()
    yield
    seconds, used = time.perf_counter() - start, time.process_time() - processor
    figures[f"{name}_s"] = seconds
    figures["seconds"] = figures.get("seconds", 0) + seconds
    figures["processor_seconds"] = figures.get("processor_seconds", 0) + used


def measure_annotations(folder: Path) -> dict[str, float]:
    from microg_da.data.audit import audit
    from microg_da.data.sources import read_dataset_files
    from microg_da.data.splits import make_split

    figures: dict[str, float] = {}
    with stage(figures, "read"):
        tree, _ = read_dataset_files(f"ava:{folder}", check_boxes=False)
    with stage(figures, "split"):
        split = make_split("by-source", tree.annotations, sources=tree.sources)
    with stage(figures, "audit"):
        audit(tree, split)
    return figures | {"peak_mib": peak_mib()}


def measure_detections(folder: Path) -> dict[str, float]:
    from microg_da.data.annotations import read_annotations, read_detections
    from microg_da.evaluation import evaluate

    figures: dict[str, float] = {}
    with stage(figures, "read"):
        detections, truth = read_detections(folder / "detections.csv"), read_annotations(folder / "truth.csv")
    with stage(figures, "evaluate"):
        evaluate(detections, truth, taxonomy="ava80")
    return figures | {"peak_mib": peak_mib()}


def measure_keyframes(folder: Path) -> dict[str, float]:
    from microg_da.config import load_config
    from microg_da.data.datamodule import DomainDatasets, StageData

    source = f"ava:{folder}?stamp=frames"
    words = [f"data.source={source}", f"data.num_workers={WORKERS}", "data.taxonomy=ava80", "data.image_size=64"]
    config = load_config("ava2microg", [*words, "model.num_frames=4", "model.sampling_rate=1"])
    figures: dict[str, float] = {}
    with stage(figures, "open"):
        data = StageData(DomainDatasets(config), labelled="source", batch_size=4)
        loader = data.train_dataloader()
    with stage(figures, "first_batch"):
        batches = iter(loader)
        next(batches)
    unique, proportional = memory_of_workers()
    for _ in islice(batches, 50):
        pass
    later, _ = memory_of_workers()
    return figures | {
        "peak_mib": peak_mib(),
        "worker_unique_mib": later,
        "worker_proportional_mib": proportional,
        "worker_growth_mib": later - unique,
    }


def memory_of_workers() -> tuple[float, float]:
    """Return the largest unique and the largest proportional set size of the workers in MiB."""
    sizes = [_set_sizes(child.pid) for child in multiprocessing.active_children()]
    return max(unique for unique, _ in sizes), max(proportional for _, proportional in sizes)


def _set_sizes(process: int | None) -> tuple[float, float]:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: float(line.split()[1]) for line in lines}
    return (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024, kib["Pss"] / 1024


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


DRAWS: dict[str, Callable[[Path, int], None]] = {
    "annotations": draw_annotations,
    "detections": draw_detections,
    "keyframes": draw_keyframes,
}
MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {
    "annotations": measure_annotations,
    "detections": measure_detections,
    "keyframes": measure_keyframes,
}

if __name__ == "__main__":
    main()
