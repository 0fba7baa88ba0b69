"""Compare the default of ava2microg with its parts, other methods and oracles, with one source model per seed.

    python benchmarks/gravity_frame.py [--experiment ava2microg] [--seeds 0 1 2] [--rows 'oracle*' 'in the frame*']
                                       [--runs runs/gravity] [--table-only] [KEY=VALUE …]

A seed sets both `seed` and `synthetic.seed`, so each seed has different clips and a different network. The first run of
a seed is the unmodified experiment ("as it stands") with its target-supervised bound. The other runs adapt its source
model. Finished runs are not repeated, so the command can be interrupted and repeated. It prints a table with means and
standard deviations over seeds. It writes the table to RUNS/EXPERIMENT.md, and one line per run to RUNS/EXPERIMENT.json.

Rows `in the frame` train by another method on target clips that are turned upright, and are tested on turned clips.
They show the gap that remains after turning and the methods that reduce it. Their control is the row with
`source_finetune`, which takes the same steps on source clips only.

The oracles use the simulator's true up of each person. They show how much of the remaining gap is due to errors of up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from comparison import chosen_labels, exit_status, finished
from rich.console import Console

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.gravity_frame import GravityFrame, UpFinder
from microg_da.adaptation.gravity_self_training import GravitySelfTraining
from microg_da.adaptation.gravity_training import GravityTraining
from microg_da.adaptation.up_density import pool_agreeing
from microg_da.config import Config, load_config
from microg_da.data.datamodule import DomainDatasets
from microg_da.runs.folder import Run
from microg_da.types import ClipBatch, PersonKey
from microg_da.workflow import fit

DEFAULT = "default"


def in_the_frame(method: str, name: str = "gravity_training") -> list[str]:
    """Return the overrides for training by a method in the frame, with the default estimator and rotation."""
    settings = f"{{method: {method}, steps: 400, target_steps: 200, neighbour_angle: 0}}"
    return [f"adaptation={name}", f"adaptation.args={settings}", "adaptation.rotation=30"]


INNER = ("source_finetune", "cdan", "mmd", "coral", "mcc", "mean_teacher", "self_training")
"""Methods that train in the frame; the first is the control of the other methods."""
ROWS: dict[str, list[str]] = {
    "roll_tta": ["adaptation=roll_tta"],
    "roll_tta, four rolls": ["adaptation=roll_tta", "adaptation.args.rolls=4"],
    "cdan + roll_tta": [
        "adaptation=cdan", "adaptation.epochs=3", "adaptation.test_time=roll_tta",
        "adaptation.test_time_args={adabn: true}",
    ],
    "learned_canonicalization": ["adaptation=learned_canonicalization"],
    "energy_canonicalization": ["adaptation=energy_canonicalization"],
    "energy_canonicalization, no gate": ["adaptation=energy_canonicalization", "adaptation.args.gate=0"],
    "energy_canonicalization, distance": ["adaptation=energy_canonicalization", "adaptation.args.score=distance"],
    "energy_canonicalization, distance, no gate": [
        "adaptation=energy_canonicalization", "adaptation.args={score: distance, gate: 0}",
    ],
    "gravity_frame": ["adaptation=gravity_frame"],
    "gravity_frame, adabn": ["adaptation=gravity_frame", "adaptation.args.adabn=true"],
    "cdan, tested by gravity_frame": ["adaptation=cdan", "adaptation.test_time=gravity_frame"],
    **{f"in the frame: {method}": in_the_frame(method) for method in INNER},
    "oracle: gravity_frame, true up": ["adaptation=true_up_frame"],
    "oracle: gravity_frame, adabn, true up": ["adaptation=true_up_frame", "adaptation.args.adabn=true"],
    **{f"oracle: in the frame: {method}, true up": in_the_frame(method, "true_up_training") for method in INNER},
    "oracle: as it stands, true up": ["adaptation=true_up_self_training", "adaptation.rotation=30"],
}  # fmt: skip
"""Overrides of each row. Rows with the true up keep the epochs and the learning rate of the experiment."""


class TrueUp(UpFinder):
    """Knows up from the simulator: the estimator's density is all at the truth."""

    truth: dict[PersonKey, float]

    def learn(self, source: Any, target: Any) -> None:
        """Do nothing, because the true up needs no training."""

    def densities(self, batch: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return narrow densities at the true angles. People within 60° share a density."""
        true = torch.deg2rad(torch.tensor([self.truth[person] for person in batch.people]))
        angles = torch.arange(self.settings.bins) * (2 * torch.pi / self.settings.bins)
        own = (60 * (angles - true[:, None]).cos()).log_softmax(dim=1).to(batch.boxes.device)
        return pool_agreeing(own, batch.clip_index, len(batch))


class TrueUpFrame(GravityFrame):
    """:class:`GravityFrame` with the true up."""

    def __init__(self, arguments: Any, task: Any) -> None:
        super().__init__(arguments, task)
        self.finder = TrueUp(arguments)


class TrueUpSelfTraining(GravitySelfTraining):
    """:class:`GravitySelfTraining` with the true up."""

    def __init__(self, arguments: Any, task: Any) -> None:
        super().__init__(arguments, task)
        self.frame = TrueUpFrame(arguments, task)


class TrueUpTraining(GravityTraining):
    """:class:`GravityTraining` with the true up."""

    def __init__(self, arguments: Any, task: Any) -> None:
        super().__init__(arguments, task)
        self.frame = TrueUpFrame(arguments, task)


ORACLES = {
    "true_up_frame": TrueUpFrame,
    "true_up_self_training": TrueUpSelfTraining,
    "true_up_training": TrueUpTraining,
}


def run_folder(args: argparse.Namespace, row: str, seed: int) -> Path:
    name = "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in row)
    return args.runs / args.experiment / f"{name}-seed{seed}"


def run(args: argparse.Namespace, row: str, seed: int) -> float | None:
    """Start or continue one run in a separate process; return its seconds, or None for a finished run."""
    if finished(run_folder(args, row, seed)):
        return None
    command = [sys.executable, __file__, "--experiment", args.experiment, "--runs", str(args.runs)]
    start = time.perf_counter()
    subprocess.run([*command, "--one", row, "--seeds", str(seed), *args.overrides], check=True)
    return time.perf_counter() - start


def run_here(args: argparse.Namespace, row: str, seed: int) -> None:
    """Run one row in this process."""
    folder = run_folder(args, row, seed)
    words = [f"seed={seed}", f"synthetic.seed={seed}", *args.overrides]
    if row == DEFAULT:
        words.append("bounds=true")
    else:
        source = run_folder(args, DEFAULT, seed) / "checkpoints" / "source" / "detector.pt"
        words += [f"checkpoint={source}", *ROWS[row]]
    if row.startswith("oracle"):  # reading the true up of all clips takes longer than a row without training
        register_oracles(load_config(args.experiment, [f"synthetic.seed={seed}", *args.overrides]))
    if (folder / "config.yaml").exists():
        fit(resume=folder)
    else:
        fit(load_config(args.experiment, words), root=args.runs, name=folder.name)


def register_oracles(config: Config) -> None:
    """Register the oracles, with the true up of the configured data."""
    datasets = DomainDatasets(config)
    TrueUp.truth = {
        person: degrees
        for domain in ("source", "target")
        for split in ("train", "val", "test")
        for person, degrees in datasets.get(domain, split, labelled=False).ups().items()  # type: ignore[arg-type]
    }
    for name, method in ORACLES.items():
        ADAPTATIONS.register(name, f"__main__:{method.__name__}", "oracle of benchmarks/gravity_frame.py")


def collect(args: argparse.Namespace) -> pd.DataFrame:
    """Return one line per row and seed."""
    lines = []
    for seed in args.seeds:
        base = run_folder(args, DEFAULT, seed)
        if not finished(base):
            continue
        bound = Run(base).results
        low, high = (bound.score(variant, "target", "map") for variant in ("source_only", "target_supervised"))
        runs = [("source_only", base, "source_only"), ("target_supervised (oracle)", base, "target_supervised")]
        runs += [(row, run_folder(args, row, seed), "adapted") for row in (DEFAULT, *ROWS)]
        for label, folder, variant in runs:
            if not finished(folder):
                continue
            result = next(result for result in Run(folder).results.variants if result.variant == variant)
            up = result.up.get("target")
            lines.append({
                "method": label, "seed": seed, "source": 100 * result.score("source", "map"),
                "target": 100 * result.target.map, "recovered": (result.target.map - low) / (high - low),
                "seconds": result.seconds, "median_error": up and up.decided.median_error,
                "flips": up and up.decided.flips, "estimator_flips": up and up.estimator.flips,
                "passes": up and up.passes,
            })  # fmt: skip
    return pd.DataFrame(lines)


def markdown(table: pd.DataFrame) -> str:
    """Return a table of means and standard deviations over seeds."""
    columns = {
        "source": ("source mAP", 1), "target": ("target mAP", 1), "recovered": ("gap recovered", 100),
        "median_error": ("median error of up, °", 1), "flips": ("flips, %", 100), "passes": ("passes per clip", 1),
        "seconds": ("seconds of adaptation", 1),
    }  # fmt: skip
    headings = ["method", "seeds", *(title for title, _ in columns.values())]
    lines = ["| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    for method, group in table.groupby("method", sort=False):
        cells = [str(method), str(len(group))]
        for column, (_, factor) in columns.items():
            values = factor * group[column].astype(float)
            spread = f" ± {values.std():.1f}" if len(values) > 1 else ""
            percent = "%" if column == "recovered" else ""
            cells.append("" if values.isna().all() else f"{values.mean():.1f}{spread}{percent}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="ava2microg")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rows", nargs="+", default=["*"], help="shell-style patterns of rows; the first row always runs"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/gravity"))
    parser.add_argument(
        "--table-only", action="store_true", help="print the table of finished runs without starting runs"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="configuration keys for all runs")
    args = parser.parse_intermixed_args()
    args.runs = args.runs.absolute()
    rows = (DEFAULT, *chosen_labels(ROWS, args.rows))
    if args.one:
        run_here(args, args.one, args.seeds[0])
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    console = Console()
    for seed in args.seeds if not args.table_only else []:
        for row in rows:
            seconds = run(args, row, seed)
            console.print(f"seed {seed}, {row}: {'finished before' if seconds is None else f'{seconds:.0f} s'}")
    table = collect(args)
    if table.empty:
        console.print("No run is finished.")
        return 0
    text = markdown(table)
    console.print(text, soft_wrap=True, highlight=False)
    (args.runs / f"{args.experiment}.md").write_text(text, encoding="utf-8")
    (args.runs / f"{args.experiment}.json").write_text(table.to_json(orient="records", indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main, "gravity_frame"))
