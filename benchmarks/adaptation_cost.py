"""What a training step of each adaptation method costs, as a multiple of a step on source clips alone.

    python benchmarks/adaptation_cost.py [--repeats 15] [--threads 2] [--json FILE] [METHOD …]

A step is augmentation, forward, backward and optimiser, on 16 clips a domain of the embedded data's size. The steps of
all methods take turns, so that whatever else the machine does meets all of them; medians are compared. A method that
needs source clips sees 32 clips a step where the reference sees 16; one that does not sees 16, as the reference does.
What a method does once an epoch (labelling all target clips) is timed apart, per target clip of the epoch, and is
counted in the last column.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import TrainingMethod, create_adaptation, methods_of
from microg_da.config import AugmentConfig, TrainingConfig
from microg_da.data.batches import collate_clips
from microg_da.models import create_detector
from microg_da.training.optimizer import build_optimizer
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import Clip, ClipBatch, ClipKey

CLIPS, SIZE, FRAMES, CLASSES = 16, 96, 8, 50
REFERENCE = "source_only"


def clips(domain: str, seed: int) -> ClipBatch:
    """A batch with one or two people a clip, as the embedded data has them."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(CLIPS):
        frames = torch.randint(0, 256, (3, FRAMES, SIZE, SIZE), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[20.0, 10, 60, 80], [50, 20, 80, 90]])[: 1 + index % 3 // 2]
        labels = (torch.rand(len(boxes), CLASSES, generator=generator) < 0.05).float()
        key = ClipKey(f"{domain}_{index}", 46)
        clip = Clip(frames, boxes, boxes / SIZE, key)
        made.append(clip.with_labels(labels) if domain == "source" else clip)
    return collate_clips(made, domain)


class Step:
    """The training step of one method."""

    def __init__(self, name: str, source: ClipBatch, target: ClipBatch, rotation: float) -> None:
        self.detector = create_detector("r2plus1d_tiny", num_classes=CLASSES, dropout=0.1)
        task = {"feature_dim": self.detector.feature_dim, "num_classes": CLASSES}
        method = create_adaptation(name, **task, class_rates=[0.05] * CLASSES)
        assert isinstance(method, TrainingMethod)
        self.method = method
        self.source = source if self.method.uses_source else None
        self.target = None if name == REFERENCE else target
        self.augment = AugmentConfig(rotation=rotation)
        self.method.before_training(self.detector.eval(), [source], [target])
        self.epoch_seconds = timed(lambda: self.method.before_epoch(self.detector.eval(), [target], 0))
        self.detector.train()
        both = torch.nn.ModuleList([self.detector, self.method])
        self.optimizer = build_optimizer(both, TrainingConfig())

    def __call__(self) -> None:
        """One step."""
        batches = [
            None if batch is None else augment_batch(batch, self.augment) for batch in (self.source, self.target)
        ]
        losses = self.method.step_losses(self.detector, *batches, 0.5)
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        self.method.after_step(self.detector)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(names: list[str], repeats: int, rotation: float) -> list[dict[str, float | str | bool]]:
    """Seconds and ratios, methods taking turns."""
    source, target = clips("source", 0), clips("target", 1)
    steps = {name: Step(name, source, target, rotation) for name in dict.fromkeys([REFERENCE, *names])}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 2):
        for name, step in steps.items():
            elapsed = timed(step)
            if repeat >= 2:  # the first two warm up
                seconds[name].append(elapsed)
    rows: list[dict[str, float | str | bool]] = []
    for name, step in steps.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[REFERENCE], strict=True))
        reference = statistics.median(seconds[REFERENCE])
        every = getattr(step.method.arguments, "every", 1)
        with_epoch = ratio + step.epoch_seconds / every / reference
        median = statistics.median(seconds[name])
        rows.append(
            {"method": name, "source": step.source is not None, "ms": 1e3 * median, "ratio": ratio, "all": with_epoch}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help="default: all that train and use no target labels")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rotation", type=float, default=180.0, help="the stage's augmentation, for all alike")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    classes = {name: ADAPTATIONS.load(name) for name in methods_of(TrainingMethod)}
    trained = [name for name, method in classes.items() if method.has_epochs and not method.uses_target_labels]
    rows = measure(args.methods or trained, args.repeats, args.rotation)
    table = Table(title=f"a training step, {CLIPS} clips a domain, {args.threads} threads", title_justify="left")
    for heading in ("method", "source clips", "ms", "× source-only", "with what it does each epoch"):
        table.add_column(heading, justify="left" if heading in ("method", "source clips") else "right")
    for row in rows:
        figures = [f"{row['ms']:.0f}", f"{row['ratio']:.2f}", f"{row['all']:.2f}"]
        table.add_row(str(row["method"]), "yes" if row["source"] else "no", *figures)
    Console().print(table)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
