"""The tables of a run's test: ground truth, and the detections of each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from microg_da.data.annotations import read_annotations, read_detections
from microg_da.evaluation.intervals import Intervals, paired_intervals
from microg_da.runs.layout import RunFolder
from microg_da.taxonomy import Taxonomy
from microg_da.types import Domain, Variant


@dataclass(frozen=True)
class TargetTest:
    """Ground truth of the target test split, and the detections of each variant of the run.

    Attributes:
        truth: table of annotations.
        detections: table of detections of each variant, with logits as scores.
        taxonomy: the classes.
        protocol: the protocol of the run's scores.
    """

    truth: pd.DataFrame
    detections: Mapping[Variant, pd.DataFrame]
    taxonomy: Taxonomy
    protocol: str

    def intervals(self) -> Intervals | None:
        """See :func:`~microg_da.evaluation.intervals.paired_intervals`."""
        return paired_intervals(self.truth, self.detections, self.taxonomy, self.protocol)


def read_target_test(
    run: RunFolder, variants: Sequence[Variant], taxonomy: Taxonomy, protocol: str
) -> TargetTest | None:
    """Read the ground truth and the detections of some variants; None if one of the files is not in the folder.

    Raises:
        InputError: if a file is damaged.
    """
    truth = run.ground_truth_file("target")
    files = {variant: run.detections_file(variant, "target") for variant in variants}
    if not variants or not all(path.is_file() for path in (truth, *files.values())):
        return None
    detections = {variant: read_detections(file) for variant, file in files.items()}
    return TargetTest(read_annotations(truth), detections, taxonomy, protocol)


def read_truth(run: RunFolder, domain: Domain) -> pd.DataFrame | None:
    """Read the annotations of a domain's test split; None if they are not in the folder.

    Raises:
        InputError: if the file is damaged.
    """
    path = run.ground_truth_file(domain)
    return read_annotations(path) if path.is_file() else None
