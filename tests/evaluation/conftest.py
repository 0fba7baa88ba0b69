"""Random tables of annotations and detections, and a slow, obvious evaluator to compare with."""

import numpy as np
import pandas as pd
import pytest

BOX = ["x1", "y1", "x2", "y2"]


def random_tables(seed, keyframes=12, ids=(1, 12, 17, 80), drop=0.2, ties=False, jitter=0.0):
    """Ground truth with 1–3 people a keyframe; detections of most of them, some boxes moved, some invented."""
    rng = np.random.default_rng(seed)
    labels, detections = [], []
    for keyframe in range(keyframes):
        key = (f"film{keyframe % 4}_{keyframe}", int(rng.integers(1, 90)))
        for person in range(rng.integers(1, 4)):
            corner = rng.uniform(0, 0.5, 2).round(3)
            box = (*corner, *(corner + rng.uniform(0.1, 0.5, 2).round(3)))
            labels += [(*key, *box, a, person) for a in ids if rng.random() < 0.4]
            if rng.random() > drop:
                detections += _about(rng, key, box, ids, ties, jitter)
        if rng.random() < drop:
            detections += _about(rng, key, (0.6, 0.6, 0.9, 0.95), ids, ties, 0.0)
    columns = ["video_id", "frame_stamp", *BOX, "action_id"]
    return (
        pd.DataFrame(detections, columns=[*columns, "score"]).sample(frac=1, random_state=seed, ignore_index=True),
        pd.DataFrame(labels, columns=[*columns, "person_id"]),
    )


def _about(rng, key, box, ids, ties, jitter):
    moved = np.clip(np.array(box) + rng.uniform(-jitter, jitter, 4), 0, 1)
    score = rng.normal(size=len(ids)).round(0 if ties else 6)
    return [(*key, *moved, action, value) for action, value in zip(ids, score, strict=True)]


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def loop_average_precision(detections, ground_truth, action):
    """PASCAL VOC's evaluation of one class, one detection at a time."""
    truth = {}
    for row in ground_truth[ground_truth.action_id == action].itertuples():
        truth.setdefault((row.video_id, row.frame_stamp), []).append(((row.x1, row.y1, row.x2, row.y2), []))
    hits = []
    mine = detections[detections.action_id == action]
    for row in mine.sort_values("score", ascending=False, kind="stable").itertuples():
        people = truth.get((row.video_id, row.frame_stamp), [])
        overlaps = [iou((row.x1, row.y1, row.x2, row.y2), box) for box, _ in people]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] >= 0.5 and not people[best][1]
        if hit:
            people[best][1].append(True)
        hits.append(hit)
    total = sum(map(len, truth.values()))
    if not total:
        return float("nan")
    area, found = 0.0, 0
    for i, hit in enumerate(hits):
        if hit:
            found += 1
            area += max(sum(hits[: j + 1]) / (j + 1) for j in range(i, len(hits)))
    return area / total


@pytest.fixture(scope="session")
def make_tables():
    return random_tables


@pytest.fixture(scope="session")
def loop_ap():
    return loop_average_precision
