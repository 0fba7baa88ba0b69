"""Speed of the evaluation of detections, compared with a loop over detections.

    python benchmarks/evaluate.py --detections D.csv.gz --ground-truth G.csv

Without files, the program generates random detections with the size of MicroG-4M's test split. The loop computes the
same four metrics of the published protocol in plain Python, without code of the package. Both are timed without reading
the files. The program prints medians of several repetitions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from microg_da.data.annotations import read_annotations, read_detections
from microg_da.evaluation import evaluate
from microg_da.taxonomy import get_taxonomy


def loop_scores(detections: pd.DataFrame, ground_truth: pd.DataFrame) -> tuple[float, float, float, float]:
    """Return mAP, F1, recall and AUROC of the published protocol."""
    return (loop_map(detections, ground_truth), *loop_frame_scores(detections, ground_truth))


def loop_frame_scores(detections: pd.DataFrame, ground_truth: pd.DataFrame) -> tuple[float, float, float]:
    said = {(video, frame, action) for video, frame, *_, action, _ in ground_truth.itertuples(index=False)}
    samples: dict[int, list[tuple[float, bool]]] = {}
    for video, frame, *_, action, score in detections.itertuples(index=False):
        samples.setdefault(action, []).append((score, (video, frame, action) in said))
    f1s, recalls, areas = [], [], []
    for rows in samples.values():
        hits = sum(score >= 0.5 and true for score, true in rows)
        guesses = sum(score >= 0.5 for score, _ in rows)
        positives = sum(true for _, true in rows)
        f1s.append(2 * hits / (guesses + positives) if guesses + positives else 0.0)
        recalls.append(hits / positives if positives else 0.0)
        if 0 < positives < len(rows):
            areas.append(loop_auroc(rows, positives))
    return statistics.fmean(f1s), statistics.fmean(recalls), statistics.fmean(areas)


def loop_auroc(rows: list[tuple[float, bool]], positives: int) -> float:
    wins, below = 0.0, 0
    for _, ties in itertools.groupby(sorted(rows), key=lambda row: row[0]):
        truths = [true for _, true in ties]
        wins += sum(truths) * (below + truths.count(False) / 2)
        below += truths.count(False)
    return wins / positives / (len(rows) - positives)


def loop_map(detections: pd.DataFrame, ground_truth: pd.DataFrame) -> float:
    people: dict[tuple, list] = {}
    for video, frame, *box, action, _ in ground_truth.itertuples(index=False):
        people.setdefault((action, video, frame), []).append([box, False])
    support: dict[int, int] = {}
    for (action, _, _), boxes in people.items():
        support[action] = support.get(action, 0) + len(boxes)
    ranked: dict[int, list[bool]] = {action: [] for action in support}
    for video, frame, *box, action, _ in sorted(detections.itertuples(index=False), key=lambda row: -row[7]):
        best, overlap = None, 0.5
        for person in people.get((action, video, frame), []):
            if iou(box, person[0]) >= overlap:
                best, overlap = person, iou(box, person[0])
        if action in ranked:
            ranked[action].append(best is not None and not best[1])
        if best is not None:
            best[1] = True
    return statistics.fmean(loop_ap(hits, support[action]) for action, hits in ranked.items())


def loop_ap(hits: list[bool], support: int) -> float:
    precisions, found = [], 0
    for position, hit in enumerate(hits, start=1):
        found += hit
        precisions.append(found / position)
    area, envelope = 0.0, 0.0
    for hit, precision in zip(reversed(hits), reversed(precisions), strict=True):
        envelope = max(envelope, precision)
        area += envelope * hit
    return area / support


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def draw(keyframes: int = 1137, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    ids = np.array(get_taxonomy("microg50").ids)
    corner = rng.uniform(0, 0.4, (keyframes, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.3, 0.6, (keyframes, 2))], axis=1).round(3)
    rows = pd.DataFrame(boxes, columns=["x1", "y1", "x2", "y2"])
    rows.insert(0, "video_id", [f"v_{i}" for i in range(keyframes)])
    rows.insert(1, "frame_stamp", 52)
    rows = rows.loc[rows.index.repeat(len(ids))].assign(action_id=np.tile(ids, keyframes))
    true = rng.random(len(rows)) < 0.047
    detections = rows.assign(score=(rng.normal(size=len(rows)) + 2 * true).round(4)).reset_index(drop=True)
    return detections, rows[true].assign(person_id=1).reset_index(drop=True)


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections")
    parser.add_argument("--ground-truth")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.detections and args.ground_truth:
        read = median_seconds(lambda: read_detections(args.detections), args.repeats)
        print(f"reading the detections   {read:8.3f} s")
        detections, truth = read_detections(args.detections), read_annotations(args.ground_truth)
    else:
        detections, truth = draw()
    fast = median_seconds(lambda: evaluate(detections, truth, protocol="published"), args.repeats)
    slow = median_seconds(lambda: loop_scores(detections, truth), args.repeats)
    scores = evaluate(detections, truth, protocol="published")
    ours = (scores.map, scores.f1_macro, scores.recall_macro, scores.auroc_macro)
    difference = max(abs(a - b) for a, b in zip(ours, loop_scores(detections, truth), strict=True))
    print(f"evaluate                 {fast:8.3f} s for {len(detections):,} detections")
    print(f"loop over detections     {slow:8.3f} s (largest difference {difference:.1e})")
    print(f"factor                   {slow / fast:8.1f}")


if __name__ == "__main__":
    main()
