"""Synthetic clips that one core renders per second, in total and without pixels.

    python benchmarks/synthetic.py [--size 96] [--num-frames 8] [--clips 120] [--repeats 5]

Clips are rendered in the order of a worker, scene by scene. Times are processor time of one thread, as medians of
several repetitions.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
from rich.console import Console
from rich.table import Table

from microg_da.synthetic import SyntheticSpec, render_clip
from microg_da.synthetic.render import stage_clip
from microg_da.synthetic.spec import DOMAINS


def clips_per_second(draw: Callable[[int], object], indices: list[int], repeats: int) -> float:
    """Return the median over ``repeats`` passes."""
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        for index in indices:
            draw(index)
        rates.append(len(indices) / (time.process_time() - start))
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    table = Table("domain", "clips/s on one core", "staged only (no pixels)", "ms per frame")
    for domain in DOMAINS:
        spec = SyntheticSpec(domain, "train", 1200, size=options.size, num_frames=options.num_frames)
        indices = sorted(range(spec.num_clips), key=spec.name)[: options.clips]
        drawn = clips_per_second(lambda index, spec=spec: render_clip(spec, index), indices, options.repeats)
        staged = clips_per_second(lambda index, spec=spec: stage_clip(spec, index), indices, options.repeats)
        table.add_row(domain, f"{drawn:.1f}", f"{staged:.0f}", f"{1000 / drawn / options.num_frames:.2f}")
    Console().print(f"{options.num_frames} frames of {options.size} px, including scenery")
    Console().print(table)


if __name__ == "__main__":
    main()
