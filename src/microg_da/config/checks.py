"""What the values of a configuration may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from microg_da.config.schema import AugmentConfig, Config
from microg_da.errors import InputError, unknown_name

VALIDATOR = "validator:"
IMPOSSIBLE_WINDOWS = ("clamp", "refuse")
SELECTIONS = ("last", "source", "oracle")
STARTS = ("source", "scratch")
SCHEDULES = ("cosine", "constant", "steps")
OPTIMIZERS = ("adamw", "sgd")
PROTOCOLS = ("published", "corrected")
SIZES = ("given", "published")
LOOKS = ("real", "simulated", "any")
ROLL_POOLINGS = ("c4", "c8")
ROTATION_DISTRIBUTIONS = ("uniform", "von_mises", "fixed")
ROTATION_BOXES = ("ellipse", "rectangle")
ROTATION_FILLS = ("reflect", "edge", "circle")
LOGGERS = ("csv", "wandb", "tensorboard")


def check_config(config: Config, origins: Mapping[str, str] | None = None) -> None:
    """Refuse impossible numbers and choices. Names of registries, files and hardware: ``training/preflight.py``.

    Args:
        config: the resolved configuration.
        origins: where each key was last set (a file, the command line), for the message.
    """

    def where(key: str) -> str:
        return (origins or {}).get(key, "configuration")

    def among(key: str, value: str, valid: Iterable[str]) -> None:
        if value not in (valid := list(valid)):
            raise unknown_name(key, value, valid, where(key))

    among("model.impossible_window", config.model.impossible_window, IMPOSSIBLE_WINDOWS)
    among("target_supervised.start", config.target_supervised.start, STARTS)
    among("training.schedule", config.training.schedule, SCHEDULES)
    among("training.optimizer", config.training.optimizer, OPTIMIZERS)
    among("evaluation.protocol", config.evaluation.protocol, PROTOCOLS)
    if config.protocol is not None:
        among("protocol", config.protocol, PROTOCOLS)
    among("data.sizes", config.data.sizes, SIZES)
    among("synthetic.look", config.synthetic.look, LOOKS)
    if config.model.roll_pooling is not None:
        among("model.roll_pooling", config.model.roll_pooling, ROLL_POOLINGS)
    among("augment.rotation_distribution", config.augment.rotation_distribution, ROTATION_DISTRIBUTIONS)
    among("augment.rotation_box", config.augment.rotation_box, ROTATION_BOXES)
    among("augment.rotation_fill", config.augment.rotation_fill, ROTATION_FILLS)
    for name in config.logger.split(","):
        among("logger", name.strip(), LOGGERS)
    for key, (possible, expected) in _LIMITS.items():
        section, _, leaf = key.rpartition(".")
        value = getattr(getattr(config, section) if section else config, leaf)
        if not possible(value):
            raise InputError(f"{where(key)}: {key}={value} cannot be: expected {expected}.")
    steps, rates = config.training.step_epochs, config.training.relative_lrs
    if len(steps) != len(rates) or steps[:1] != [0] or sorted(steps) != steps:
        raise InputError(
            f"{where('training.step_epochs')}: training.step_epochs={steps} cannot be: expected ascending "
            f"epochs from 0, one for each of training.relative_lrs={rates}."
        )
    _check_rotation(config.augment, where)


def _check_rotation(augment: AugmentConfig, where: Callable[[str], str]) -> None:
    """Refuse a distribution of rolls without its own key, and a key that the distribution would not read."""
    drawn = augment.rotation_distribution
    if drawn != "uniform" and augment.rotation:
        raise InputError(
            f"{where('augment.rotation')}: augment.rotation={augment.rotation:g} is the bound of a uniform roll, and "
            f"augment.rotation_distribution={drawn} has none. Leave one of them out."
        )
    if (drawn == "fixed") != bool(augment.rotation_angles):
        raise InputError(
            f"{where('augment.rotation_angles')}: augment.rotation_angles={augment.rotation_angles} with "
            f"augment.rotation_distribution={drawn}: a list of degrees and the distribution fixed go together."
        )


_LARGEST = 2**32
"""Seeds end here; nothing else that is counted comes close."""


def _at_least(least: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: least <= value < _LARGEST), f"a whole number of at least {least}, below 2³²"


_POSITIVE: tuple[Callable[[Any], bool], str] = (lambda value: 0 < value < float("inf")), "a number above 0"
_FRACTION: tuple[Callable[[Any], bool], str] = (lambda value: 0 <= value < 1), "a number in [0, 1)"

_DEGREES_OR_NONE: tuple[Callable[[Any], bool], str] = (
    (lambda value: value is None or 0 <= value <= 180),
    "degrees in [0, 180], or null",
)

_LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": _at_least(0),
    "data.image_size": _at_least(16),
    "data.num_workers": _at_least(0),
    "data.train_sides": (
        (lambda value: value is None or (len(value) == 2 and 0 < value[0] <= value[1])),
        "[smallest, largest] in pixels, above 0, or null",
    ),
    "data.test_side": ((lambda value: value is None or value >= 16), "at least 16 pixels, or null"),
    "synthetic.seed": _at_least(0),
    "synthetic.train_clips": _at_least(1),
    "synthetic.val_clips": _at_least(1),
    "synthetic.test_clips": _at_least(1),
    "synthetic.workers": _at_least(0),
    "model.num_frames": _at_least(1),
    "model.sampling_rate": _at_least(1),
    "model.dropout": _FRACTION,
    "augment.flip": ((lambda value: 0 <= value <= 1), "a probability in [0, 1]"),
    "augment.colour": _FRACTION,
    "augment.rotation": ((lambda value: 0 <= value <= 180), "degrees in [0, 180]"),
    "augment.rotation_concentration": ((lambda value: 0 <= value < float("inf")), "a number of at least 0"),
    "augment.rotation_spin": ((lambda value: 0 <= value < float("inf")), "degrees of at least 0"),
    "augment.min_visibility": ((lambda value: 0 <= value <= 1), "a fraction in [0, 1]"),
    "augment.scale": (
        (lambda value: len(value) == 2 and 0 < value[0] <= value[1]),
        "[smallest, largest], above 0",
    ),
    "training.epochs": _at_least(1),
    "training.batch_size": _at_least(1),
    "training.cycles": _at_least(1),
    "training.lr": _POSITIVE,
    "training.warmup_epochs": ((lambda value: 0 <= value < float("inf")), "a number of at least 0"),
    "adaptation.rotation": _DEGREES_OR_NONE,
    "target_supervised.rotation": _DEGREES_OR_NONE,
    "target_supervised.epochs": ((lambda value: value is None or value >= 1), "a whole number of at least 1, or null"),
    "adaptation.epochs": _at_least(0),
    "adaptation.cycles": _at_least(1),
    "adaptation.lr": _POSITIVE,
    "training.accumulate": _at_least(1),
    "training.lr_batch_size": ((lambda value: value is None or value >= 1), "a whole number of at least 1, or null"),
    "training.weight_decay": ((lambda value: 0 <= value < float("inf")), "a number of at least 0"),
    "training.warmup_start": ((lambda value: 0 <= value < float("inf")), "a number of at least 0"),
    "training.validate_every": _at_least(1),
    "training.max_batches_per_epoch": (
        (lambda value: value is None or value >= 1),
        "a whole number of at least 1, or null",
    ),
    "evaluation.batch_size": _at_least(1),
}
