"""Memory of a training step of each recipe, counted without a GPU and without computation.

    python benchmarks/recipe_memory.py [microg4m/slow_r50_8x8 …] [KEY=VALUE …]

The network runs on meta tensors with the recipe's batch, crop, window and precision. The program counts each storage
that autograd keeps for the backward pass once, and adds weights, gradients and the optimiser state in single precision.
It does not count the workspace of convolutions, fragmentation of the allocator and CUDA itself. The memory on a GPU is
about a fifth larger.
"""

from __future__ import annotations

import argparse
import fnmatch
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from microg_da.config import Config, load_config
from microg_da.config.experiments import experiment_files
from microg_da.models.backbone import Backbone
from microg_da.runs.detectors import build_detector

GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """GiB of one process: activations, and weights with gradients and optimiser state."""

    activations: float
    weights: float


def measure(config: Config) -> Memory:
    """Return the memory of a step of the stage that the recipe trains."""
    half = "16" in config.trainer.precision
    with torch.device("meta"):
        detector = build_detector(config).train()
        frames = torch.empty(clips_at_once(config), 3, config.model.num_frames, *[config.data.image_size] * 2)
    number = sum(parameter.numel() for parameter in detector.parameters())
    if half:
        detector, frames = detector.bfloat16(), frames.bfloat16()
    stages = _kept_by_stages(detector.backbone, frames)
    kept = sum(stage.inside for stage in stages)
    if config.training.activation_checkpointing:
        # Every stage keeps its input. One stage at a time is computed again.
        kept = sum(stage.output for stage in stages) + max(stage.inside for stage in stages)
    # Weights, gradients, the momentum (two for AdamW), and the teacher of adaptation methods.
    copies = 3 + (config.training.optimizer == "adamw") + (config.adaptation.name != "source_only")
    return Memory(kept / GIB, copies * number * 4 / GIB)


def clips_at_once(config: Config) -> int:
    """Return the number of clips of a forward pass: a batch of each domain of the stage."""
    return config.training.batch_size * (1 if config.adaptation.name == "source_only" else 2)


@dataclass
class _Stage:
    inside: int
    output: int


def _kept_by_stages(backbone: Backbone, frames: torch.Tensor) -> list[_Stage]:
    """Return the bytes that autograd keeps for each stage, without weights, and the bytes of its output."""
    weights = {tensor.untyped_storage()._cdata for tensor in (*backbone.parameters(), *backbone.buffers())}
    kept: dict[int, int] = {}
    stages: list[_Stage] = []

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    def after(module: torch.nn.Module, inputs: object, output: object) -> None:
        tensors = [output] if isinstance(output, torch.Tensor) else output
        size = sum(item.untyped_storage().nbytes() for item in tensors if isinstance(item, torch.Tensor))
        stages.append(_Stage(sum(kept.values()) - sum(stage.inside for stage in stages), size))

    for name in backbone.stages:
        backbone.get_submodule(name).register_forward_hook(after)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        maps = backbone(frames)
    assert maps
    return stages


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="EXPERIMENT|KEY=VALUE")
    given = parser.parse_args(words).words
    patterns = [word for word in given if "=" not in word] or ["microg4m/*", "ava/*", "ava2microg/*"]
    names = [name for name in experiment_files() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    table = Table("recipe")
    for title in ("clips per pass", "activations, GiB", "weights …, GiB", "total, GiB"):
        table.add_column(title, justify="right")
    table.columns[0].no_wrap = True
    for name in names:
        config = load_config(name, [word for word in given if "=" in word])
        if config.checkpoint and config.adaptation.name == "source_only":
            continue
        memory = measure(config)
        total = memory.activations + memory.weights
        sizes = (f"{gib:.1f}" for gib in (memory.activations, memory.weights, total))
        table.add_row(name, str(clips_at_once(config)), *sizes)
    Console().print(table)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
