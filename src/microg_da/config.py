"""The typed schema of an experiment: loading, overriding, checking, saving.

One YAML file is one experiment. A key that does not exist, a value of the wrong type or an impossible number
raises :class:`InputError` that names the key, the file and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microg_da.errors import InputError, first_line, nearest, unknown_name
from microg_da.experiments import COMMAND_LINE, find_experiment, parse_overrides, read_layers
from microg_da.files import write_text


@dataclass
class DataConfig:
    """Where clips come from. A SOURCE reads ``synthetic:earth``, ``ava:/path``, ``microg4m:/path?domain=real``.

    ``decode`` and ``on_error`` hold for data read from files, unless a SOURCE says otherwise.
    """

    source: str = "synthetic:earth"
    target: str = "synthetic:microgravity"
    taxonomy: str = "microg50"
    image_size: int = 96
    decode: str = "auto"
    on_error: str = "raise"
    num_workers: int = 0


@dataclass
class SyntheticConfig:
    """How much the embedded simulator draws, per domain; ``look`` is real, simulated or any."""

    train_clips: int = 1200
    val_clips: int = 200
    test_clips: int = 400
    look: str = "any"
    seed: int = 0
    workers: int = 2
    cache: bool = True


@dataclass
class ModelConfig:
    """The detector, the weights it starts from, and its window: ``num_frames`` T, ``sampling_rate`` τ.

    A window that is not set is the one that the named model was made for; ``window: published`` takes the one that
    the benchmark gave it. One that is longer than the clips repeats their ends and the run says so
    (``impossible_window: clamp``), or is refused (``refuse``). ``roi_stride``, ``freeze``, ``adapters``,
    ``roll_pooling`` and ``allow_missing`` are those of :func:`~microg_da.models.create_detector`.
    """

    name: str = "r2plus1d_tiny"
    checkpoint: str | None = None
    allow_missing: list[str] = field(default_factory=list)
    window: str = "architecture"
    impossible_window: str = "clamp"
    num_frames: int = 8
    sampling_rate: int = 2
    dropout: float = 0.5
    roi_stride: Any = "true"
    freeze: Any = 0
    adapters: str | None = None
    adapter_rank: int = 8
    roll_pooling: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class AugmentConfig:
    """Train-time augmentation, frames and boxes together.

    ``flip`` is a probability, ``scale`` the range of zoom, ``colour`` the largest relative change of brightness,
    contrast and saturation. People of whose box less than ``min_visibility`` (a fraction of its area) is left inside
    the picture are dropped with their labels.

    The roll of a clip is drawn by ``rotation_distribution``: ``uniform`` up to ``rotation`` degrees either way (180:
    any), ``von_mises`` about ``rotation_mean`` with ``rotation_concentration`` κ, or ``fixed``, one of
    ``rotation_angles``. ``rotation_spin`` is the largest further turn through the window, in degrees.
    ``rotation_box`` is ``ellipse`` or ``rectangle``, ``rotation_fill`` ``reflect``, ``edge`` or ``circle``: see
    ``docs/rotation.md``.
    """

    flip: float = 0.5
    scale: list[float] = field(default_factory=lambda: [0.9, 1.15])
    colour: float = 0.2
    rotation: float = 0.0
    rotation_distribution: str = "uniform"
    rotation_mean: float = 0.0
    rotation_concentration: float = 4.0
    rotation_angles: list[float] = field(default_factory=list)
    rotation_spin: float = 0.0
    rotation_box: str = "ellipse"
    rotation_fill: str = "reflect"
    min_visibility: float = 0.0

    def with_rotation(self, degrees: float | None) -> AugmentConfig:
        """The same with a uniform roll of up to ``degrees``, whatever the distribution was; None changes nothing."""
        return self if degrees is None else replace(self, rotation=degrees, rotation_distribution="uniform")


@dataclass
class TrainingConfig:
    """One training stage: how long, with which optimiser and schedule.

    ``schedule`` is ``cosine``, ``constant`` or ``steps``; ``steps`` multiplies ``lr`` by ``relative_lrs[i]`` from
    epoch ``step_epochs[i]`` on. All begin with a linear warm-up from ``warmup_start * lr``. With ``cycles`` the whole
    schedule is run through so many times (Loshchilov & Hutter, "SGDR", ICLR 2017).
    """

    epochs: int = 12
    batch_size: int = 16
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: str = "cosine"
    cycles: int = 1
    warmup_epochs: float = 1.0
    warmup_start: float = 0.01
    step_epochs: list[int] = field(default_factory=lambda: [0, 20, 30, 40])
    relative_lrs: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.01, 0.001])
    clip_gradient_norm: float | None = None
    layer_decay: float = 1.0


@dataclass
class AdaptationConfig:
    """The adaptation, its own arguments, and how its stage differs from :class:`TrainingConfig`.

    ``cycles`` is that of the stage's schedule, e.g. one for each round of self-training.
    ``test_time`` names a second method that acts at test time on what the first has trained, e.g. ``roll_tta``.
    ``rotation`` is the largest roll in degrees in the adaptation stage, in place of ``augment.rotation``: the source
    model can stay upright while the adapted one sees every angle. It needs a method that trains.
    """

    name: str = "dann"
    args: dict[str, Any] = field(default_factory=dict)
    epochs: int = 4
    lr: float = 1e-3
    cycles: int = 1
    rotation: float | None = None
    test_time: str | None = None
    test_time_args: dict[str, Any] = field(default_factory=dict)


@dataclass
class TargetSupervisedConfig:
    """How the upper bound's stage differs from :class:`TrainingConfig`; None: not at all.

    The bound shows what target labels could give. With ``start: source`` it is the source model, fine-tuned on
    labelled target clips, as the benchmark's own models are fine-tuned from Kinetics; with ``start: scratch`` it has
    seen no source label.
    """

    start: str = "source"
    epochs: int | None = None
    rotation: float | None = None


@dataclass
class EvaluationConfig:
    """How scores become numbers."""

    protocol: str = "corrected"
    batch_size: int = 32


@dataclass
class TrainerConfig:
    """Handed to ``pytorch_lightning.Trainer`` untouched."""

    accelerator: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"


@dataclass
class Config:
    """Everything that decides the outcome of a run.

    ``checkpoint`` is a detector already trained on the source domain: with it the source stage loads instead of
    training. ``selection`` is ``last``, ``source`` (best source validation mAP), ``validator:NAME`` (best by a
    label-free score) or ``oracle`` (best target validation mAP, stamped on every output). ``bounds`` also trains the
    target-supervised upper bound. ``oracle: true`` declares that target labels chose some of these values, as a sweep
    by a target metric does, and is stamped alike.
    """

    experiment: str = "custom"
    description: str = ""
    seed: int = 0
    bounds: bool = False
    selection: str = "last"
    oracle: bool = False
    logger: str = "csv"
    checkpoint: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    target_supervised: TargetSupervisedConfig = field(default_factory=TargetSupervisedConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    @property
    def uses_target_labels(self) -> bool:
        """Whether target labels take part in training or choosing the adapted model: the run is an oracle's."""
        from microg_da.adaptation import ORACLES

        return self.oracle or self.selection == "oracle" or self.adaptation.name in ORACLES


def load_config(
    experiment: str | None = None, overrides: Sequence[str] = (), *, config: str | Path | None = None
) -> Config:
    """Read one experiment, apply overrides and check the result.

    Args:
        experiment: a name in ``experiments/`` or the path of a YAML file.
        overrides: ``key=value``, ``--key=value`` or ``--key``, ``value``, dotted keys; later ones win.
        config: a resolved ``config.yaml`` of an earlier run, instead of ``experiment``.

    Raises:
        InputError: naming the key, the file and the nearest valid name.
    """
    path = Path(config) if config is not None else find_experiment(experiment or "ava2microg")
    layers = [*read_layers(path, _is_free), (COMMAND_LINE, parse_overrides(overrides))]
    merged = OmegaConf.structured(Config(experiment=path.stem))
    origins = {}
    for where, flat in layers:
        # Names first: an argument beside a name is meant for it, one of an earlier layer for another method.
        layer = [(_canonical(key, value, where), value) for key, value in flat.items()]
        for key, value in sorted(layer, key=lambda item: item[0] not in _OWNERS):
            if key in _OWNERS and OmegaConf.select(merged, key) != value:
                OmegaConf.update(merged, _OWNERS[key], {}, merge=False)
            _set(merged, key, value, where)
            origins[key] = where
    resolved = _to_object(merged, str(path))
    _set_window(resolved.model, origins)
    check_config(resolved, origins)
    return resolved


def _set_window(model: ModelConfig, origins: Mapping[str, str]) -> None:
    from microg_da.models import model_window

    window = model_window(model.name, model.window)
    for key in ("num_frames", "sampling_rate"):
        if window is not None and f"model.{key}" not in origins:
            setattr(model, key, getattr(window, key))


def save_config(config: Config, path: str | Path) -> Path:
    """Write the resolved configuration, so that ``fit --config`` repeats the run."""
    return write_text(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


# ------------------------------------------------------------------------------------------------ the schema


def schema_keys(schema: type = Config, prefix: str = "") -> list[str]:
    """Every dotted key of the schema, leaves only."""
    keys = []
    for item in fields(schema):
        nested = _nested(schema, item.name)
        keys += schema_keys(nested, f"{prefix}{item.name}.") if nested else [f"{prefix}{item.name}"]
    return keys


def _nested(schema: type, name: str) -> type | None:
    """The dataclass of a section, None for a leaf."""
    item = next(item for item in fields(schema) if item.name == name)
    return item.default_factory if is_dataclass(item.default_factory) else None


def _sections() -> list[str]:
    return [item.name for item in fields(Config) if _nested(Config, item.name)]


_OWNERS = {
    "model.name": "model.options",
    "adaptation.name": "adaptation.args",
    "adaptation.test_time": "adaptation.test_time_args",
}
"""Names, and the keys whose content belongs to them: any key may stand there, and the model or method checks it."""


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _OWNERS.values())


def _set(config: DictConfig, key: str, value: Any, where: str) -> None:
    try:
        OmegaConf.update(config, key, value, force_add=_is_free(key), merge=not isinstance(value, list))
    except OmegaConfBaseException as error:
        raise InputError(f"{where}: {key}={value!r} does not fit: expected {_expected(key)}.") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {key}={value!r} does not fit: {first_line(error)}") from error


def _canonical(key: str, value: Any, where: str) -> str:
    """The key as the schema has it; ``adaptation=dann`` is short for ``adaptation.name=dann``."""
    if key in _sections():
        nested = _nested(Config, key)
        if nested and not isinstance(value, dict) and any(item.name == "name" for item in fields(nested)):
            return f"{key}.name"
        if value is None or value == {}:
            return key
        raise InputError(
            f"{where}: {key!r} is a section. Set one of its keys: "
            f"{', '.join(name for name in schema_keys() if name.startswith(f'{key}.'))}."
        )
    if _is_free(key) or key in schema_keys():
        return key
    valid = schema_keys()
    # A right name without its section is the commonest slip after a misspelling: `epochs=3`.
    guesses = [name for name in valid if name.rsplit(".", 1)[-1] == key]
    if not guesses and (guess := nearest(key, valid)):
        guesses = [guess]
    if not guesses:
        raise InputError(f"{where}: unknown key {key!r}. Sections: {', '.join(_sections())}.")
    raise InputError(f"{where}: unknown key {key!r}. Did you mean {' or '.join(map(repr, guesses))}?")


def _expected(key: str) -> str:
    section, _, leaf = key.rpartition(".")
    schema = _nested(Config, section) if section else Config
    kind = {item.name: item.type for item in fields(schema or Config)}.get(leaf, "another type")
    return str(kind)


def _to_object(merged: DictConfig, where: str) -> Config:
    try:
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise InputError(f"{where}: {first_line(error)}") from error


VALIDATOR = "validator:"
IMPOSSIBLE_WINDOWS = ("clamp", "refuse")
SELECTIONS = ("last", "source", "oracle")
STARTS = ("source", "scratch")
SCHEDULES = ("cosine", "constant", "steps")
OPTIMIZERS = ("adamw", "sgd")
PROTOCOLS = ("published", "corrected")
LOOKS = ("real", "simulated", "any")
ROLL_POOLINGS = ("c4", "c8")
ROTATION_DISTRIBUTIONS = ("uniform", "von_mises", "fixed")
ROTATION_BOXES = ("ellipse", "rectangle")
ROTATION_FILLS = ("reflect", "edge", "circle")
LOGGERS = ("csv", "wandb", "tensorboard")


def check_config(config: Config, origins: Mapping[str, str] | None = None) -> None:
    """Refuse names that do not exist and numbers that cannot be, before anything is started.

    Args:
        config: the resolved configuration.
        origins: where each key was last set (a file, the command line), for the message.
    """
    from microg_da.adaptation import ADAPTATIONS
    from microg_da.models import MODELS
    from microg_da.validation import VALIDATORS

    def where(key: str) -> str:
        return (origins or {}).get(key, "configuration")

    def among(key: str, value: str, valid: Iterable[str]) -> None:
        if value not in (valid := list(valid)):
            raise unknown_name(key, value, valid, where(key))

    among("adaptation.name", config.adaptation.name, ADAPTATIONS)
    if ":" not in config.model.name:  # timm:NAME names an encoder of a library, which knows its own names
        among("model.name", config.model.name, MODELS)
    if config.adaptation.test_time is not None:
        among("adaptation.test_time", config.adaptation.test_time, ADAPTATIONS)
    among("model.impossible_window", config.model.impossible_window, IMPOSSIBLE_WINDOWS)
    among("selection", config.selection, [*SELECTIONS, *(f"{VALIDATOR}{name}" for name in VALIDATORS)])
    among("target_supervised.start", config.target_supervised.start, STARTS)
    among("training.schedule", config.training.schedule, SCHEDULES)
    among("training.optimizer", config.training.optimizer, OPTIMIZERS)
    among("evaluation.protocol", config.evaluation.protocol, PROTOCOLS)
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


def _at_least(least: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value >= least), f"a whole number of at least {least}"


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
    "training.warmup_epochs": ((lambda value: value >= 0), "a number of at least 0"),
    "adaptation.rotation": _DEGREES_OR_NONE,
    "target_supervised.rotation": _DEGREES_OR_NONE,
    "target_supervised.epochs": ((lambda value: value is None or value >= 1), "a whole number of at least 1, or null"),
    "adaptation.epochs": _at_least(0),
    "adaptation.cycles": _at_least(1),
    "adaptation.lr": _POSITIVE,
    "evaluation.batch_size": _at_least(1),
}
