"""The typed schema of an experiment: every key, its type and its default."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any

from microg_da.types import Domain, Split


@dataclass
class DataConfig:
    """Where clips come from. A SOURCE reads ``synthetic:earth``, ``ava:/path``, ``microg4m:/path?footage=real``.

    ``taxonomy`` is a name, a label map file or a folder of clips; where it is not set, ``jhmdb:`` and ``folder:`` bring
    their own. ``decode`` and ``on_error`` hold for data read from files, unless a SOURCE says otherwise.
    ``source_options`` and ``target_options`` are what may follow ``?`` in the SOURCE of a domain, for data read from
    files; they stay when ``source`` or ``target`` is set to another folder.

    ``image_size`` is the side in pixels of training crops, ``train_sides`` the smallest and largest short side of
    frames before the crop, ``test_side`` the short side of frames that are validated and tested; null: by
    ``augment.scale`` and 8/7 of ``image_size``. With ``sizes: published`` those of them that are not set are the ones
    at which the benchmark trained and tested the named model; with ``sizes: given`` nothing is filled in.
    """

    source: str = "synthetic:earth"
    target: str = "synthetic:microgravity"
    taxonomy: str = "microg50"
    source_options: dict[str, Any] = field(default_factory=dict)
    target_options: dict[str, Any] = field(default_factory=dict)
    sizes: str = "given"
    image_size: int = 96
    train_sides: list[int] | None = None
    test_side: int | None = None
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

    def options(self, split: Split) -> dict[str, object]:
        """The options of one split of a synthetic SOURCE, which a SOURCE's own options override."""
        clips: dict[Split, int] = {"train": self.train_clips, "val": self.val_clips, "test": self.test_clips}
        rest = {name: getattr(self, name) for name in ("look", "seed", "workers", "cache")}
        return {**rest, "num_clips": clips[split]}


@dataclass
class ModelConfig:
    """The detector, the weights it starts from, and its window: ``num_frames`` T, ``sampling_rate`` τ.

    A window that is not set is the one that the named model was made for; ``window: published`` takes the one that
    the benchmark gave it. One that is longer than the clips repeats their ends and the run says so
    (``impossible_window: clamp``), or is refused (``refuse``). ``roi_stride``, ``freeze``, ``adapters``,
    ``roll_pooling``, ``allow_missing`` and ``skip_weights`` are those of :func:`~microg_da.models.create_detector`.
    ``roi_stride: auto`` is the stride at which the head of ``checkpoint`` was trained, if the whole head is loaded,
    else the network's own; a run's ``config.yaml`` holds which of them it is.
    """

    name: str = "r2plus1d_tiny"
    checkpoint: str | None = None
    allow_missing: list[str] = field(default_factory=list)
    skip_weights: list[str] = field(default_factory=list)
    window: str = "architecture"
    impossible_window: str = "clamp"
    num_frames: int = 8
    sampling_rate: int = 2
    dropout: float = 0.5
    roi_stride: Any = "auto"
    freeze: Any = 0
    adapters: str | None = None
    adapter_rank: int = 8
    roll_pooling: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class AugmentConfig:
    """Train-time augmentation, frames and boxes together.

    Example:
        >>> from microg_da import AugmentConfig
        >>> AugmentConfig(flip=0.0).with_rotation(180).rotation
        180

    ``flip`` is a probability, ``scale`` the range of zoom relative to the size at which a clip is tested, ``colour``
    the largest relative change of brightness, contrast and saturation. Clips read from files are zoomed by their
    random crop on decoding, which drops people outside it, and not a second time; its smallest zoom is 7/8, and
    ``[1.0, 1.25]`` is the published jitter (short sides of 256 to 320 for crops of 224). Embedded clips are zoomed in
    the batch. People of whose box less than ``min_visibility`` (a fraction of its area) is left inside the picture by
    the transforms of the batch are dropped with their labels.

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

    Example:
        >>> from microg_da import TrainingConfig
        >>> TrainingConfig(optimizer="sgd", lr=0.1).schedule
        'cosine'

    ``schedule`` is ``cosine``, ``constant`` or ``steps``; ``steps`` multiplies ``lr`` by ``relative_lrs[i]`` from
    epoch ``step_epochs[i]`` on. All begin with a linear warm-up from ``warmup_start * lr``. With ``cycles`` the whole
    schedule is run through so many times (Loshchilov & Hutter, "SGDR", ICLR 2017).

    ``accumulate`` batches make one step of the optimiser. With ``activation_checkpointing`` the stages of the backbone
    keep their inputs alone and are computed once more in the backward pass: less memory, the same gradients.

    With ``lr_batch_size`` the learning rate follows the clips that a step of the optimiser sees in all processes: it is
    ``lr`` at that number and proportional to the number elsewhere (Goyal et al., "Accurate, large minibatch SGD",
    2017). Null: it is ``lr`` whatever the number. ``weight_decay`` acts on matrices and kernels; with
    ``decay_biases`` it also acts on biases and layer normalisation, as in PySlowFast. It never acts on batch
    normalisation.

    ``validate_every`` is the number of epochs between validations, from which ``selection`` chooses. An epoch is a pass
    over the larger domain, or ``max_batches_per_epoch`` batches of each domain if they are fewer.
    """

    epochs: int = 12
    batch_size: int = 16
    optimizer: str = "adamw"
    lr: float = 2e-3
    lr_batch_size: int | None = None
    weight_decay: float = 0.05
    decay_biases: bool = False
    momentum: float = 0.9
    schedule: str = "cosine"
    cycles: int = 1
    warmup_epochs: float = 1.0
    warmup_start: float = 0.01
    step_epochs: list[int] = field(default_factory=lambda: [0, 20, 30, 40])
    relative_lrs: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.01, 0.001])
    clip_gradient_norm: float | None = None
    layer_decay: float = 1.0
    accumulate: int = 1
    activation_checkpointing: bool = False
    validate_every: int = 1
    max_batches_per_epoch: int | None = None


@dataclass
class AdaptationConfig:
    """The adaptation, its own arguments, and how its stage differs from :class:`TrainingConfig`.

    ``cycles`` is that of the stage's schedule, e.g. one for each round of self-training.
    ``test_time`` names a second method that acts at test time on what the first has trained, e.g. ``roll_tta``.
    Another name empties the arguments, the rotation and the test-time method of an earlier layer.
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
    """How scores become numbers.

    With ``fold_batch_norm`` detectors are tested with normalisation multiplied into their convolutions: faster, and
    the same up to rounding. Methods with a way of their own to predict are tested as they are.
    """

    protocol: str = "corrected"
    batch_size: int = 32
    fold_batch_norm: bool = False


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

    Example:
        >>> from dataclasses import replace
        >>> from microg_da import Config, TrainingConfig
        >>> config = Config(seed=1, training=TrainingConfig(epochs=3))
        >>> replace(config, seed=2).training.epochs
        3

    ``checkpoint`` is a detector already trained on the source domain: with it the source stage loads instead of
    training. ``selection`` is ``last``, ``source`` (best source validation mAP), ``validator:NAME`` (best by a
    label-free score) or ``oracle`` (best target validation mAP, stamped on every output). ``bounds`` also trains the
    target-supervised upper bound. ``oracle: true`` declares that target labels chose some of these values, as a sweep
    by a target metric does, and is stamped alike. ``protocol`` is ``published`` or ``corrected`` in experiments that
    have a recipe for each, and null in others.
    """

    experiment: str = "custom"
    description: str = ""
    protocol: str | None = None
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

    def source_options(self, domain: Domain, kind: str, split: Split) -> dict[str, Any]:
        """What the configuration says of a domain's SOURCE of a kind; the SOURCE's own options override it."""
        if kind == "synthetic":
            return self.synthetic.options(split)
        return {"scale": self.augment.scale, **self.file_options(domain)}

    def file_options(self, domain: Domain) -> dict[str, Any]:
        """Those of them that are options of a SOURCE that is read from files."""
        data = self.data
        smallest, largest = data.train_sides or (None, None)
        return {
            "decode": data.decode,
            "on_error": data.on_error,
            "min_side": smallest,
            "max_side": largest,
            "test_side": data.test_side,
            **(data.source_options if domain == "source" else data.target_options),
        }


@cache
def schema_keys(schema: type = Config, prefix: str = "") -> tuple[str, ...]:
    """Every dotted key of the schema, leaves only."""
    keys: list[str] = []
    for item in fields(schema):
        nested = nested_schema(schema, item.name)
        keys += schema_keys(nested, f"{prefix}{item.name}.") if nested else [f"{prefix}{item.name}"]
    return tuple(keys)


@cache
def nested_schema(schema: type, name: str) -> type | None:
    """The dataclass of a section, None for a leaf."""
    item = next(item for item in fields(schema) if item.name == name)
    return item.default_factory if is_dataclass(item.default_factory) else None


@cache
def sections() -> tuple[str, ...]:
    """The names of the sections, in order."""
    return tuple(item.name for item in fields(Config) if nested_schema(Config, item.name))
