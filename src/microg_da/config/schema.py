"""The typed schema of an experiment: every key, its type and its default."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from microg_da.types import Domain, Split


@dataclass
class DataConfig:
    """Where clips come from, and how large they are.

    Attributes:
        source: SOURCE of the source domain: ``synthetic:earth``, ``ava:/path``, ``microg4m:/path?footage=real`` or
            another kind of ``list data``.
        target: SOURCE of the target domain, whose labels train nothing but a bound or an oracle.
        taxonomy: the action classes: a name of ``list taxonomies``, the path of a label map, or a folder of clips.
            Where it is not set, ``jhmdb:`` and ``folder:`` bring their own.
        source_options: what may follow ``?`` in the SOURCE of the source domain, for data read from files; the SOURCE's
            own options override them. They stay when ``source`` is set to another folder.
        target_options: what may follow ``?`` in the SOURCE of the target domain, as ``source_options``.
        sizes: ``published`` fills those of ``image_size``, ``train_sides`` and ``test_side`` that are not set with the
            sizes at which the benchmark trained and tested the named model; ``given`` fills nothing.
        image_size: side of the square training crop, in pixels.
        train_sides: smallest and largest short side of training frames before the crop, in pixels; null: by
            ``augment.scale``. Embedded data does not use it.
        test_side: short side of frames that are validated and tested, in pixels; null: 8/7 of ``image_size``. Embedded
            data does not use it.
        decode: ``frames`` for folders of JPEG, ``video`` for video files, ``auto`` for what is there. A SOURCE's own
            option overrides it; embedded data does not use it.
        on_error: ``raise``, or ``skip`` clips that cannot be read. A SOURCE's own option overrides it; embedded data
            does not use it.
        num_workers: processes that load clips; 0 loads in the main process.
        feature_store: folder in which ``fit`` keeps the feature maps of a frozen encoder, so that runs with the same
            encoder and data neither decode nor encode again; null keeps none. It needs ``model.freeze=all``.
        feature_draws: how often each training clip is augmented for the store; a step takes one of these at random.
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
    """How much the embedded simulator draws, for each domain.

    Attributes:
        train_clips: clips in the training split.
        val_clips: clips in the validation split.
        test_clips: clips in the test split.
        look: what microgravity looks like: ``real`` (missions), ``simulated`` (films) or ``any``.
        seed: seed of the drawn clips.
        workers: processes that draw clips; 0 draws in the main process.
        cache: whether drawn clips are kept on disk for the next run.
    """

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
    """The detector, the weights that it starts from, and its window.

    Attributes:
        name: a name of ``list models``, ``timm:NAME`` for an image encoder of timm, ``torchvision:NAME`` for a video
            network of torchvision, ``hf:NAME`` for a video encoder of transformers, or ``package.module:function`` of
            another package.
        checkpoint: weight file that training starts from, or ``package:NAME`` for one in an installed package; null
            starts from random weights.
        allow_missing: shell-style patterns of weight names that need not fit between file and network.
        skip_weights: shell-style patterns of names of the network's weights that stay random, whatever ``checkpoint``
            has for them.
        window: which window fills ``num_frames`` and ``sampling_rate`` where they are not set: ``architecture``, which
            the named model was made for, or ``published``, which the benchmark gave it.
        impossible_window: what happens to a window longer than the clips: ``clamp`` repeats their first and last
            frames, and the run says so; ``refuse`` stops.
        num_frames: T, frames in a window; not set, it is that of ``window``.
        sampling_rate: τ, frames from one frame of a window to the next; not set, it is that of ``window``.
        dropout: rate before the linear layer of the head.
        roi_stride: input pixels per cell at which boxes are pooled: ``true`` (the network's own), ``published``, a
            number, or ``auto`` for the stride at which the head of ``checkpoint`` was trained, if the whole head is
            loaded, else ``true``. A run's ``config.yaml`` holds which of them it is.
        freeze: how many stages of the backbone are not trained, from the input on; ``all`` trains the head alone.
            What is not trained has no gradients, is not in the optimiser, and stays in evaluation mode. Layers that no
            published weights fill, such as ``model.options.temporal``, are trained.
        adapters: ``lora`` or ``dual_path`` freezes the backbone and trains small additions to it; null for none.
        adapter_rank: inner width of the adapters.
        roll_pooling: ``c4`` or ``c8`` averages features over 4 or 8 rolls of the clip; null for none.
        head: what pools the features of a person: ``roi``, RoIAlign in the box, or ``attentive``, queries that look at
            the whole clip.
        head_args: arguments of the head.
        compile: whether the backbone is compiled by ``torch.compile``: the first steps of each size of frames take
            minutes, the others less time.
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
    """Augmentation in training, of frames and boxes together.

    Example:
        >>> from microg_da import AugmentConfig
        >>> AugmentConfig(flip=0.0).with_rotation(180).rotation
        180

    Clips read from files are zoomed by their random crop on decoding, which drops people outside it, and not a second
    time; its smallest zoom is 7/8, and ``[1.0, 1.25]`` is the published jitter (short sides of 256 to 320 for crops of
    224). Embedded clips are zoomed in the batch. Rotation: see ``docs/rotation.md``.

    Attributes:
        flip: probability of a horizontal flip.
        scale: smallest and largest zoom, relative to the size at which a clip is tested.
        colour: largest relative change of brightness, contrast and saturation.
        rotation: largest roll of a clip in degrees, for ``uniform``; 180 for any roll, 0 for none.
        rotation_distribution: how the roll of a clip is drawn: ``uniform`` up to ``rotation`` either way, ``von_mises``
            about ``rotation_mean``, or ``fixed``, one of ``rotation_angles``.
        rotation_mean: mean roll in degrees, for ``von_mises``.
        rotation_concentration: κ of ``von_mises``; 0 for any roll alike.
        rotation_angles: rolls in degrees, for ``fixed``.
        rotation_spin: largest further turn through the window, in degrees.
        rotation_box: what a box holds when it is turned: an ``ellipse`` or a ``rectangle``.
        rotation_fill: what fills the corners of a turned frame: ``reflect``, ``edge`` or ``circle``.
        min_visibility: people of whose box a smaller fraction is left inside the frame are dropped with their labels.
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

    Attributes:
        epochs: passes over the clips of the larger domain; ``max_batches_per_epoch`` may make them shorter.
        batch_size: clips in a step, of each domain and in each process.
        optimizer: the optimiser, ``adamw`` or ``sgd``.
        lr: learning rate after the warm-up.
        lr_batch_size: clips in a step of the optimiser, in all processes together, for which ``lr`` is meant; at
            another number of clips the rate is in proportion (Goyal et al., "Accurate, large minibatch SGD", 2017).
            Null: it is ``lr`` whatever the number.
        weight_decay: weight decay of the optimiser. It acts on matrices and kernels, and never on batch normalisation.
        decay_biases: whether it also acts on biases and layer normalisation, as in PySlowFast.
        momentum: momentum of ``sgd``.
        schedule: ``cosine``, ``constant``, or ``steps`` as in ``step_epochs``; all begin with a linear warm-up.
        cycles: how often the whole schedule is run through (Loshchilov & Hutter, "SGDR", ICLR 2017).
        warmup_epochs: length of the warm-up in epochs.
        warmup_start: learning rate at the start of the warm-up, as a fraction of ``lr``.
        step_epochs: for ``steps``: ascending epochs, from 0, from which each factor holds.
        relative_lrs: for ``steps``: the factor of ``lr`` from each of ``step_epochs`` on.
        clip_gradient_norm: largest norm of the gradient; null for no limit.
        layer_decay: factor of the learning rate from one layer to the layer below it; 1 for one rate.
        accumulate: batches that make one step of the optimiser.
        activation_checkpointing: whether the stages of the backbone keep their inputs alone and are computed once more
            in the backward pass: less memory, the same gradients.
        validate_every: epochs from one validation to the next; ``selection`` chooses among validated epochs.
        max_batches_per_epoch: most batches of each domain in an epoch; null for no limit.
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

    Another name empties the arguments, the rotation and the test-time method of an earlier layer.

    Attributes:
        name: a name of ``list adaptations``, or ``package.module:Class`` of another package; ``source_only`` adapts
            nothing.
        args: arguments of the method.
        epochs: passes over the clips in the adaptation stage.
        lr: learning rate of the adaptation stage.
        cycles: how often the stage's schedule is run through, e.g. once for each round of self-training.
        rotation: largest roll in degrees in the adaptation stage, in place of ``augment.rotation``; null changes
            nothing. It needs a method that trains.
        test_time: a second method, which acts at test time on what the first has trained, e.g. ``roll_tta``; null for
            none.
        test_time_args: arguments of the second method.
        match_rates: shift each class's logits at the end, so that the share of unlabelled target people with a logit
            above 0 is the share of source people who have the class. Average precision does not change.
    """

    name: str = "dann"
    args: dict[str, Any] = field(default_factory=dict)
    epochs: int = 4
    lr: float = 1e-3
    cycles: int = 1
    rotation: float | None = None
    test_time: str | None = None
    test_time_args: dict[str, Any] = field(default_factory=dict)
    match_rates: bool = False


@dataclass
class TargetSupervisedConfig:
    """How the stage of the upper bound differs from :class:`TrainingConfig`; the bound shows what target labels give.

    Attributes:
        start: ``source`` fine-tunes the source model on labelled target clips, as the benchmark's own models are
            fine-tuned from Kinetics; ``scratch`` has seen no source label.
        epochs: passes over the target's training clips; null for ``training.epochs``.
        rotation: largest roll in degrees, in place of ``augment.rotation``; null changes nothing.
    """

    start: str = "source"
    epochs: int | None = None
    rotation: float | None = None


@dataclass
class EvaluationConfig:
    """How scores become numbers.

    Attributes:
        protocol: how scores are made: ``corrected``, or ``published`` for the benchmark's own way.
        batch_size: clips that are tested at once.
        fold_batch_norm: whether normalisation is multiplied into convolutions for tests: faster, and the same up to
            rounding. Detectors with a test-time method are tested as they are.
    """

    protocol: str = "corrected"
    batch_size: int = 32
    fold_batch_norm: bool = False


@dataclass
class TrainerConfig:
    """Handed to ``pytorch_lightning.Trainer`` untouched.

    Attributes:
        accelerator: ``cpu``, ``gpu``, ``mps``, …, or ``auto``.
        devices: how many devices, a list of their numbers, or ``auto``.
        num_nodes: how many machines.
        strategy: e.g. ``ddp``, or ``auto``.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    """

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

    Attributes:
        experiment: the name under which runs are kept: ``runs/<experiment>/``; by default that of the file.
        description: one line for people.
        protocol: which recipe is used in experiments that have one for each: ``published`` or ``corrected``; null in
            the others. How scores become numbers is ``evaluation.protocol``.
        seed: seed of the weights, the order of clips and everything random in a run.
        bounds: whether the target-supervised upper bound is trained too.
        selection: which epoch's model is kept: ``last``, ``source`` (best source validation mAP), ``validator:NAME``
            (best by a label-free score of ``list validators``) or ``oracle`` (best target validation mAP, stamped on
            every output).
        oracle: declares that target labels chose some of these values, as a sweep by a target metric does; it is
            stamped on every output.
        logger: ``csv``, ``wandb``, ``tensorboard``, or several of them with commas.
        checkpoint: weight file of a detector that is already trained on the source domain: the source stage loads it
            and trains nothing; null trains.
        data: the data of both domains.
        synthetic: the embedded simulator.
        model: the detector.
        augment: augmentation in training.
        training: the source stage, and what the other stages share with it.
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
