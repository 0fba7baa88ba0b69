"""The scores of a detector on a test split, and those of label-free validators."""

from __future__ import annotations

import torch
from rich.console import Console
from torch import Tensor

from microg_da.adaptation.predictor import Predictor
from microg_da.data.datamodule import DomainDatasets
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.inference.display import pass_display
from microg_da.inference.feature_sample import FeatureSample
from microg_da.inference.passes import as_configured, run_split_pass
from microg_da.inference.sinks import MixingSink, ScoreSink, Sink
from microg_da.types import DOMAINS, Domain, Split
from microg_da.validation import validate, validators_for
from microg_da.validation.collapse_report import CollapseReport
from microg_da.validation.observations import Observations


def score_detector(
    predictor: Predictor,
    datasets: DomainDatasets,
    domain: Domain,
    *,
    split: Split = "test",
    features: FeatureSample | None = None,
    console: Console | None = None,
) -> DetectionMetrics:
    """Score a detector on a split of a domain, as the configuration of ``datasets`` says; nothing is written.

    Args:
        predictor: the detector and its test-time method.
        datasets: the clips and their configuration.
        domain: of which domain.
        split: which split; clips of the training split are not augmented.
        features: keeps RoI features of some of the people.
        console: where a terminal shows a progress bar; None for none.

    Returns:
        The accumulated predictions: ``.scores()`` and ``.detections()``.
    """
    metrics = split_metrics(datasets, domain, split)
    sinks: list[Sink] = [ScoreSink(metrics, domain)]
    if features is not None:
        sinks.append(features)
    predictor = as_configured(predictor, datasets.config)
    run_split_pass(predictor, datasets, domain, split, sinks, callbacks=pass_display(console, f"{split} on {domain}"))
    return metrics


def validate_detector(
    predictor: Predictor,
    datasets: DomainDatasets,
    console: Console | None = None,
    source_map_before: float | None = None,
) -> tuple[dict[str, float], CollapseReport]:
    """The scores of every label-free validator and of the collapse guard, on both domains' validation splits.

    Target labels are not read. Source labels are, for the validator that is made of them and for the classes that all
    of them look at.

    Args:
        predictor: the detector and its test-time method.
        datasets: the clips and their configuration.
        console: where a terminal shows a progress bar; None for none.
        source_map_before: the source model's mAP on the source validation split, for the guard; None if unknown.
    """
    metrics = split_metrics(datasets, "source", "val")
    detector = predictor.detector
    observations = Observations(detector.num_classes, detector.feature_dim, datasets.class_rates)
    predictor = as_configured(predictor, datasets.config)
    for domain in DOMAINS:
        # One pass for each domain, as in the test: a method that adapts online must not meet both domains in one.
        callbacks = pass_display(console, f"val on {domain}")
        sinks: list[Sink] = [ScoreSink(metrics, "source"), observations]
        run_split_pass(predictor, datasets, domain, "val", sinks, callbacks=callbacks)
    weights, mixed = detector.head.projection.weight, mixed_answers(predictor, datasets, console)
    observed = observations.observed(metrics.scores().map, weights, mixed)
    return validate(observed, source_map_before, validators_for(datasets.config.selection))


def mixed_answers(predictor: Predictor, datasets: DomainDatasets, console: Console | None = None) -> Tensor:
    """``(P, 3, C)`` logits of two target validation people and of their mixture, see ``validation/mixing.py``.

    The pass is its own: a method that adapts online must not meet mixtures before its other answers are kept. Clips of
    a feature store have no pixels to mix: there P is 0.
    """
    classes = predictor.detector.num_classes
    if datasets.maps is not None:
        return torch.zeros(0, 3, classes)
    mixing = MixingSink(classes)
    callbacks = pass_display(console, "mixed val on target")
    run_split_pass(predictor, datasets, "target", "val", [mixing], callbacks=callbacks)
    return mixing.mixed.compute()


def split_metrics(datasets: DomainDatasets, domain: Domain, split: Split) -> DetectionMetrics:
    """Empty metrics against the annotations of a split, by the taxonomy and the protocol of the configuration."""
    config = datasets.config
    truth = datasets.get(domain, split, labelled=False).annotations()
    return DetectionMetrics(truth, taxonomy=config.data.taxonomy, protocol=config.evaluation.protocol)
