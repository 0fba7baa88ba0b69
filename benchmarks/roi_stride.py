"""Cost of a wrong RoI stride, as in the benchmark for MViT and X3D.

    python benchmarks/roi_stride.py [--seeds 3] [--epochs 8] [--train-clips 600] [KEY=VALUE …]

The benchmark assumes a stride of 16 for networks with a stride of 32, so boxes land at twice their coordinates. The
small network for the embedded data has a stride of 16, so the same error is a stride of 8. All other settings are
equal.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from rich.console import Console

from microg_da import fit
from microg_da.config import load_config
from microg_da.types import DOMAINS

STRIDES = {"true (16)": "true", "half of it (8), the published error": "8"}


def measure(stride: str, seed: int, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Train on Earth and test on Earth and in microgravity."""
    config = load_config(
        "ava2microg",
        [
            "adaptation.name=source_only",
            f"model.roi_stride={stride}",
            f"seed={seed}",
            f"training.epochs={args.epochs}",
            f"synthetic.train_clips={args.train_clips}",
            *args.overrides,
        ],
    )
    run = fit(config, root=folder, name=f"{stride}-{seed}", console=Console(quiet=True))
    return {domain: 100 * run.results.final.score(domain, "map") for domain in DOMAINS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--train-clips", type=int, default=600)
    parser.add_argument("overrides", nargs="*", help="configuration keys, for example synthetic.test_clips=200")
    args = parser.parse_args()

    print("| RoI stride | mAP on Earth | mAP in microgravity |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for label, stride in STRIDES.items():
            runs = [measure(stride, seed, args, Path(folder)) for seed in range(args.seeds)]
            cells = [mean_and_spread([run[domain] for run in runs]) for domain in ("source", "target")]
            print(f"| {label} | {' | '.join(cells)} |", flush=True)


def mean_and_spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
