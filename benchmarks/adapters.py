"""Accuracy and trainable parameters of full fine-tuning, head only, low-rank updates and dual-path adapters.

    python benchmarks/adapters.py [--seeds 3] [--epochs 6] [--train-clips 200] [--earth FILE …] [KEY=VALUE …]

For each seed, one detector is trained on Earth. All kinds of tuning start from this detector, and use the same labelled
clips from microgravity, the same number of epochs and the same test clips. The learning rate of each kind is the best
of a short list on validation clips. Test clips are not used for selection.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from microg_da import fit
from microg_da.config import load_config

WAYS = {
    "head only": ["model.freeze=all"],
    "dual-path adapters, rank 8": ["model.adapters=dual_path"],
    "dual-path adapters, rank 32": ["model.adapters=dual_path", "model.adapter_rank=32"],
    "LoRA, rank 8": ["model.adapters=lora"],
    "full fine-tuning": [],
}
RATES = ("5e-4", "2e-3", "8e-3")
QUIET = Console(quiet=True)


def train_on_earth(seed: int, args: argparse.Namespace, folder: Path) -> Any:
    if args.earth:
        overrides = ["adaptation.name=source_only", f"seed={seed}", f"checkpoint={args.earth[seed]}", *args.overrides]
        return fit(load_config("ava2microg", overrides), root=folder, name=f"earth-{seed}", console=QUIET)
    overrides = ["adaptation.name=source_only", f"seed={seed}", f"training.epochs={args.earth_epochs}"]
    overrides += [f"synthetic.train_clips={args.earth_clips}", *args.overrides]
    return fit(load_config("ava2microg", overrides), root=folder, name=f"earth-{seed}", console=QUIET)


def tune(start: Path, way: list[str], rate: str, seed: int, args: argparse.Namespace, folder: Path) -> Any:
    """Tune on labelled microgravity clips. Source and target domain are both microgravity."""
    overrides = [
        "data.source=synthetic:microgravity",
        "adaptation.name=source_only",
        f"model.checkpoint={start}",
        f"seed={seed}",
        f"training.epochs={args.epochs}",
        f"training.lr={rate}",
        f"synthetic.train_clips={args.train_clips}",
        *way,
        *args.overrides,
    ]
    name = f"{'-'.join(way) or 'full'}-{rate}-{seed}"
    return fit(load_config("ava2microg", overrides), root=folder, name=name, console=QUIET)


def validation_map(run: Any) -> float:
    """Return the mAP on validation clips after the last epoch."""
    curve = pd.read_csv(run.path / "metrics" / "source" / "metrics.csv")["val/map"].dropna()
    return float(curve.iloc[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--train-clips", type=int, default=200, help="labelled microgravity clips")
    parser.add_argument("--earth-epochs", type=int, default=8)
    parser.add_argument("--earth-clips", type=int, default=600)
    parser.add_argument("--earth", nargs="*", default=[], help="existing detectors trained on Earth, one per seed")
    parser.add_argument("overrides", nargs="*", help="configuration keys, for example synthetic.test_clips=200")
    args = parser.parse_args()
    if args.earth and len(args.earth) < args.seeds:
        parser.error(f"--earth has {len(args.earth)} detectors, expected at least {args.seeds}, one per seed.")

    results: dict[str, list[float]] = {}
    trainable: dict[str, int] = {"none (trained on Earth)": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(args.seeds):
            earth = train_on_earth(seed, args, folder)
            results.setdefault("none (trained on Earth)", []).append(target_map(earth))
            for label, way in WAYS.items():
                runs = [tune(earth.detector_file("source"), way, rate, seed, args, folder) for rate in RATES]
                results.setdefault(label, []).append(target_map(max(runs, key=validation_map)))
                trainable[label] = runs[0].record.model.trainable_parameters
    print("| tuning | trainable parameters | mAP in microgravity |\n|---|---|---|")
    for label, values in results.items():
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        print(f"| {label} | {trainable[label]:,} | {statistics.mean(values):.1f}{spread} |")


def target_map(run: Any) -> float:
    return 100 * run.results.variants[0].target.map


if __name__ == "__main__":
    main()
