"""The optimiser of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, AdamW, Optimizer

from microg_da.config import TrainingConfig
from microg_da.models.adapters import learning_rate_scales


def scaled_to_batch(config: TrainingConfig, processes: int) -> TrainingConfig:
    """Scale the learning rate in proportion to the clips of a step, if ``lr_batch_size`` is set.

    Args:
        config: the stage.
        processes: number of processes that share a step. Each reads ``batch_size`` clips ``accumulate`` times.
    """
    if config.lr_batch_size is None:
        return config
    return replace(config, lr=config.lr * (clips_per_step(config, processes) / config.lr_batch_size))


def clips_per_step(config: TrainingConfig, processes: int) -> int:
    """Return the number of labelled clips in a step of the optimiser over all processes."""
    return config.batch_size * config.accumulate * processes


def build_optimizer(
    module: nn.Module, config: TrainingConfig, part_scales: Mapping[str, float] | None = None
) -> Optimizer:
    """Build SGD with Nesterov momentum or AdamW, without weight decay of biases and normalisation layers.

    With ``decay_biases`` only batch normalisation has no weight decay, as in PySlowFast.

    With ``layer_decay`` below 1, the learning rate of each backbone stage is this factor times that of the next stage.

    Args:
        module: the module whose parameters are trained.
        config: the settings of the stage.
        part_scales: factors of the learning rate, by the name of a direct child of ``module``.
    """
    scales = learning_rate_scales(module, config.layer_decay)
    for name in scales:
        scales[name] *= (part_scales or {}).get(name.partition(".")[0], 1.0)
    spared = _batch_norm_parameters(module)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decayed = id(parameter) not in spared if config.decay_biases else parameter.ndim > 1
            key = scales[name], decayed
            groups.setdefault(key, []).append(parameter)
    options = [
        {"params": parameters, "lr": scale * config.lr, "weight_decay": config.weight_decay if decayed else 0.0}
        for (scale, decayed), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return SGD(options, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return AdamW(options, lr=config.lr)


def _batch_norm_parameters(module: nn.Module) -> set[int]:
    """Return the ids of the parameters of batch normalisation."""
    layers = (layer for layer in module.modules() if isinstance(layer, _BatchNorm))
    return {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
