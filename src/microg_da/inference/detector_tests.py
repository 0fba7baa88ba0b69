"""Comparison of several detectors on one split of any data, with paired intervals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd
import pytorch_lightning as pl
from rich.console import Console

from microg_da.adaptation.predictor import Predictor
from microg_da.data.datamodule import DomainDatasets
from microg_da.evaluation.finding import Difference
from microg_da.evaluation.intervals import Interval, of_resamples, resample
from microg_da.evaluation.protocols import Scores
from microg_da.evaluation.uncertainty import Resampled
from microg_da.inference.scoring import score_detector
from microg_da.taxonomy import get_taxonomy
from microg_da.types import Split, Variant


@dataclass(frozen=True)
class Candidate:
    """A detector to test.

    Attributes:
        variant: the variant of a run, or ``checkpoint`` for a detector from a file.
        made_by: the method that trained the detector, e.g. ``dann + rotation 180°``, or the network and the file of a
            checkpoint; empty if the variant is sufficient.
        test_time: the test-time method to try, with its arguments; None for the detector alone.
        predictor: the prepared detector and its test-time method.
        oracle: whether target labels took part in training or selection of a variant that is not an oracle by itself.
        prepared: seconds in which the method read training clips.
    """

    variant: Variant | Literal["checkpoint"]
    made_by: str
    test_time: str | None
    predictor: Predictor
    oracle: bool = False
    prepared: float = 0.0

    @property
    def name(self) -> str:
        """Unique name among the candidates, e.g. ``source_only + roll_tta``."""
        made = f"{self.variant} ({self.made_by})" if self.made_by else self.variant
        return made if self.test_time is None else f"{made} + {self.test_time}"


@dataclass(frozen=True)
class TriedDetector:
    """Scores of a candidate.

    Attributes:
        variant: as in :class:`Candidate`.
        made_by: as in :class:`Candidate`.
        test_time: as in :class:`Candidate`.
        oracle: as in :class:`Candidate`.
        scores: scores by the protocol of the test.
        interval: the 95% interval of mAP over source videos; None for too few source videos.
        change: difference of mAP to the first candidate, paired by source video; None for the first candidate.
        prepared: seconds of preparation.
        seconds: seconds of the test.
    """

    variant: Variant | Literal["checkpoint"]
    made_by: str
    test_time: str | None
    oracle: bool
    scores: Scores
    interval: Interval | None
    change: Difference | None
    prepared: float
    seconds: float

    def as_dict(self, *, per_class: bool = True) -> dict[str, object]:
        """Return the values as plain containers for JSON."""
        about = {name: getattr(self, name) for name in ("variant", "made_by", "test_time", "oracle")}
        interval = None if self.interval is None else self.interval._asdict()
        change = None if self.change is None else asdict(self.change)
        scores = self.scores.as_dict(per_class=per_class)
        times = {"prepared_seconds": round(self.prepared, 2), "seconds": round(self.seconds, 2)}
        return {**about, "scores": scores, "map_interval": interval, "map_change": change, **times}


@dataclass(frozen=True)
class DetectorTest:
    """The result of a test.

    Attributes:
        data: the SOURCE.
        split: the split of the data.
        protocol: the protocol of the scores.
        tried: the results of the candidates, in order.
        truth: the annotations of the split.
        detections: the detections of each candidate, in order, with logits as scores.
        skipped: clips that could not be read: ``video_id, frame_stamp, reason``.
        notes: notes for readers of the scores, one line each, including notes about oracles.
    """

    data: str
    split: Split
    protocol: str
    tried: tuple[TriedDetector, ...]
    truth: pd.DataFrame
    detections: tuple[pd.DataFrame, ...]
    skipped: pd.DataFrame
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the values as plain containers for JSON, without tables of annotations and detections."""
        about = {"data": self.data, "split": self.split, "protocol": self.protocol, "notes": list(self.notes)}
        return {**about, "skipped_clips": len(self.skipped), "tested": [each.as_dict() for each in self.tried]}

    def as_table(self) -> pd.DataFrame:
        """Return one row for each candidate, with scores as fractions."""
        table = pd.json_normalize([each.as_dict(per_class=False) for each in self.tried])
        table = table.drop(columns=[name for name in ("map_interval", "map_change") if name in table])
        return table.rename(columns=lambda name: name.removeprefix("scores.").replace(".", "_"))

    def per_class_table(self) -> pd.DataFrame:
        """Return one row for each candidate and class."""
        tables = []
        for each in self.tried:
            table = each.scores.per_class.copy()
            for place, name in enumerate(("variant", "made_by", "test_time")):
                table.insert(place, name, getattr(each, name))
            tables.append(table)
        return pd.concat(tables, ignore_index=True)


def try_candidates(
    candidates: Sequence[Candidate],
    datasets: DomainDatasets,
    split: Split,
    *,
    notes: Sequence[str] = (),
    console: Console | None = None,
) -> DetectorTest:
    """Test detectors on a split of the target of ``datasets``. Labels are read after the last prediction.

    Args:
        candidates: the detectors, with unique names.
        datasets: the clips and the configuration of the test.
        split: the split.
        notes: notes for the result.
        console: the terminal for progress bars.
    """
    config = datasets.config
    scores: list[Scores] = []
    tables: dict[str, pd.DataFrame] = {}
    seconds = []
    for candidate in candidates:
        pl.seed_everything(config.seed, workers=True, verbose=False)  # for methods that use random numbers at test time
        start = time.perf_counter()
        metrics = score_detector(candidate.predictor, datasets, "target", split=split, console=console)
        seconds.append(time.perf_counter() - start)
        candidate.predictor.to("cpu")
        scores.append(metrics.scores())
        tables[candidate.name] = metrics.detections()
    truth = datasets.get("target", split, labelled=False).annotations()
    drawn = resample(truth, tables, get_taxonomy(config.data.taxonomy), config.evaluation.protocol)
    tried = tuple(
        TriedDetector(
            variant=candidate.variant,
            made_by=candidate.made_by,
            test_time=candidate.test_time,
            oracle=candidate.oracle,
            scores=found,
            interval=None if drawn is None else of_resamples(drawn[candidate.name].macro),
            change=_change(drawn, candidate.name, candidates[0].name, found.map - scores[0].map),
            prepared=candidate.prepared,
            seconds=took,
        )
        for candidate, found, took in zip(candidates, scores, seconds, strict=True)
    )
    skipped = datasets.skipped().drop(columns=["domain", "split"])
    known = tuple(dict.fromkeys([*notes, *datasets.facts()["warnings"]]))
    data = config.data.target
    return DetectorTest(data, split, config.evaluation.protocol, tried, truth, tuple(tables.values()), skipped, known)


def _change(drawn: Mapping[str, Resampled] | None, name: str, reference: str, difference: float) -> Difference | None:
    if name == reference:
        return None
    interval = None if drawn is None else of_resamples(drawn[name].macro - drawn[reference].macro)
    return Difference.of(difference, interval)
