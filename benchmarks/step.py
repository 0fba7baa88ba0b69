"""Cost of a training step and an inference step of a detector, for each optimisation separately.

    python benchmarks/step.py --models x3d_s_13x6 slow_r50_8x8 --variants plain default [--threads 1 2] [--json FILE]

A training step consists of forward pass, backward pass and optimiser, on a uint8 batch on the device. An inference step
is a forward pass. The steps of all variants run in alternation, so other programs affect all variants equally. The
program compares medians. Variants:

    plain           PyTorch's layers in contiguous memory, fp32: the network as pytorchvideo builds it
    channels_last   the same in channels-last memory
    default         as `create_detector` builds it
    bf16, fp16      default under autocast
    compile         default under torch.compile
    checkpointing   default with activation checkpointing (training)
    folded          default with normalisation folded into convolutions (inference)
    frames          default with frame-by-frame convolutions on every device, not only on the CPU
    fused           default with the optimiser's fused kernel (training)
    frozen          default with a frozen backbone
    attentive       default with the attentive head instead of RoIAlign

`+` combines variants: `frozen+attentive+bf16+compile`. Networks of timm, torchvision and transformers need `--frames`
and `--side`. `--options` is JSON for their builders:
`--models hf:videomae --options '{"config": {"hidden_size": 384}}'`.

`kept` is the memory that the forward pass stores for the backward pass, `peak` the peak memory of the device. A large
matrix product, in bf16 on a GPU and in fp32 on a CPU, runs in alternation with the steps. `util.` is the fraction of
its rate that a step reaches (model FLOPs utilisation). A training step counts as three forward passes, or as one with a
frozen backbone. With `--loader SOURCE` a loader also feeds the steps, and the table shows the fraction of a step that
waits for the loader.

`--keep-memory` keeps freed memory, as the commands do (`microg_da.allocator`). To measure its effect, run the program
with and without this option in alternation.

On a shared machine, set OMP_WAIT_POLICY=passive. Otherwise threads spin at barriers while another program uses their
core, and a step with two threads is several times slower than with one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from microg_da.allocator import keep_freed_memory
from microg_da.config import TrainingConfig
from microg_da.data.batches import collate_clips
from microg_da.data.sources import open_source
from microg_da.models import create_detector, model_window
from microg_da.models.activation_checkpointing import checkpoint_stages
from microg_da.models.build import without_fetching
from microg_da.models.compilation import compile_backbone
from microg_da.models.convolutions import FrameConv3d
from microg_da.models.cost import count_multiply_adds
from microg_da.models.folding import fold_batch_norm
from microg_da.training.optimizer import build_optimizer
from microg_da.zoo import ZOO

VARIANTS = (
    "plain", "channels_last", "default", "bf16", "fp16", "compile", "checkpointing", "folded", "frames", "fused",
    "frozen", "attentive",
)  # fmt: skip
NOT_FOR = {"train": ("folded",), "inference": ("checkpointing", "fused")}
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
MIB = 2**20


@dataclass
class Row:
    """One line of the table; ``kept`` and ``peak`` in MiB, ``matrix_gflops`` is the rate of a matrix product."""

    model: str
    mode: str
    variant: str
    batch: int
    frames: int
    side: int
    threads: int
    seconds: float
    processor_seconds: float
    clips_per_second: float
    speedup: float
    gflops: float
    matrix_gflops: float
    utilisation: float
    kept: float | None = None
    peak: float | None = None
    loader_share: float | None = None


class Step:
    """One step of one variant."""

    def __init__(
        self, name: str, mode: str, variant: str, batch: Batch, device: str, optimizer: str, options: dict[str, Any]
    ) -> None:
        torch.manual_seed(0)
        self.batch, self.device = batch, device
        self.train = mode == "train"
        parts = variant.split("+")
        self.dtype = next((AUTOCAST[part] for part in parts if part in AUTOCAST), None)
        freeze, head = "all" if "frozen" in parts else 0, "attentive" if "attentive" in parts else "roi"
        detector = create_detector(name, freeze=freeze, head=head, **options).to(device).train(self.train)
        if "plain" in parts or "channels_last" in parts:
            make_plain(detector, torch.channels_last_3d if "channels_last" in parts else torch.contiguous_format)
        if "checkpointing" in parts:
            checkpoint_stages(detector.backbone)
        if "frames" in parts:
            for layer in detector.modules():
                if isinstance(layer, FrameConv3d):
                    layer.devices = frozenset({"cpu", device})
        if "folded" in parts:
            detector = fold_batch_norm(detector, *batch.frames.shape[2:4])
        # The learning rate is too small to change weights: the cost of a step must not depend on the training.
        config = TrainingConfig(optimizer=optimizer, lr=1e-12)
        self.optimizer = build_optimizer(detector, config) if self.train else None
        if "fused" in parts:
            kind = type(self.optimizer)
            self.optimizer = kind(self.optimizer.param_groups, lr=config.lr, fused=True)
        if "compile" in parts:
            compile_backbone(detector.backbone)
        self.detector = detector
        self.scaler = torch.amp.GradScaler(device, enabled="fp16" in parts and self.train and device == "cuda")

    def __call__(self, frames: Tensor | None = None) -> None:
        """Run the forward pass, and in training the backward pass and the optimiser."""
        frames = self.batch.frames if frames is None else frames
        with self.precision(), torch.set_grad_enabled(self.train):
            logits = self.detector(frames, self.batch.boxes, self.batch.clip_index).logits
        if self.optimizer is not None:
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), self.batch.labels)
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.device == "cuda":
            torch.cuda.synchronize()

    def precision(self) -> AbstractContextManager[object]:
        """Return autocast if the variant uses it."""
        return torch.autocast(self.device, self.dtype) if self.dtype else nullcontext()

    def kept(self) -> float:
        """Return the MiB that the forward pass stores for the backward pass, without parameters."""
        storages: dict[int, int] = {}
        own = {parameter.untyped_storage().data_ptr() for parameter in self.detector.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), self.precision():
            output = self.detector(self.batch.frames, self.batch.boxes, self.batch.clip_index)
        del output
        return sum(storages.values()) / MIB


def make_plain(detector: nn.Module, memory_format: torch.memory_format) -> None:
    """Restore the unmodified layers of the libraries."""
    for layer in detector.modules():
        if isinstance(layer, nn.Conv3d):
            layer.__class__ = nn.Conv3d
    detector.backbone.memory_format = memory_format
    detector.backbone.to(memory_format=memory_format)


@dataclass
class Batch:
    """A batch on the device with one person per clip."""

    frames: Tensor
    boxes: Tensor
    clip_index: Tensor
    labels: Tensor

    @classmethod
    def make(cls, size: int, num_frames: int, side: int, device: str) -> Batch:
        """Return a batch of noise. The cost of convolutions does not depend on the pixels."""
        generator = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (size, 3, num_frames, side, side), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[0.2, 0.1, 0.7, 0.9]]).repeat(size, 1) * side
        labels = (torch.rand(size, 50, generator=generator) < 0.05).float()
        return cls(*(tensor.to(device) for tensor in (frames, boxes, torch.arange(size), labels)))


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall-clock and processor seconds of a function."""
    start, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - processor


def matrix_product(device: str) -> tuple[Callable[[], object], float]:
    """Return a large matrix product, in bf16 on a GPU and in fp32 on a CPU, and its FLOPs."""
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return multiply, 2.0 * size**3


def forward_flops(name: str, num_frames: int, side: int, options: dict[str, Any]) -> float:
    """Return the FLOPs of one clip: two for each multiply-add of the backbone."""
    with torch.device("meta"):
        backbone = create_detector(name, **without_fetching(name, options)).backbone
        return 2 * count_multiply_adds(backbone, num_frames, side)


def measure(name: str, mode: str, args: argparse.Namespace) -> list[Row]:
    """Measure one model in one mode. Variants, thread counts and a matrix product alternate."""
    if name not in ZOO and not (args.frames and args.side):
        raise SystemExit(f"{name}: the window and the crop are unknown. Set --frames and --side.")
    num_frames = args.frames or model_window(name).num_frames
    side = args.side or (ZOO[name].crop if mode == "inference" else args.train_side)
    batch = Batch.make(args.batch, num_frames, side, args.device)
    variants = [variant for variant in args.variants if not {*variant.split("+")} & {*NOT_FOR[mode]}]
    steps = {
        variant: Step(name, mode, variant, batch, args.device, args.optimizer, args.options) for variant in variants
    }
    times: dict[tuple[str, int], list[tuple[float, float]]] = {}
    multiply, product = matrix_product(args.device)
    rates: dict[int, list[float]] = {threads: [] for threads in args.threads}
    for repeat in range(args.warmup + args.repeats):
        for threads in args.threads:
            torch.set_num_threads(threads)
            rates[threads].append(product / seconds_of(multiply)[0])
            for variant, step in steps.items():
                if repeat >= args.warmup:
                    times.setdefault((variant, threads), []).append(seconds_of(step))
                elif threads == args.threads[0]:
                    step()
    forward = forward_flops(name, num_frames, side, args.options) * args.batch
    rows = []
    for (variant, threads), measured in times.items():
        seconds, processor = (statistics.median(column) for column in zip(*measured, strict=True))
        reference = times[variants[0], args.threads[0]]
        speedup = statistics.median(theirs[0] / own[0] for own, theirs in zip(measured, reference, strict=True))
        rate = statistics.median(rates[threads])
        flops = forward * (3 if mode == "train" and "frozen" not in variant.split("+") else 1)
        rows.append(Row(
            name, mode, variant, args.batch, num_frames, side, threads, seconds, processor, args.batch / seconds,
            speedup, flops / seconds / 1e9, rate / 1e9, flops / seconds / rate,
        ))  # fmt: skip
    for row in rows:
        step = steps[row.variant]
        if mode == "train" and row.threads == args.threads[0] and "compile" not in row.variant.split("+"):
            row.kept = step.kept()
        if args.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            step()
            row.peak = torch.cuda.max_memory_allocated() / MIB
        if args.loader:
            row.loader_share = loader_share(step, args, num_frames, side)
    return rows


def loader_share(step: Step, args: argparse.Namespace, num_frames: int, side: int) -> float:
    """Return the fraction of a step that waits for the loader."""
    options = {"num_clips": args.loader_clips} if args.loader.startswith("synthetic:") else {}
    clips = open_source(
        args.loader, split="train", taxonomy="microg50", num_frames=num_frames, sampling_rate=2, image_size=side,
        labelled=True, train=True, **options,
    )  # fmt: skip
    workers = {"num_workers": args.workers, "persistent_workers": args.workers > 0}
    loader = DataLoader(
        clips, args.batch, collate_fn=collate_clips, drop_last=True, pin_memory=args.device == "cuda", **workers
    )

    def batches() -> Iterator[Tensor]:
        while True:
            yield from (batch.frames for batch in loader)

    feed = batches()
    step(next(feed).to(args.device, non_blocking=True))
    waits, whole = 0.0, 0.0
    for _ in range(args.repeats):
        start = time.perf_counter()
        frames = next(feed)
        waited = time.perf_counter() - start
        step(frames.to(args.device, non_blocking=True))
        waits, whole = waits + waited, whole + time.perf_counter() - start
    return waits / whole


def show(rows: list[Row]) -> None:
    """Print a table for each model and mode."""
    headings = (
        "variant", "threads", "s", "cpu s", "clips/s", "×", "GFLOP/s", "matrix", "util.", "kept MiB", "peak MiB",
        "loader",
    )  # fmt: skip
    console = Console()
    console.width = max(console.width, 110)  # also in a file
    for (name, mode), group in itertools.groupby(rows, key=lambda row: (row.model, row.mode)):
        group = list(group)
        first = group[0]
        title = f"{name}, {mode}: {first.batch} clips of {first.frames}×{first.side}², medians"
        table = Table(title=title, title_justify="left")
        shown = [cells(row) for row in group]
        used = [i for i in range(len(headings)) if any(line[i] != "–" for line in shown)]
        for i in used:
            table.add_column(headings[i], justify="right" if i else "left")
        for line in shown:
            table.add_row(*(line[i] for i in used))
        console.print(table)


def cells(row: Row) -> list[str]:
    """Return one row as text."""

    def maybe(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return [
        row.variant, str(row.threads),
        f"{row.seconds:.4g}", f"{row.processor_seconds:.4g}", f"{row.clips_per_second:.3g}", f"{row.speedup:.2f}",
        f"{row.gflops:,.0f}", f"{row.matrix_gflops:,.0f}", f"{row.utilisation:.0%}",
        maybe(row.kept, ",.0f"), maybe(row.peak, ",.0f"), maybe(row.loader_share, ".1%"),
    ]  # fmt: skip


def variant_name(text: str) -> str:
    """Check a variant, or several variants combined by ``+``."""
    if unknown := [part for part in text.split("+") if part not in VARIANTS]:
        raise argparse.ArgumentTypeError(f"unknown variant {unknown[0]!r}. Expected: {', '.join(VARIANTS)}.")
    return text


def main(words: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["slow_r50_8x8", "x3d_s_13x6"])
    parser.add_argument("--modes", nargs="+", choices=tuple(NOT_FOR), default=list(NOT_FOR))
    parser.add_argument(
        "--variants",
        nargs="+",
        type=variant_name,
        default=["plain", "default"],
        help="the first variant is the reference",
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--frames", type=int, help="default: the model's window")
    parser.add_argument("--side", type=int, help="default: the model's test crop, and --train-side in training")
    parser.add_argument("--train-side", type=int, default=224)
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--options", type=json.loads, default={}, metavar="JSON", help="arguments for the builders of the models"
    )
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as the commands do")
    parser.add_argument("--loader", metavar="SOURCE", help="also feed the steps by a loader of this data")
    parser.add_argument("--loader-clips", type=int, default=64, help="number of clips of embedded data for --loader")
    parser.add_argument("--workers", type=int, default=0, help="number of worker processes of the loader")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    if args.keep_memory:
        keep_freed_memory()
    rows = [row for name in args.models for mode in args.modes for row in measure(name, mode, args)]
    show(rows)
    if args.json:
        machine = {
            "device": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor(),
            "torch": torch.__version__,
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        }
        content = {"machine": machine, "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
