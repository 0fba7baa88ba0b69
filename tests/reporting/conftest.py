"""A run folder made up of random but plausible files, for every test of the reporting."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from microg_da.evaluation.finding import find
from microg_da.evaluation.intervals import Interval, Intervals
from microg_da.evaluation.protocols import Scores
from microg_da.taxonomy import get_taxonomy

# A few AVA actions of each group; ids need not be contiguous.
CLASSES = {
    1: ("bend/bow (at the waist)", "PM"),
    8: ("lie/sleep", "PM"),
    11: ("sit", "PM"),
    12: ("stand", "PM"),
    14: ("walk", "PM"),
    17: ("carry/hold (an object)", "OM"),
    47: ("push (an object)", "OM"),
    59: ("touch (an object)", "OM"),
    62: ("work on a computer", "OM"),
    74: ("listen to (a person)", "PI"),
    79: ("talk to (e.g., self, a person, a group)", "PI"),
    80: ("watch (a person)", "PI"),
}
GUARD = {
    "verdict": "sound", "collapsed": False, "reason": "", "source_rate": 0.03, "target_rate": 0.02, "agreement": 0.4, "flagged": [12, 14]
}  # fmt: skip
LEVELS = {
    ("source_only", "source"): 0.8,
    ("source_only", "target"): 0.34,
    ("adapted", "source"): 0.76,
    ("adapted", "target"): 0.43,
    ("target_supervised", "target"): 0.57,
}


def scores(rng: np.random.Generator, level: float, classes: dict[int, tuple[str, str]] = CLASSES) -> dict:
    """Scores around a level, as ``results.json`` holds them; the last class has no ground truth."""
    per_class = []
    for number, (action_id, (name, group)) in enumerate(classes.items()):
        scored = number < len(classes) - 1 or len(classes) == 1
        ap, f1, recall, auroc = np.clip(level + rng.normal(0, 0.12, 4), 0.01, 0.99).tolist() if scored else [None] * 4
        support = 3 + 17 * number if scored else 0
        per_class.append(
            {"action_id": action_id, "name": name, "group": group, "ap": ap, "f1": f1, "recall": recall,
             "auroc": auroc, "support": support}
        )  # fmt: skip
    known = [c for c in per_class if c["ap"] is not None]
    means = {key: float(np.mean([c[key] for c in known])) for key in ("ap", "f1", "recall", "auroc")}
    return {
        "map": means["ap"],
        "f1_macro": means["f1"],
        "recall_macro": means["recall"],
        "auroc_macro": means["auroc"],
        **{f"map_{name}": means["ap"] for name in ("min_support", "worst_ties", "best_ties")},
        **dict.fromkeys([field.name for field in fields(Scores) if field.name.startswith("num_")], 0),
        "num_keyframes": 400,
        "num_boxes": 731,
        "num_classes_with_ground_truth": len(known),
        "protocol": "corrected",
        "score_kind": "logit",
        "per_class": per_class,
    }


def make_results(rng: np.random.Generator, levels: dict[tuple[str, str], float] = LEVELS) -> dict:
    """A whole ``results.json``."""
    variants: dict[str, dict] = {}
    for name, method in (("source_only", "source_only"), ("adapted", "dann"), ("target_supervised", "supervised")):
        if (name, "target") not in levels:
            continue
        tested = {d: scores(rng, levels[name, d]) if (name, d) in levels else None for d in ("source", "target")}
        said = {
            "validators": {"entropy": -0.1 * len(variants), "mmd": 0.1 * len(variants) - 1},
            "collapse": dict(GUARD),
        }
        variants[name] = {"method": method, "seconds": float(rng.uniform(20, 200)), **tested, **said}
    return add_finding({"format": 2, "variants": variants})


def add_finding(results: dict, width: float = 0.02) -> dict:
    """Results with what they say, if every interval reaches ``width`` to either side."""
    maps = {name: result["target"]["map"] for name, result in results["variants"].items()}

    def around(name: str) -> Interval | None:
        if not {"source_only", name} <= maps.keys():
            return None
        difference = maps[name] - maps["source_only"]
        return Interval(difference - width, difference + width)

    intervals = Intervals({}, around("adapted"), around("target_supervised"), None, {}, {}, 12)
    boxes = next((result["target"]["num_boxes"] for result in results["variants"].values()), None)
    found = find(maps, boxes, intervals)
    return results | {"gap_recovered": found.gap_recovered, "finding": asdict(found)}


def write_metrics(rng: np.random.Generator, path: Path, steps: int) -> None:
    """A CSVLogger file: losses on some lines, validation scores on others, blanks between."""
    lines: list[dict] = []
    for step in range(steps):
        decay = math.exp(-3 * step / steps)
        lines.append({"step": step, "epoch": step // 50, "train/loss": decay + 0.1 * rng.random(),
                      "train/domain_loss": 0.69 + 0.05 * rng.normal()})  # fmt: skip
        if step % 50 == 49:
            lines.append(
                {"step": step, "epoch": step // 50, "val/map": 0.8 * (1 - decay), "val/f1_macro": 0.6 * (1 - decay)}
            )
    path.parent.mkdir(parents=True)
    pd.DataFrame(lines).to_csv(path, index=False)


def write_examples(rng: np.random.Generator, folder: Path, number: int) -> None:
    """Smooth noise with a moving ellipse for each person, eight frames a window."""
    folder.mkdir(parents=True)
    listed = []
    for i in range(number):
        backdrop = cv2.resize(rng.integers(40, 150, (6, 6, 3), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
        centres = rng.uniform(0.3, 0.7, (1 + i % 3, 2))
        frames = []
        for t in range(8):
            frame = backdrop.copy()
            for x, y in centres:
                centre = (int(96 * x) + 2 * (t - 4), int(96 * y))
                cv2.ellipse(frame, centre, (12, 25), 20 * i, 0, 360, (60, 160, 220), -1, cv2.LINE_AA)
            frames.append(f"{i:02d}_{t}.png")
            cv2.imwrite(str(folder / frames[-1]), frame)
        listed.append({
            "domain": "target",
            "video_id": f"micro_{i:04d}",
            "frame_stamp": 45,
            "image": frames[4],
            "frames": frames,
            "people": [
                {
                    "box": [x - 0.22, y - 0.27, x + 0.22, y + 0.27],
                    "true": rng.choice(list(CLASSES), 2, replace=False).tolist(),
                    "source_only": {str(k): float(rng.beta(0.15, 1.5)) for k in CLASSES},
                    "adapted": {str(k): float(rng.beta(0.15, 1.5)) for k in CLASSES},
                }
                for x, y in centres
            ],
        })  # fmt: skip
    (folder / "examples.json").write_text(json.dumps(listed))


def write_tables(rng: np.random.Generator, folder: Path, rows: Iterable[str], videos: int = 12) -> None:
    """Ground truth, detections and features of two people in each of three keyframes of every source video."""
    ids = np.array(get_taxonomy("microg50").ids)
    for number, domain in enumerate(("source", "target")):
        clips = [f"{domain}{video}_{clip}" for video in range(videos) for clip in range(3)]
        keyframes = pd.DataFrame({"video_id": clips, "frame_stamp": 45})
        people = keyframes.loc[keyframes.index.repeat(2)].reset_index(drop=True)
        left = rng.uniform(0.05, 0.15, len(people)) + 0.5 * (people.index % 2)
        people = people.assign(x1=left, y1=0.2, x2=left + 0.3, y2=0.8).round(6)
        labels = np.isin(ids, list(CLASSES)) & (rng.random((len(people), len(ids))) < 0.25)
        labels[~labels.any(axis=1), list(ids).index(12)] = True
        person, column = np.nonzero(labels)
        truth = people.iloc[person].assign(action_id=ids[column], person_id=person % 2)
        (folder / "ground_truth").mkdir(exist_ok=True)
        truth.to_csv(folder / "ground_truth" / f"{domain}.csv", index=False)
        for skill, row in enumerate(rows, start=1):
            logits = rng.normal(-2, 1, labels.shape) + skill * labels
            said = people.loc[people.index.repeat(len(ids))].assign(
                action_id=np.tile(ids, len(people)), score=logits.ravel()
            )
            (folder / "detections").mkdir(exist_ok=True)
            said.to_csv(folder / "detections" / f"{row}_{domain}.csv.gz", index=False)
            (folder / "features").mkdir(exist_ok=True)
            features = rng.normal(0, 1, (len(people), 20)) + number * (np.arange(20) < 6)
            np.savez_compressed(
                folder / "features" / f"{row}_{domain}.npz",
                video_id=people["video_id"].to_numpy(str),
                frame_stamp=people["frame_stamp"].to_numpy(),
                boxes=people[["x1", "y1", "x2", "y2"]].to_numpy(np.float32),
                features=features.astype(np.float16),
            )


@pytest.fixture
def results() -> dict:
    """What ``results.json`` of a complete run holds."""
    return make_results(np.random.default_rng(3))


@pytest.fixture
def with_finding() -> Callable[..., dict]:
    """``with_finding(results, width=0.02)``: the results with what they say."""
    return add_finding


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Build a run folder by name: ``make_run("dann-seed0", seed=0, levels=LEVELS, examples=4)``."""
    return lambda name="dann-seed0", **options: build_run(tmp_path / "runs" / "ava2microg" / name, **options)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything that a page can show, for tests that only read it."""
    return build_run(tmp_path_factory.mktemp("whole") / "runs" / "ava2microg" / "dann-seed0", examples=6, tables=True)


@pytest.fixture
def run_folder(make_run: Callable[..., Path]) -> Path:
    """A complete run folder."""
    return make_run()


def build_run(
    folder: Path,
    *,
    seed: int = 0,
    levels: dict[tuple[str, str], float] = LEVELS,
    examples: int = 4,
    tables: bool = False,
) -> Path:
    """Write every file of a run but the report."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(make_results(rng, levels)))
    (folder / "run.json").write_text(
        json.dumps({
            "format": 2,
            "experiment": "ava2microg",
            "name": folder.name,
            "seed": seed,
            "created": "2025-01-31T12:00:00+00:00",
            "embedded_data": True,
            "notice": "Embedded data: clips drawn by the simulator.",
            "source": "synthetic:earth",
            "target": "synthetic:microgravity",
            "selection": "last",
            "oracle": False,
            "protocol": "corrected",
            "split_hash": "3f2a9c",
            "model": {"name": "r2plus1d_tiny", "parameters": 712345, "trainable_parameters": 712345, "num_frames": 8, "sampling_rate": 2},
            "adaptation": "dann",
            "status": "done",
            "warnings": ["12 weights of the checkpoint were not loaded"],
        })
    )  # fmt: skip
    (folder / "environment.json").write_text(json.dumps({"python": "3.11.2", "packages": {"torch": "2.15.0"}}))
    (folder / "config.yaml").write_text("experiment: ava2microg\nseed: 0\n")
    write_metrics(rng, folder / "metrics" / "source" / "metrics.csv", 900)
    write_metrics(rng, folder / "metrics" / "adapt" / "metrics.csv", 300)
    if examples:
        write_examples(rng, folder / "examples", examples)
    if tables:
        write_tables(rng, folder, dict.fromkeys(name for name, _ in levels))
    return folder
