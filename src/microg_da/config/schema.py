"""The typed schema of an experiment: every key, its type and its default."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from microg_da.types import Domain, Split


@dataclass
class DataConfig:
    """The data of both domains and the sizes of frames.

    Attributes:
        source: SOURCE of the source domain: ``synthetic:earth``, ``ava:/path``, ``microg4m:/path?footage=real`` or
            another kind of ``list data``.
        target: SOURCE of the target domain. Its labels train only the target-supervised bound and oracles.
        taxonomy: the action classes: a name from ``list taxonomies``, the path of a label map, or a folder of clips.
            If it is not set, ``jhmdb:`` and ``folder:`` data define their own.
        source_options: options of the source domain for data from files, as after ``?`` in a SOURCE. Options in
            ``source`` override them. They are kept if ``source`` is set to another folder.
        target_options: options of the target domain, as ``source_options``.
        sizes: ``published`` sets ``image_size``, ``train_sides`` and ``test_side``, unless they are set, to the sizes
            at which the benchmark trained and tested the model; ``given`` leaves them as they are.
        image_size: side of the square training crop, in pixels.
        train_sides: smallest and largest short side of training frames before the crop, in pixels; null: from
            ``augment.scale``. Embedded data does not use it.
        test_side: short side of validation and test frames, in pixels; null: 8/7 of ``image_size``. Embedded data does
            not use it.
        decode: ``frames`` for folders of JPEG, ``video`` for video files, ``auto`` for whichever exists. An option in a
            SOURCE overrides it; embedded data does not use it.
        on_error: ``raise``, or ``skip`` clips that cannot be read. An option in a SOURCE overrides it; embedded data
            does not use it.
        num_workers: processes that load clips; 0 loads in the main process.
        feature_store: folder in which ``fit`` stores the feature maps of a frozen encoder. Runs with the same encoder
            and data reuse them instead of decoding and encoding again. Null: no store. It needs ``model.freeze=all``.
        feature_draws: number of augmented versions of each training clip in the store; each step draws one at random.
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
    feature_store: str | None = None
    feature_draws: int = 4


@dataclass
class SyntheticConfig:
    """The clips of the embedded simulator, for each domain.

    Attributes:
        train_clips: clips in the training split.
        val_clips: clips in the validation split.
        test_clips: clips in the test split.
        look: style of microgravity clips: ``real`` (missions), ``simulated`` (films) or ``any``.
        seed: seed of the clips.
        workers: processes that render clips; 0 renders in the main process.
        cache: whether rendered clips are kept on disk for later runs.
    """

    train_clips: int = 1200
    val_clips: int = 200
    test_clips: int = 400
    look: str = "any"
    seed: int = 0
    workers: int = 2
    cache: bool = True

    def options(self, split: Split) -> dict[str, object]:
        """Return the options of one split of a synthetic SOURCE; options in the SOURCE override them."""
        clips: dict[Split, int] = {"train": self.train_clips, "val": self.val_clips, "test": self.test_clips}
        rest = {name: getattr(self, name) for name in ("look", "seed", "workers", "cache")}
        return {**rest, "num_clips": clips[split]}


@dataclass
class ModelConfig:
    """The detector, its initial weights and its window.

    Attributes:
        name: a name from ``list models``, ``timm:NAME`` for an image encoder of timm, ``torchvision:NAME`` for a video
            network of torchvision, ``hf:NAME`` for a video encoder of transformers, or ``package.module:function`` of
            another package.
        checkpoint: weight file with the initial weights, or ``package:NAME`` for one in an installed package; null:
            random weights.
        allow_missing: shell-style patterns of weights that may be missing or of another shape in the file.
        skip_weights: shell-style patterns of weights that are initialised at random even if ``checkpoint`` contains
            them.
        window: source of ``num_frames`` and ``sampling_rate`` if they are not set: ``architecture``, the window for
            which the model was designed, or ``published``, the window that the benchmark used.
        impossible_window: treatment of a window that is longer than the clips: ``clamp`` repeats their first and last
            frames with a warning; ``refuse`` stops with an error.
        num_frames: T, the number of frames in a window; by default that of ``window``.
        sampling_rate: τ, the distance between frames of a window, in frames; by default that of ``window``.
        dropout: dropout rate before the linear layer of the head.
        roi_stride: input pixels per cell of the feature map that RoIAlign assumes: ``true`` (the network's own stride),
            ``published``, a number, or ``auto`` (the stride at which the head of ``checkpoint`` was trained if the
            whole head is loaded, else ``true``). The ``config.yaml`` of a run contains the resolved value.
        freeze: number of frozen backbone stages, counted from the input; ``all`` trains only the head. Frozen layers
            have no gradients, are not in the optimiser, and stay in evaluation mode. Layers without published weights,
            such as those of ``model.options.temporal``, are trained.
        adapters: ``lora`` or ``dual_path`` freezes the backbone and trains small additional modules; null for none.
        adapter_rank: inner dimension of the adapters.
        roll_pooling: ``c4`` or ``c8`` averages features over 4 or 8 rolls of the clip; null for none.
        head: pooling of the features of a person: ``roi`` (RoIAlign in the box) or ``attentive`` (queries that attend
            to the whole clip).
        head_args: arguments of the head.
        compile: whether ``torch.compile`` compiles the backbone. The first steps of each frame size take minutes; later
            steps are faster.
        options: further arguments of the network's builder.
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
    head: str = "roi"
    head_args: dict[str, Any] = field(default_factory=dict)
    compile: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class AugmentConfig:
    """Augmentation of frames and boxes in training.

    Example:
        >>> from microg_da import AugmentConfig
        >>> AugmentConfig(flip=0.0).with_rotation(180).rotation
        180

    Clips from files are zoomed once, by a random crop during decoding, which drops people outside the crop. The
    smallest zoom is 7/8; ``[1.0, 1.25]`` is the published jitter (short sides of 256 to 320 for crops of 224). Embedded
    clips are zoomed in the batch. ``docs/rotation.md`` describes rotation.

    Attributes:
        flip: probability of a horizontal flip.
        scale: smallest and largest zoom, relative to the size at which a clip is tested.
        colour: largest relative change of brightness, contrast and saturation.
        rotation: largest roll of a clip in degrees, for ``uniform``; 180 allows any roll, 0 none.
        rotation_distribution: distribution of the roll of a clip: ``uniform`` in ±``rotation``, ``von_mises`` around
            ``rotation_mean``, or ``fixed`` (one of ``rotation_angles``).
        rotation_mean: mean roll in degrees, for ``von_mises``.
        rotation_concentration: κ of ``von_mises``; 0 is the uniform distribution.
        rotation_angles: rolls in degrees, for ``fixed``.
        rotation_spin: largest additional rotation over the window, in degrees.
        rotation_box: shape in a box that the rotated box encloses: ``ellipse`` or ``rectangle``.
        rotation_fill: fill of the corners of a rotated frame: ``reflect``, ``edge`` or ``circle``.
        min_visibility: smallest fraction of a box inside the frame; other people are dropped with their labels.
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
        """Return a copy with a uniform roll of up to ``degrees`` in place of any distribution; None changes nothing."""
        return self if degrees is None else replace(self, rotation=degrees, rotation_distribution="uniform")


@dataclass
class TrainingConfig:
    """The length, the optimiser and the schedule of a training stage.

    Example:
        >>> from microg_da import TrainingConfig
        >>> TrainingConfig(optimizer="sgd", lr=0.1).schedule
        'cosine'

    Attributes:
        epochs: passes over the clips of the larger domain; ``max_batches_per_epoch`` may shorten them.
        batch_size: clips of each domain in a step, in each process.
        optimizer: the optimiser, ``adamw`` or ``sgd``.
        lr: learning rate after the warm-up.
        lr_batch_size: clips in a step of the optimiser, over all processes, to which ``lr`` refers. For another number
            of clips the rate is scaled in proportion (Goyal et al., "Accurate, large minibatch SGD", 2017). Null: no
            scaling.
        weight_decay: weight decay of the optimiser. It applies to matrices and kernels, and never to batch
            normalisation.
        decay_biases: whether weight decay also applies to biases and layer normalisation, as in PySlowFast.
        momentum: momentum of ``sgd``.
        schedule: ``cosine``, ``constant``, or ``steps`` as in ``step_epochs``; all begin with a linear warm-up.
        cycles: number of repetitions of the schedule (Loshchilov & Hutter, "SGDR", ICLR 2017).
        warmup_epochs: length of the warm-up in epochs.
        warmup_start: learning rate at the start of the warm-up, as a fraction of ``lr``.
        step_epochs: for ``steps``: ascending epochs, from 0, at which each factor takes effect.
        relative_lrs: for ``steps``: the factor of ``lr`` from each of ``step_epochs`` on.
        clip_gradient_norm: largest norm of the gradient; null for no limit.
        layer_decay: factor of the learning rate from one layer to the layer below it; 1 for one rate.
        accumulate: batches that make one step of the optimiser.
        activation_checkpointing: whether the stages of the backbone store only their inputs and are recomputed in the
            backward pass: less memory, the same gradients.
        validate_every: epochs between validations; ``selection`` chooses among validated epochs.
        max_batches_per_epoch: largest number of batches of each domain in an epoch; null for no limit.
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
    """The adaptation method, its arguments, and the settings of its stage that differ from :class:`TrainingConfig`.

    Setting ``name`` resets the arguments, the rotation and the test-time method of earlier layers.

    Attributes:
        name: a name from ``list adaptations``, or ``package.module:Class`` of another package; ``source_only`` is no
            adaptation.
        args: arguments of the method.
        epochs: passes over the clips in the adaptation stage.
        lr: learning rate of the adaptation stage.
        cycles: number of repetitions of the schedule, e.g. one for each round of self-training.
        rotation: largest roll in degrees in the adaptation stage, in place of ``augment.rotation``; null changes
            nothing. It needs a method that trains.
        test_time: a test-time method that is applied to the adapted detector, e.g. ``roll_tta``; null for none.
        test_time_args: arguments of the test-time method.
        extra_source: SOURCE of labelled clips that the adaptation adds to the training clips of the source, e.g. people
            of the source in front of other backgrounds, made by ``weightless``; null for none. Methods that read no
            source clips ignore it.
        match_rates: after training, shift the logits of each class so that the fraction of unlabelled target people
            with a logit above 0 equals the fraction of source people with the class. Average precision does not change.
    """

    name: str = "dann"
    args: dict[str, Any] = field(default_factory=dict)
    epochs: int = 4
    lr: float = 1e-3
    cycles: int = 1
    rotation: float | None = None
    test_time: str | None = None
    test_time_args: dict[str, Any] = field(default_factory=dict)
    extra_source: str | None = None
    match_rates: bool = False


@dataclass
class TargetSupervisedConfig:
    """The settings of the target-supervised stage (the upper bound) that differ from :class:`TrainingConfig`.

    Attributes:
        start: ``source`` fine-tunes the source model on labelled target clips, as the benchmark fine-tunes its models
            from Kinetics; ``scratch`` uses no source labels.
        epochs: passes over the target's training clips; null for ``training.epochs``.
        rotation: largest roll in degrees, in place of ``augment.rotation``; null changes nothing.
    """

    start: str = "source"
    epochs: int | None = None
    rotation: float | None = None


@dataclass
class EvaluationConfig:
    """The evaluation of detectors.

    Attributes:
        protocol: rules of evaluation: ``corrected``, or ``published`` for those of the benchmark.
        batch_size: clips in a test batch.
        fold_batch_norm: whether batch normalisation is folded into convolutions for tests, which is faster and equal up
            to rounding. It does not apply to detectors with a test-time method.
    """

    protocol: str = "corrected"
    batch_size: int = 32
    fold_batch_norm: bool = False


@dataclass
class TrainerConfig:
    """Arguments of ``pytorch_lightning.Trainer``, passed unchanged.

    Attributes:
        accelerator: ``cpu``, ``gpu``, ``mps``, …, or ``auto``.
        devices: number of devices, a list of device indices, or ``auto``.
        num_nodes: number of machines.
        strategy: the strategy of Lightning, e.g. ``ddp``, or ``auto``.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    """

    accelerator: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"


@dataclass
class Config:
    """The complete configuration of a run.

    Example:
        >>> from dataclasses import replace
        >>> from microg_da import Config, TrainingConfig
        >>> config = Config(seed=1, training=TrainingConfig(epochs=3))
        >>> replace(config, seed=2).training.epochs
        3

    Attributes:
        experiment: name of the folder of runs, ``runs/<experiment>/``; by default the name of the file.
        description: one line of text.
        protocol: recipe of experiments that have one for each protocol: ``published`` or ``corrected``; null in other
            experiments. ``evaluation.protocol`` sets the rules of evaluation.
        seed: seed of the weights, the order of clips and all other random values of a run.
        bounds: whether the target-supervised upper bound is trained too.
        selection: rule that chooses the epoch whose weights are kept: ``last``, ``source`` (best source validation
            mAP), ``validator:NAME`` (best label-free score, see ``list validators``) or ``oracle`` (best target
            validation mAP; every output is marked).
        oracle: declares that some of these values were chosen with target labels, as in a sweep by a target metric.
            Every output is marked.
        logger: ``csv``, ``wandb``, ``tensorboard``, or several of them with commas.
        checkpoint: weight file of a detector that is already trained on the source domain. The source stage loads it
            instead of training. Null: the source stage trains.
        data: the data of both domains.
        synthetic: the embedded simulator.
        model: the detector.
        augment: augmentation in training.
        training: the source stage, and the settings that other stages share with it.
        adaptation: the adaptation stage.
        target_supervised: the stage of the upper bound.
        evaluation: tests.
        trainer: device and precision.
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

    def source_options(self, domain: Domain | None, kind: str, split: Split) -> dict[str, Any]:
        """Return the options of a SOURCE of a kind; options in the SOURCE override them.

        Args:
            domain: the domain; None for ``adaptation.extra_source``, which has no options of its own.
            kind: the kind of SOURCE.
            split: the split.
        """
        if kind == "synthetic":
            return self.synthetic.options(split)
        return {"scale": self.augment.scale, **self.file_options(domain)}

    def file_options(self, domain: Domain | None) -> dict[str, Any]:
        """Return the options that apply to a SOURCE that is read from files; ``domain`` as in `source_options`."""
        data = self.data
        own = {"source": data.source_options, "target": data.target_options, None: {}}
        smallest, largest = data.train_sides or (None, None)
        return {
            "decode": data.decode,
            "on_error": data.on_error,
            "min_side": smallest,
            "max_side": largest,
            "test_side": data.test_side,
            **own[domain],
        }
