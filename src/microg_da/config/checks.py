"""Checks of the values of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from microg_da.config.schema import AugmentConfig, Config
from microg_da.errors import InputError, unknown_name

VALIDATOR = "validator:"
SELECTIONS = ("last", "source", "oracle")
ROLL_POOLINGS = ("c4", "c8")
HEADS = ("roi", "attentive")
LOGGERS = ("csv", "wandb", "tensorboard")

CHOICES: dict[str, tuple[str, ...]] = {
    "protocol": ("published", "corrected"),
    "data.sizes": ("given", "published"),
    "synthetic.look": ("real", "simulated", "any"),
    "model.window": ("architecture", "published"),
    "model.impossible_window": ("clamp", "refuse"),
    "model.roll_pooling": ROLL_POOLINGS,
    "model.head": HEADS,
    "augment.rotation_distribution": ("uniform", "von_mises", "fixed"),
    "augment.rotation_box": ("ellipse", "rectangle"),
    "augment.rotation_fill": ("reflect", "edge", "circle"),
    "training.optimizer": ("adamw", "sgd"),
    "training.schedule": ("cosine", "constant", "steps"),
    "target_supervised.start": ("source", "scratch"),
    "evaluation.protocol": ("published", "corrected"),
}
"""The valid values of keys that have a fixed choice. Keys with an optional type may also be null."""


def check_config(config: Config, origins: Mapping[str, str] | None = None) -> None:
    """Check numbers and choices. ``training/preflight.py`` checks registered names, files and hardware.

    Args:
        config: the resolved configuration.
        origins: where each key was last set (a file or the command line), for error messages.
    """

    def where(key: str) -> str:
        return (origins or {}).get(key, "configuration")

    def among(key: str, value: str, valid: Iterable[str]) -> None:
        if value not in (valid := list(valid)):
            raise unknown_name(key, value, valid, where(key))

    for key, choices in CHOICES.items():
        if (value := value_of(config, key)) is not None:
            among(key, value, choices)
    for name in config.logger.split(","):
        among("logger", name.strip(), LOGGERS)
    for key, limit in LIMITS.items():
        if not limit.allows(value := value_of(config, key)):
            raise InputError(f"{where(key)}: {key}={value} is invalid: expected {limit.expected}.")
    steps, rates = config.training.step_epochs, config.training.relative_lrs
    if len(steps) != len(rates) or steps[:1] != [0] or sorted(steps) != steps:
        raise InputError(
            f"{where('training.step_epochs')}: training.step_epochs={steps} is invalid: expected ascending epochs "
            f"from 0, one for each value of training.relative_lrs={rates}."
        )
    if config.model.compile and config.training.activation_checkpointing:
        raise InputError(
            f"{where('model.compile')}: model.compile=true: torch.compile chooses which activations to "
            "recompute. Set training.activation_checkpointing=false."
        )
    _check_rotation(config.augment, where)


def _check_rotation(augment: AugmentConfig, where: Callable[[str], str]) -> None:
    """Check that the keys of a roll distribution are complete and that none is unused."""
    drawn = augment.rotation_distribution
    if drawn != "uniform" and augment.rotation:
        raise InputError(
            f"{where('augment.rotation')}: augment.rotation={augment.rotation:g} is the bound of a uniform roll, and "
            f"augment.rotation_distribution={drawn} has no bound. Remove one of them."
        )
    if (drawn == "fixed") != bool(augment.rotation_angles):
        raise InputError(
            f"{where('augment.rotation_angles')}: augment.rotation_angles={augment.rotation_angles} with "
            f"augment.rotation_distribution={drawn}: only the distribution fixed takes a list of degrees, and needs it."
        )


@dataclass(frozen=True)
class Limit:
    """The bounds of a number, or of each number in a list.

    Attributes:
        expected: a description of the bounds, for error messages.
        low: the lower bound; None for no lower bound.
        high: the upper bound; None for any finite number.
        above_low: whether the lower bound is excluded.
        below_high: whether the upper bound is excluded.
        or_null: whether null is valid.
        pair: whether the value is a list of two numbers in ascending order.
    """

    expected: str
    low: float | None = None
    high: float | None = None
    above_low: bool = False
    below_high: bool = False
    or_null: bool = False
    pair: bool = False

    def allows(self, value: Any) -> bool:
        """Return whether a value of the key's type is within the bounds; NaN is not."""
        if value is None:
            return self.or_null
        if self.pair:
            return len(value) == 2 and value[0] <= value[1] and all(map(self._inside, value))
        return self._inside(value)

    def _inside(self, number: float) -> bool:
        low, high = self.low, self.high
        above = low is None or (number > low if self.above_low else number >= low)
        below = number < float("inf") if high is None else (number < high if self.below_high else number <= high)
        return above and below


def value_of(config: Config, key: str) -> Any:
    """Return the value of a dotted key."""
    section, _, leaf = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, leaf)


_LARGEST = 2**32
"""The upper bound of seeds and counts."""


def _at_least(least: int, *, or_null: bool = False) -> Limit:
    expected = f"a whole number of at least {least}, below 2³²" + (", or null" if or_null else "")
    return Limit(expected, least, _LARGEST, below_high=True, or_null=or_null)


_POSITIVE = Limit("a number above 0", 0, above_low=True)
_NOT_NEGATIVE = Limit("a number of at least 0", 0)
_FRACTION = Limit("a number in [0, 1)", 0, 1, below_high=True)
_DEGREES = Limit("degrees in [0, 180]", 0, 180)
_DEGREES_OR_NULL = Limit("degrees in [0, 180], or null", 0, 180, or_null=True)

LIMITS: dict[str, Limit] = {
    "seed": _at_least(0),
    "data.image_size": _at_least(16),
    "data.num_workers": _at_least(0),
    "data.feature_draws": _at_least(1),
    "data.train_sides": Limit("[smallest, largest] in pixels, above 0, or null", 1, or_null=True, pair=True),
    "data.test_side": _at_least(16, or_null=True),
    "synthetic.seed": _at_least(0),
    "synthetic.train_clips": _at_least(1),
    "synthetic.val_clips": _at_least(1),
    "synthetic.test_clips": _at_least(1),
    "synthetic.workers": _at_least(0),
    "model.num_frames": _at_least(1),
    "model.sampling_rate": _at_least(1),
    "model.dropout": _FRACTION,
    "augment.flip": Limit("a probability in [0, 1]", 0, 1),
    "augment.colour": _FRACTION,
    "augment.rotation": _DEGREES,
    "augment.rotation_concentration": _NOT_NEGATIVE,
    "augment.rotation_spin": Limit("degrees of at least 0", 0),
    "augment.min_visibility": Limit("a fraction in [0, 1]", 0, 1),
    "augment.scale": Limit("[smallest, largest], above 0", 0, above_low=True, pair=True),
    "training.epochs": _at_least(1),
    "training.batch_size": _at_least(1),
    "training.cycles": _at_least(1),
    "training.lr": _POSITIVE,
    "training.warmup_epochs": _NOT_NEGATIVE,
    "adaptation.rotation": _DEGREES_OR_NULL,
    "target_supervised.rotation": _DEGREES_OR_NULL,
    "target_supervised.epochs": _at_least(1, or_null=True),
    "adaptation.epochs": _at_least(0),
    "adaptation.cycles": _at_least(1),
    "adaptation.lr": _POSITIVE,
    "training.accumulate": _at_least(1),
    "training.lr_batch_size": _at_least(1, or_null=True),
    "training.weight_decay": _NOT_NEGATIVE,
    "training.warmup_start": _NOT_NEGATIVE,
    "training.validate_every": _at_least(1),
    "training.max_batches_per_epoch": _at_least(1, or_null=True),
    "evaluation.batch_size": _at_least(1),
}
"""The bounds of numbers."""
