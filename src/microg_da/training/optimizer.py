"""The optimiser of a stage."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from microg_da.config import TrainingConfig
from microg_da.models.adapters import learning_rate_scales


def build_optimizer(
    module: nn.Module, config: TrainingConfig, part_scales: Mapping[str, float] | None = None
) -> Optimizer:
    """SGD with Nesterov momentum or AdamW; biases and normalisation layers are not decayed.

    With ``layer_decay`` below 1 every stage of the backbone learns that much slower than the one after it.

    Args:
        module: whose parameters are trained.
        config: of the stage.
        part_scales: factors of the learning rate, by the name of a direct part of ``module``.
    """
    scales = learning_rate_scales(module, config.layer_decay)
    for name in scales:
        scales[name] *= (part_scales or {}).get(name.partition(".")[0], 1.0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            key = scales[name], parameter.ndim > 1
            groups.setdefault(key, []).append(parameter)
    options = [
        {"params": parameters, "lr": scale * config.lr, "weight_decay": config.weight_decay if decayed else 0.0}
        for (scale, decayed), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return SGD(options, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return AdamW(options, lr=config.lr)
