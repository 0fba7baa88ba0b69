"""Scores of a detector on a split, and scores of label-free validators."""

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
    """Score a detector on a split of a domain by the configuration of ``datasets``, without writing files.

    Args:
        predictor: the detector and its test-time method.
        datasets: the clips and their configuration.
        domain: the domain.
        split: the split; clips of the training split are not augmented.
        features: accumulates RoI features of a sample of people.
        console: the terminal for a progress bar; None for no bar.

    Returns:
        The accumulated predictions, with the methods ``scores()`` and ``detections()``.
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
    """Compute all label-free validators and the collapse detection on both domains' validation splits.

    Target labels are not read. Source labels are read for the source mAP and for the set of classes that the validators
    use.

    Args:
        predictor: the detector and its test-time method.
        datasets: the clips and their configuration.
        console: the terminal for a progress bar; None for no bar.
        source_map_before: the source model's mAP on the source validation split, for the collapse detection; None if
            unknown.
    """
    metrics = split_metrics(datasets, "source", "val")
    detector = predictor.detector
    observations = Observations(detector.num_classes, detector.feature_dim, datasets.class_rates)
    predictor = as_configured(predictor, datasets.config)
    for domain in DOMAINS:
        # One pass for each domain, as in the test, because a method that adapts online must not mix the domains.
        callbacks = pass_display(console, f"val on {domain}")
        sinks: list[Sink] = [ScoreSink(metrics, "source"), observations]
        run_split_pass(predictor, datasets, domain, "val", sinks, callbacks=callbacks)
    weights, mixed = detector.head.projection.weight, mixed_answers(predictor, datasets, console)
    observed = observations.observed(metrics.scores().map, weights, mixed)
    return validate(observed, source_map_before, validators_for(datasets.config.selection))


def mixed_answers(predictor: Predictor, datasets: DomainDatasets, console: Console | None = None) -> Tensor:
    """Return ``(P, 3, C)`` logits of two target validation people and their mixture, see ``validation/mixing.py``.

    Mixtures need a separate pass, because they would change a method that adapts online. Clips of a feature store have
    no pixels to mix, so P is 0.
    """
    classes = predictor.detector.num_classes
    if datasets.maps is not None:
        return torch.zeros(0, 3, classes)
    mixing = MixingSink(classes)
    callbacks = pass_display(console, "mixed val on target")
    run_split_pass(predictor, datasets, "target", "val", [mixing], callbacks=callbacks)
    return mixing.mixed.compute()


def split_metrics(datasets: DomainDatasets, domain: Domain, split: Split) -> DetectionMetrics:
    """Return empty metrics for the annotations of a split, by the configured taxonomy and protocol."""
    config = datasets.config
    truth = datasets.get(domain, split, labelled=False).annotations()
    return DetectionMetrics(truth, taxonomy=config.data.taxonomy, protocol=config.evaluation.protocol)
