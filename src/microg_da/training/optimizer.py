"""The optimiser of a stage."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from microg_da.config import TrainingConfig
from microg_da.models.adapters import learning_rate_scales


def build_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """SGD with Nesterov momentum or AdamW; biases and normalisation layers are not decayed.

    With ``layer_decay`` below 1 every stage of the backbone learns that much slower than the one after it.
    """
    scales = learning_rate_scales(module, config.layer_decay)
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
