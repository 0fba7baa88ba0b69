"""Adaptation on real pixels: upright people are the source, other people rolled upside down are the target.

    python benchmarks/weizmann.py FOLDER [--seeds 2] [--workers 2] [--runs runs/weizmann]

FOLDER contains the Weizmann actions as film strips of 64 x 64 crops, one folder per action (0 one-hand wave, 1 two-hand
wave, 3 jumping jack, 4 bend). Files are named by number; number // 8 is the actor. Actors 0-4 are the upright source.
Actors 5-8 are the target; each clip is rolled by an angle of 90 to 270 degrees. In each fold, one target actor is for
the test, one for validation and two for training, so no tested actor is in the training data. The network starts from
random weights. Gorelick et al., "Actions as Space-Time Shapes", TPAMI 2007.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from microg_da.runs.folder import Run

ACTIONS = {"0": (1, "one-hand wave"), "1": (2, "two-hand wave"), "3": (3, "jumping jack"), "4": (4, "bend")}
SOURCE_ACTORS, TARGET_ACTORS = range(5), range(5, 9)
BOX = (0.05, 0.02, 0.95, 0.98)
KEYFRAME_STEP, MARGIN = 8, 9
METHODS = {
    "source_only": ["adaptation=source_only", "bounds=true"],
    "source_finetune + rotation": ["adaptation=source_finetune", "adaptation.rotation=180"],
    "adabn": ["adaptation=adabn"],
    "roll_tta": ["adaptation=roll_tta"],
    "mean_teacher + rotation": ["adaptation=mean_teacher", "adaptation.rotation=180"],
    "self_training + rotation + roll_tta": [
        "adaptation=self_training",
        "adaptation.rotation=180",
        "adaptation.test_time=roll_tta",
    ],
}
SETTINGS = [
    "data.image_size=64", "model.dropout=0.1", "training.epochs=15", "training.lr=4e-3", "adaptation.epochs=8",
    "adaptation.lr=2e-3", "target_supervised.epochs=15", "target_supervised.rotation=180", "seed={seed}",
]  # fmt: skip


def read_strips(folder: Path) -> list[tuple[str, int, int, np.ndarray]]:
    """Return name, actor, action id and frames ``(T, 64, 64, 3)`` of every clip."""
    folder = folder / "actions" if (folder / "actions").is_dir() else folder
    clips = []
    for action, (action_id, _) in ACTIONS.items():
        for path in sorted((folder / action).glob("*.jpg")):
            strip = cv2.imread(str(path))
            if strip is None or strip.shape[0] != 64 or strip.shape[1] % 64:
                sys.exit(f"{path}: expected a film strip of 64 x 64 crops")
            frames = strip.reshape(64, -1, 64, 3).transpose(1, 0, 2, 3)
            clips.append((f"act{action}-{path.stem}", int(path.stem) // 8, action_id, frames))
    if not clips:
        sys.exit(f"{folder}: no film strips found. Expected the folders {', '.join(ACTIONS)} with JPEG files.")
    return clips


def roll(frames: np.ndarray, degrees: float) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((31.5, 31.5), degrees, 1.0)
    return np.stack([cv2.warpAffine(frame, matrix, (64, 64), borderMode=cv2.BORDER_REFLECT) for frame in frames])


def write_tree(folder: Path, clips: list, splits: dict[str, list], rolled: bool) -> Path:
    """Write frames, tables and action names. A split lists actors or clips."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[str]] = {split: [] for split in splits}
    for number, (name, actor, action_id, frames) in enumerate(clips):
        split = next((split for split, whom in splits.items() if actor in whom or name in whom), None)
        if split is None:
            continue
        # The angle of a clip is the same in every fold. The golden ratio spreads angles evenly.
        pictures = roll(frames, 90 + 180 * (number * 0.618034 % 1)) if rolled else frames
        (folder / "frames" / name).mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(pictures, start=1):
            cv2.imwrite(str(folder / "frames" / name / f"{name}_{index:06d}.jpg"), picture)
        for stamp in range(MARGIN, len(pictures) - MARGIN + 1, KEYFRAME_STEP):
            rows[split].append(",".join([name, str(stamp), *map(str, BOX), str(action_id), "0"]))
    for split, lines in rows.items():
        (folder / "annotations" / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = [f'item {{ name: "{name}" id: {action_id} }}' for action_id, name in ACTIONS.values()]
    (folder / "annotations" / "label_map.pbtxt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def source_splits(clips: list) -> dict[str, list]:
    """Return four actors for training; of the fifth, clips as filmed for validation and mirrored clips for the test."""
    *training, last = SOURCE_ACTORS
    own = [name for name, actor, *_ in clips if actor == last]
    as_filmed = [name for name in own if int(name.split("-")[1]) % 2 == 0]
    return {"train": training, "val": as_filmed, "test": [name for name in own if name not in as_filmed]}


def fold(actor: int) -> dict[str, list[int]]:
    """Return one target actor for the test, the next for validation, and two for training."""
    others = [TARGET_ACTORS[(actor - TARGET_ACTORS[0] + step) % len(TARGET_ACTORS)] for step in (1, 2, 3)]
    return {"train": others[1:], "val": others[:1], "test": [actor]}


def run(args: argparse.Namespace, method: str, actor: int, seed: int) -> Path:
    """Run one fit. A finished run is not repeated."""
    name = f"{''.join(letter if letter.isalnum() else '-' for letter in method)}-actor{actor}-seed{seed}"
    folder = args.runs / "custom" / name
    if (folder / "results.json").exists() and Run(folder).record.status == "finished":
        return folder
    data = args.runs / "data"
    sources = [
        f"data.{side}=ava:{data}/{side}{'' if side == 'source' else actor}?stamp=frames"
        for side in ("source", "target")
    ]
    words = [*sources, f"data.taxonomy={data}/source/annotations/label_map.pbtxt", *SETTINGS, *METHODS[method]]
    if method != "source_only":
        trained = run(args, "source_only", actor, seed)
        words.append(f"checkpoint={trained}/checkpoints/source/detector.pt")
    start = ["--resume", str(folder)] if (folder / "config.yaml").exists() else [
        "--experiment", str(args.runs / "custom.yaml"), "--runs", str(args.runs), "--name", name,
        *(word.format(seed=seed) for word in words),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "microg_da", "fit", *start], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-1500:])
    return folder


def scores(folder: Path, method: str, actor: int, seed: int) -> list[dict]:
    results = Run(folder).results.variants
    wanted = [result for result in results if result.variant == "adapted" or method == "source_only"]
    label = {"adapted": method, "target_supervised": "target_supervised (oracle)", "source_only": "source_only"}
    return [
        {"method": label[result.variant], "actor": actor, "seed": seed, "target": 100 * result.target.map}
        for result in wanted
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/weizmann"))
    args = parser.parse_args()
    args.runs = args.runs.absolute()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // args.workers)))
    clips = read_strips(args.folder)
    write_tree(args.runs / "data" / "source", clips, source_splits(clips), rolled=False)
    for actor in TARGET_ACTORS:
        write_tree(args.runs / "data" / f"target{actor}", clips, fold(actor), rolled=True)
    (args.runs / "custom.yaml").write_text("description: Weizmann actions, upright to rolled\n", encoding="utf-8")
    lines = []
    with ThreadPoolExecutor(args.workers) as pool:
        for method in METHODS:
            folds = [(actor, seed) for seed in range(args.seeds) for actor in TARGET_ACTORS]
            done = pool.map(lambda fold, method=method: (run(args, method, *fold), fold), folds)
            for folder, (actor, seed) in track(done, method, len(folds)):
                lines += scores(folder, method, actor, seed)
    show(pd.DataFrame(lines))


def show(table: pd.DataFrame) -> None:
    """Print the mean over folds and seeds, and the number of folds in which a method is better than source-only."""
    pivot = table.pivot_table(index=["actor", "seed"], columns="method", values="target", sort=False)
    gains = pivot.sub(pivot["source_only"], axis=0)
    bound = gains["target_supervised (oracle)"].mean()
    printed = Table(title="Weizmann, upright to rolled: target mAP over folds and seeds", title_justify="left")
    for heading in ("method", "target mAP", "gain", "folds ahead", "gap recovered"):
        printed.add_column(heading, justify="left" if heading == "method" else "right")
    for method in pivot:
        ahead = f"{(gains[method] > 0).sum()} of {len(gains)}"
        figures = [f"{pivot[method].mean():.1f} ± {pivot[method].std():.1f}", f"{gains[method].mean():+.1f}", ahead]
        style = "red" if gains[method].mean() < 0 else ""
        printed.add_row(method, *figures, f"{gains[method].mean() / bound:.0%}", style=style)
    Console().print(printed)


if __name__ == "__main__":
    main()
