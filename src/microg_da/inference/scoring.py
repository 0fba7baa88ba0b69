"""One pass over clips that nothing is learnt from: what a detector scores, and what label-free validators say of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from microg_da.adaptation.base import Adaptation, create_adaptation
from microg_da.data.annotations import write_annotations
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.inference.feature_sample import PeopleSample
from microg_da.models.detector import ActionDetector
from microg_da.models.folding import fold_batch_norm
from microg_da.runs.folder import Run, is_leader
from microg_da.training.interruption import interruptible
from microg_da.training.module import DetectorModule
from microg_da.training.stage import make_trainer, quiet
from microg_da.types import DOMAINS, Domain, Split
from microg_da.validation import judge
from microg_da.validation.collapse import CollapseReport
from microg_da.validation.observations import Observations


def score_detector(
    run: Run,
    detector: ActionDetector,
    datasets: DomainDatasets,
    domain: Domain,
    adaptation: Adaptation | None = None,
    people: PeopleSample | None = None,
) -> DetectionMetrics:
    """Run a detector over a domain's test split; ``people`` keeps features of some of them.

    Returns:
        The accumulated predictions: ``.scores()`` and ``.detections()``.
    """
    config = run.config
    truth = datasets.get(domain, "test", labelled=False).annotations()
    if is_leader() and not run.ground_truth_file(domain).exists():
        write_annotations(truth, run.ground_truth_file(domain))
    metrics = DetectionMetrics(truth, taxonomy=config.data.taxonomy, protocol=config.evaluation.protocol)
    accumulate: dict[str, Any] = {"metrics": metrics, "scored": domain, "observations": people}
    pass_over(run, detector, adaptation, StageData(datasets), domain, "test", **accumulate)
    return metrics


def validate_detector(
    run: Run, detector: ActionDetector, datasets: DomainDatasets, adaptation: Adaptation | None = None
) -> tuple[dict[str, float], CollapseReport]:
    """What every label-free validator and the collapse guard say of a detector, on both domains' validation splits.

    Target labels are not read. Source labels are, for the validator that is made of them.
    """
    config = run.config
    truth = datasets.get("source", "val", labelled=False).annotations()
    metrics = DetectionMetrics(truth, taxonomy=config.data.taxonomy, protocol=config.evaluation.protocol)
    observations = Observations(detector.num_classes, detector.feature_dim)
    data = StageData(datasets)
    for domain in DOMAINS:
        # One pass a domain, as in the test: a method that adapts online must not meet the domains mixed.
        accumulate: dict[str, Any] = {"metrics": metrics, "scored": "source", "observations": observations}
        pass_over(run, detector, adaptation, data, domain, "val", **accumulate)
    return judge(observations.observed(metrics.scores().map))


def pass_over(
    run: Run,
    detector: ActionDetector,
    adaptation: Adaptation | None,
    data: StageData,
    domain: Domain,
    split: Split,
    *,
    trainer_options: Mapping[str, Any] | None = None,
    **accumulate: Any,
) -> None:
    """Let a detector predict a split's clips, for whatever accumulates."""
    method = adaptation or create_adaptation(
        "source_only", feature_dim=detector.feature_dim, num_classes=detector.num_classes
    )
    by_weights_alone = not method.acts_at_test_time
    if by_weights_alone and run.config.evaluation.fold_batch_norm:
        detector = fold_batch_norm(detector, run.config.model.num_frames, run.config.data.image_size)
    module = DetectorModule(detector, method, run.config.training, run.config.augment, **accumulate)
    # Methods that adapt at test time ask for gradients, which inference mode would forbid.
    trainer = make_trainer(run, inference_mode=by_weights_alone, **(trainer_options or {}))
    # Several processes share the clips; a method that learns from them must meet all of them, in order.
    data.trainer = trainer if by_weights_alone else None
    with quiet(), interruptible():
        trainer.test(module, dataloaders=data.test_loader(domain, split), verbose=False)
