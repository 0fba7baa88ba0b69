"""Cost of adaptation methods: training steps relative to source-only steps, predictions relative to a forward pass.

    python benchmarks/adaptation_cost.py [--repeats 15] [--threads 2] [--json FILE] [METHOD …]

A step consists of augmentation, forward pass, backward pass and optimiser, on 16 clips per domain with the size of the
embedded data. The steps of all methods run in alternation, so other programs affect all methods equally. The program
compares medians. A step of a method with source clips uses 32 clips; a step of a method without source clips and of the
reference uses 16. Work per epoch (labelling all target clips) is timed separately, per target clip, and included in the
last column.

A test-time method is measured on a batch of target clips, after preparation with one batch of each domain. The number
of passes can depend on the clips. The clips have random pixels, which `gravity_frame` and the gates never treat as
upright.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import Method, TestTimeMethod, TrainingMethod, create_adaptation, detect, methods_of
from microg_da.config import AugmentConfig, TrainingConfig
from microg_da.data.batches import collate_clips
from microg_da.models import create_detector
from microg_da.models.detector import ActionDetector
from microg_da.training.optimizer import build_optimizer
from microg_da.transforms.augmentation import augment_batch
from microg_da.types import Clip, ClipBatch, ClipKey

CLIPS, SIZE, FRAMES, CLASSES = 16, 96, 8, 50
REFERENCE = "source_finetune"


def clips(domain: str, seed: int) -> ClipBatch:
    """Return a batch with one or two people per clip, as in the embedded data."""
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


def create(name: str) -> tuple[ActionDetector, Method]:
    """Return a detector and a method for it."""
    detector = create_detector("r2plus1d_tiny", num_classes=CLASSES, dropout=0.1)
    task = {"feature_dim": detector.feature_dim, "num_classes": CLASSES}
    method = create_adaptation(name, **task, class_rates=[0.05] * CLASSES)
    method.built_for(detector)
    return detector, method


class Step:
    """The training step of one method."""

    def __init__(self, name: str, source: ClipBatch, target: ClipBatch, rotation: float) -> None:
        self.detector, method = create(name)
        assert isinstance(method, TrainingMethod)
        self.method = method
        self.source = source if self.method.uses_source else None
        self.target = None if name == REFERENCE else target
        self.augment = AugmentConfig(rotation=rotation)
        with self.method.rehearsing():
            self.method.before_training(self.detector.eval(), [source], [target])
        self.epoch_seconds = timed(lambda: self.method.before_epoch(self.detector.eval(), [target], 0))
        self.detector.train()
        both = torch.nn.ModuleList([self.detector, self.method])
        self.optimizer = build_optimizer(both, TrainingConfig())

    def __call__(self) -> None:
        """Run one step."""
        batches = [
            None if batch is None else augment_batch(batch, self.augment) for batch in (self.source, self.target)
        ]
        losses = self.method.step_losses(self.detector, *batches, 0.5)
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        self.method.after_step(self.detector)


class Look:
    """The prediction of one batch by a test-time method, or by the detector alone if there is no name."""

    def __init__(self, name: str | None, source: ClipBatch, target: ClipBatch) -> None:
        self.target = target
        if name is None:
            self.detector, self.method = create(REFERENCE)[0].eval(), None
            return
        self.detector, method = create(name)
        assert isinstance(method, TestTimeMethod)
        self.method = method.eval()
        with self.method.rehearsing():
            self.method.prepare(self.detector.eval(), [source], [target])
        self.method.start_test(self.detector)

    @torch.no_grad()
    def __call__(self) -> None:
        """Predict one batch."""
        if self.method is None:
            detect(self.detector, self.target)
        else:
            self.method.predict(self.detector, self.target)


def measure_tests(names: list[str], repeats: int) -> list[dict[str, float | str]]:
    """Return seconds per batch and ratios to the detector alone. Methods run in alternation."""
    source, target = clips("source", 0), clips("target", 1)
    looks = {name: Look(name, source, target) for name in (None, *names)}
    seconds = in_turns(looks, repeats)
    return [
        {
            "method": str(name),
            "ms": 1e3 * statistics.median(seconds[name]),
            "ratio": statistics.median(a / b for a, b in zip(seconds[name], seconds[None], strict=True)),
        }
        for name in names
    ]


Name = TypeVar("Name")


def in_turns(works: Mapping[Name, Callable[[], object]], repeats: int) -> dict[Name, list[float]]:
    """Return the seconds of each function. Functions run in alternation."""
    seconds: dict[Name, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 2):
        for name, work in works.items():
            elapsed = timed(work)
            if repeat >= 2:  # the first two warm up
                seconds[name].append(elapsed)
    return seconds


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(names: list[str], repeats: int, rotation: float) -> list[dict[str, float | str | bool]]:
    """Return seconds and ratios. Methods run in alternation."""
    source, target = clips("source", 0), clips("target", 1)
    steps = {name: Step(name, source, target, rotation) for name in dict.fromkeys([REFERENCE, *names])}
    seconds = in_turns(steps, repeats)
    rows: list[dict[str, float | str | bool]] = []
    for name, step in steps.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[REFERENCE], strict=True))
        reference = statistics.median(seconds[REFERENCE])
        between = getattr(step.method.arguments, "round_epochs", 1)
        with_epoch = ratio + step.epoch_seconds / between / reference
        median = statistics.median(seconds[name])
        rows.append(
            {"method": name, "source": step.source is not None, "ms": 1e3 * median, "ratio": ratio, "all": with_epoch}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help="default: all methods that use no target labels")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--rotation", type=float, default=180.0, help="rotation augmentation of all methods, in degrees"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    unknown = [name for name in args.methods if name not in (*trained(), *methods_of(TestTimeMethod))]
    if unknown:
        parser.error(f"{', '.join(unknown)}: expected training methods without target labels, or test-time methods.")
    steps = [name for name in trained() if name in args.methods or not args.methods]
    tests = [name for name in methods_of(TestTimeMethod) if name in args.methods or not args.methods]
    measured = {
        "steps": measure(steps, args.repeats, args.rotation) if steps else [],
        "tests": measure_tests(tests, args.repeats) if tests else [],
    }
    show_steps(measured["steps"], args.threads)
    show_tests(measured["tests"], args.threads)
    if args.json:
        args.json.write_text(json.dumps(measured, indent=1), encoding="utf-8")


def trained() -> list[str]:
    """Return the training methods that use no target labels."""
    classes = {name: ADAPTATIONS.load(name) for name in methods_of(TrainingMethod)}
    return [name for name, method in classes.items() if method.has_epochs and not method.uses_target_labels]


def show_steps(rows: list[dict[str, float | str | bool]], threads: int) -> None:
    table = Table(title=f"training step, {CLIPS} clips per domain, {threads} threads", title_justify="left")
    for heading in ("method", "source clips", "ms", "× source-only", "including work per epoch"):
        table.add_column(heading, justify="left" if heading in ("method", "source clips") else "right")
    for row in rows:
        figures = [f"{row['ms']:.0f}", f"{row['ratio']:.2f}", f"{row['all']:.2f}"]
        table.add_row(str(row["method"]), "yes" if row["source"] else "no", *figures)
    if rows:
        Console().print(table)


def show_tests(rows: list[dict[str, float | str]], threads: int) -> None:
    table = Table(title=f"prediction at test time, {CLIPS} clips, {threads} threads", title_justify="left")
    for heading in ("method", "ms", "× one forward pass"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row in rows:
        table.add_row(str(row["method"]), f"{row['ms']:.0f}", f"{row['ratio']:.2f}")
    if rows:
        Console().print(table)


if __name__ == "__main__":
    main()
