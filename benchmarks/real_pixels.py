"""Gap of a rolled camera and of floating people on real pixels, and the part that adaptation recovers.

    python benchmarks/real_pixels.py --jhmdb data/jhmdb [--walls data/walls] [--targets rolled floating]
                                     [--seeds 0 1 2 3 4] [--rows default 'roll*'] [--runs runs/real_pixels]
                                     [--table-only] [KEY=VALUE …]

Clips of a rolled camera use the experiment earth2weightless, floating people use earth2floating. A seed divides the
source videos of JHMDB into four parts: labelled Earth clips (half of the videos), unlabelled target clips (a quarter),
validation clips (a tenth) and test clips. Each source video is in one part. The command `weightless` makes the target
clips from JHMDB once. For floating people it also makes the extra source clips of earth2floating: people of JHMDB,
upright, in rendered station modules; only people of the labelled part are used. All rows of a seed and target adapt the
same source model. Rows of earth2floating that do not change pixels share a feature store. The reference is this model
on the same test clips as filmed:

    gap recovered = (row − source-only) / (as filmed − source-only)

Finished runs are not repeated. The program prints a table and writes it to RUNS/real_pixels.md and .json. Intervals are
95 % Student's intervals over seeds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from comparison import chosen_labels, exit_status, finished
from rich.console import Console
from scipy import stats

from microg_da.data.jhmdb import read_clips
from microg_da.data.splits import Division, write_split
from microg_da.runs.folder import Run

EXPERIMENTS = {"rolled": "earth2weightless", "floating": "earth2floating"}
SETS: dict[str, list[str]] = {
    "rolled": ["--mode", "rolled"],
    "floating": ["--mode", "floating"],
    "upright": ["--mode", "floating", "--rolls", "fixed:0", "--seed", "1"],
}
"""Data sets that `weightless` makes, and its options."""
EXTRA = {"floating": "upright"}
"""The set of the extra source clips of each target."""
SHARES = {"source": 0.5, "target": 0.25, "val": 0.1}
"""Parts of the source videos; the remaining videos are for tests."""
BASE = "source-only"
FILMED = "as filmed"
WITHOUT_EXTRA = "default, no extra source clips"
WHOLE_CLIPS = "default, whole clips"
OF_FLOATING = (WITHOUT_EXTRA, WHOLE_CLIPS)
"""Rows that differ from the default for floating people only."""
ROWS: dict[str, list[str]] = {
    FILMED: ["adaptation=source_only"],
    "roll_tta": ["adaptation=roll_tta"],
    "source_finetune, rotation 180°": ["adaptation=source_finetune", "adaptation.rotation=180"],
    "source_finetune, rotation 180° + roll_tta": [
        "adaptation=source_finetune", "adaptation.rotation=180", "adaptation.test_time=roll_tta",
    ],
    "self_training, rotation 180°": ["adaptation=self_training", "adaptation.rotation=180"],
    "gravity_frame": [
        "adaptation=gravity_frame",
        "adaptation.args={estimator: backbone, steps: 800, target_steps: 200, batch_size: 128, crops: 6000, "
        "frames_per_clip: 2, neighbour_angle: 0}",
    ],
    "default": [],
    WITHOUT_EXTRA: ["adaptation.extra_source=null"],
    WHOLE_CLIPS: ["adaptation.args.person_crop=null"],
    "target-supervised (oracle)": ["adaptation=target_supervised"],
}  # fmt: skip
"""Overrides of each row."""
STORED = (BASE, FILMED, "roll_tta", "target-supervised (oracle)")
"""Rows of earth2floating, whose encoder is frozen, that read feature maps from a store. They need no extra clips."""


def divide(jhmdb: Path, seed: int, folder: Path) -> dict[str, Path]:
    """Write the split files of source and target. Both have the same test clips."""
    clips = read_clips(jhmdb)
    videos = np.random.default_rng(seed).permutation(np.unique(clips.source_video))
    ends = (np.cumsum(list(SHARES.values())) * len(videos)).astype(int)
    parts = dict(zip((*SHARES, "test"), np.split(videos, ends), strict=True))
    of = {part: tuple(sorted(clips.video_id[clips.source_video.isin(chosen)])) for part, chosen in parts.items()}
    return {
        domain: write_split(
            Division("real_pixels", {"train": of[domain], "val": of["val"], "test": of["test"]}, {"seed": seed}),
            folder / f"{domain}-split-seed{seed}.json",
        )
        for domain in ("source", "target")
    }


def make_targets(args: argparse.Namespace) -> None:
    """Make the target clips and the extra source clips from JHMDB once. An interrupted command continues."""
    for name in [*args.targets, *(EXTRA[target] for target in args.targets if target in EXTRA)]:
        walls = ["--backgrounds", str(args.walls)] if args.walls and name == "floating" else []
        command = [sys.executable, "-m", "microg_da", "weightless", "--data", f"jhmdb:{args.jhmdb}", *SETS[name]]
        subprocess.run([*command, "--to", str(args.runs / name), *walls], check=True)


def run_folder(args: argparse.Namespace, target: str, row: str, seed: int) -> Path:
    name = "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in row).strip("-")
    return args.runs / EXPERIMENTS[target] / f"{target}-{name}-seed{seed}"


def settings(args: argparse.Namespace, target: str, row: str, seed: int) -> list[str]:
    """Return the overrides of one run."""
    splits = divide(args.jhmdb, seed, args.runs)
    data = f"jhmdb:{args.jhmdb}" if row == FILMED else f"ava:{args.runs / target}"
    words = [
        f"seed={seed}",
        f"data.source=jhmdb:{args.jhmdb}?scheme={splits['source']}",
        f"data.target={data}?scheme={splits['target']}",
    ]
    if target in EXTRA:
        stored = row in STORED
        extra = "null" if stored else f"ava:{args.runs / EXTRA[target]}?scheme={splits['source']}"
        words.append(f"adaptation.extra_source={extra}")
        words += [f"data.feature_store={args.runs / 'features'}"] if stored else []
    base = run_folder(args, target, BASE, seed) / "checkpoints" / "source" / "detector.pt"
    words += [f"checkpoint={base}"] if base.exists() else []
    return [*words, *ROWS.get(row, ["adaptation=source_only"]), *args.overrides]


def run(args: argparse.Namespace, target: str, row: str, seed: int) -> str:
    """Start or continue one run; return its duration as text."""
    folder = run_folder(args, target, row, seed)
    if finished(folder):
        return "finished before"
    command = [sys.executable, "-m", "microg_da", "fit"]
    if (folder / "config.yaml").exists():
        command += ["--resume", str(folder)]
    else:
        command += ["--experiment", EXPERIMENTS[target], "--runs", str(args.runs), "--name", folder.name]
        command += settings(args, target, row, seed)
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return f"{time.perf_counter() - start:.0f} s"


def collect(args: argparse.Namespace) -> pd.DataFrame:
    """Return one line per target, row and seed."""
    lines = []
    for target in args.targets:
        for seed in args.seeds:
            for row in (BASE, *ROWS):
                folder = run_folder(args, target, row, seed)
                if not finished(folder):
                    continue
                result = Run(folder).results.variants[-1]
                up = result.up.get("target")
                lines.append({
                    "target": target, "method": row, "seed": seed,
                    **{key: 100 * result.score("target", name) for key, name in (("mAP", "map"), ("F1", "f1_macro"))},
                    "Earth mAP": 100 * result.score("source", "map"),
                    "flips": np.nan if up is None else 100 * up.decided.flips,
                    "median error": np.nan if up is None else up.decided.median_error,
                })  # fmt: skip
    return add_gap(pd.DataFrame(lines))


def add_gap(table: pd.DataFrame) -> pd.DataFrame:
    """Add the recovered part of the difference between source-only and the clips as filmed, in %."""
    if table.empty:
        return table
    scores = table.pivot_table(index=["target", "seed"], columns="method", values="mAP")
    if not {BASE, FILMED} <= set(scores):
        return table.assign(**{"gap recovered": np.nan})
    keys = pd.MultiIndex.from_frame(table[["target", "seed"]])
    low, high = (scores[name].reindex(keys).to_numpy() for name in (BASE, FILMED))
    return table.assign(**{"gap recovered": 100 * (table.mAP - low) / (high - low)})


def markdown(table: pd.DataFrame) -> str:
    """Return a table of means over seeds with intervals."""
    columns = ["mAP", "F1", "Earth mAP", "gap recovered", "flips", "median error"]
    lines = ["| target | method | seeds | " + " | ".join(columns) + " |", "|---|---|" + "---:|" * (1 + len(columns))]
    for (target, method), group in table.groupby(["target", "method"], sort=False):
        cells = [str(target), str(method), str(len(group)), *(interval(group[column].dropna()) for column in columns)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def interval(values: pd.Series) -> str:
    """Return the mean and half the width of its 95 % interval."""
    if values.empty:
        return ""
    if len(values) == 1:
        return f"{values.iloc[0]:.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    return f"{values.mean():.1f} ± {half:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jhmdb", type=Path, required=True, help="folder of JHMDB with masks")
    parser.add_argument(
        "--walls", type=Path, help="folder of pictures behind floating people (default: rendered modules)"
    )
    parser.add_argument("--targets", nargs="+", choices=["rolled", "floating"], default=["rolled", "floating"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--rows", nargs="+", default=["*"], help="shell-style patterns of rows; the first two rows always run"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/real_pixels"))
    parser.add_argument(
        "--table-only", action="store_true", help="print the table of finished runs without starting runs"
    )
    parser.add_argument("overrides", nargs="*", help="configuration keys for all runs")
    args = parser.parse_intermixed_args()
    args.runs, args.jhmdb = args.runs.absolute(), args.jhmdb.absolute()
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    console = Console()
    if not args.table_only:
        rows = [BASE, FILMED, *(row for row in chosen_labels(ROWS, args.rows) if row != FILMED)]
        make_targets(args)
        for seed in args.seeds:
            for target in args.targets:
                for row in rows:
                    if row in OF_FLOATING and target != "floating":
                        continue
                    console.print(f"seed {seed}, {target}, {row}: {run(args, target, row, seed)}")
    table = collect(args)
    if table.empty:
        console.print("No run is finished.")
        return 0
    text = markdown(table)
    console.print(text, soft_wrap=True, highlight=False)
    (args.runs / "real_pixels.md").write_text(text, encoding="utf-8")
    (args.runs / "real_pixels.json").write_text(table.to_json(orient="records", indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main, "real_pixels"))
