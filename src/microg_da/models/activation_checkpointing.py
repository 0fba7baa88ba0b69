"""Activation checkpointing: a stage stores only its input and recomputes activations in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from microg_da.models.backbone import Backbone, StageOutput


class _Checkpointed:
    """Mixed into the class of a stage."""

    def forward(self, *inputs: StageOutput) -> StageOutput:
        """Compute the forward pass of the stage, with less memory in training."""
        if not (self.training and torch.is_grad_enabled()):  # type: ignore[attr-defined]
            output: StageOutput = super().forward(*inputs)  # type: ignore[misc]
            return output
        return checkpoint(self._forward, *inputs, use_reentrant=False, context_fn=self._contexts)

    def _forward(self, *inputs: StageOutput) -> StageOutput:
        # SlowFast's stages write their output into the input list, of which the second pass needs the original.
        fresh = (list(item) if isinstance(item, list) else item for item in inputs)
        output: StageOutput = super().forward(*fresh)  # type: ignore[misc]
        return output

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(self)  # type: ignore[arg-type]


@cache
def _checkpointed(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Checkpointed{kind.__name__}", (_Checkpointed, kind), {})


def checkpoint_stages(backbone: Backbone) -> None:
    """Make all stages of a backbone recompute activations, in place; names, weights and gradients are unchanged."""
    for name in backbone.stages:
        stage = backbone.get_submodule(name)
        if not isinstance(stage, _Checkpointed):
            stage.__class__ = _checkpointed(type(stage))  # type: ignore[arg-type]


def has_checkpoints(backbone: Backbone) -> bool:
    """Whether :func:`checkpoint_stages` was called for this backbone."""
    return any(isinstance(backbone.get_submodule(name), _Checkpointed) for name in backbone.stages)


@contextmanager
def _statistics_kept(stage: nn.Module) -> Iterator[None]:
    """Keep running statistics unchanged in the second pass, which processes the same clips."""
    layers = [layer for layer in stage.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    kept = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, kept, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count
