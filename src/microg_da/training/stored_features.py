"""The feature store of a run: checks of the configuration, and the feature maps that the run reads."""

from __future__ import annotations

from rich.console import Console

from microg_da.adaptation.base import TestTimeMethod, TrainingMethod
from microg_da.config import VALIDATOR, Config
from microg_da.data.datamodule import DomainDatasets
from microg_da.errors import InputError
from microg_da.inference.feature_maps import FeatureMaps
from microg_da.models.detector import ActionDetector
from microg_da.runs.detectors import build_test_time_method, build_training_method
from microg_da.transforms.stored_frames import StoredView
from microg_da.types import DOMAINS


def check_store(config: Config, detector: ActionDetector) -> None:
    """Check that a run can read feature maps in place of frames.

    Args:
        config: the configuration of the run.
        detector: the detector of the run; its weights are not read.

    Raises:
        InputError: if the run cannot use a feature store. The message names the key or the method.
    """
    model = config.model
    for key, value in (("model.adapters", model.adapters), ("model.roll_pooling", model.roll_pooling)):
        if value is not None:
            raise InputError(
                f"{key}={value} changes the output of the encoder, and data.feature_store holds the output of the "
                f"original encoder. Set {key}=null or data.feature_store=null."
            )
    trained = next((name for name, weight in detector.backbone.named_parameters() if weight.requires_grad), None)
    if trained is not None:
        remedy = "model.options.temporal=none" if trained.startswith("temporal.") else "model.freeze=all"
        raise InputError(
            f"data.feature_store needs a frozen encoder, and backbone.{trained} is trained. "
            f"Set {remedy} or data.feature_store=null."
        )
    if config.adaptation.extra_source is not None:
        raise InputError(
            f"adaptation.extra_source={config.adaptation.extra_source}: data.feature_store holds the maps of "
            f"data.source and data.target alone. Set adaptation.extra_source=null or data.feature_store=null."
        )
    if config.selection == f"{VALIDATOR}mixval":
        raise InputError(
            "selection=validator:mixval mixes the pixels of people, which data.feature_store does not hold. Choose "
            "another validator, or set data.feature_store=null."
        )
    if config.bounds and config.checkpoint is not None and config.target_supervised.start == "scratch":
        raise InputError(
            "target_supervised.start=scratch and the detector of checkpoint have different encoders, and "
            "data.feature_store holds the maps of one. Set target_supervised.start=source or data.feature_store=null."
        )
    settings = config.adaptation
    training, test_time = _methods(config, detector)
    for name, method in ((settings.name, training), (settings.test_time or settings.name, test_time)):
        if method is not None and method.needs_encoder is not None:
            raise InputError(
                f"adaptation {name!r} {method.needs_encoder}, and data.feature_store holds feature maps of the "
                f"original clips. Set data.feature_store=null, or choose another adaptation."
            )


def open_store(config: Config, detector: ActionDetector, datasets: DomainDatasets, console: Console) -> FeatureMaps:
    """Attach the feature maps that a run reads to its data sets; compute and store missing maps.

    Args:
        config: the configuration of the run, checked by :func:`check_store`.
        detector: the source model that the run starts from.
        datasets: the data sets that get the maps.
        console: the console for messages.

    Raises:
        InputError: if the store cannot be written, the disk has too little space, or the data cannot be stored.
    """
    maps = FeatureMaps(detector, config, console)
    training, test_time = _methods(config, detector)
    _want_training(maps, config, datasets, training)
    views: tuple[StoredView, ...] = () if test_time is None else test_time.stored_views
    for domain in DOMAINS:
        for split in ("val", "test"):
            maps.want_tested(domain, split, datasets.get(domain, split, labelled=False), views)
    looks = _looks_at_target(training)
    maps.looked_at = frozenset((*views, *looks))
    if looks:
        maps.want_tested("target", "train", datasets.get("target", "train", labelled=False).in_test_views(), looks)
    maps.prepare()
    datasets.maps = maps
    return maps


def _methods(config: Config, detector: ActionDetector) -> tuple[TrainingMethod | None, TestTimeMethod | None]:
    """Return the training method and the test-time method of a run."""
    training = build_training_method(config, detector)
    return training, build_test_time_method(config, detector, training)


def _want_training(
    maps: FeatureMaps, config: Config, datasets: DomainDatasets, training: TrainingMethod | None
) -> None:
    """Request the augmented training clips of all stages."""
    if config.checkpoint is None:
        maps.want_trained("source", datasets.get("source", "train", labelled=True), config.augment)
    if config.bounds:
        augment = config.augment.with_rotation(config.target_supervised.rotation)
        maps.want_trained("target", datasets.get("target", "train", labelled=True), augment)
    if training is not None and training.has_epochs and config.adaptation.epochs:
        augment = config.augment.with_rotation(config.adaptation.rotation)
        if training.uses_source:
            maps.want_trained("source", datasets.get("source", "train", labelled=True), augment)
        labelled = training.uses_target_labels
        maps.want_trained("target", datasets.get("target", "train", labelled=labelled), augment)


def _looks_at_target(training: TrainingMethod | None) -> tuple[StoredView, ...]:
    """Return the views of target clips without augmentation that the method needs."""
    if training is None:
        return ()
    kind = type(training)
    looks = (
        kind.before_training is not TrainingMethod.before_training
        or kind.before_epoch is not TrainingMethod.before_epoch
    )
    return training.stored_views if looks else ()
