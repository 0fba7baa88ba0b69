"""Scores of texts over the whole set, its parts and source videos, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.errors import InputError, unknown_name
from microg_da.text.java import PtbTokens
from microg_da.text.metrics import METRICS, Metric
from microg_da.text.normalise import is_absent

PROTOCOLS = {
    "released": "words between spaces, with upper case and full stops; as in the paper",
    "ptb": "Penn Treebank tokens in lower case without punctuation; as in the COCO caption evaluation",
}
PARTS = ("source", "answerable", "qtype")
DEFAULT_METRICS = ("cider", "bleu4", "rougeL", "meteor", "sbert")
PERCENT = 100.0
RESAMPLES = 2000


@dataclass(frozen=True)
class TextScores:
    """Scores of a system, with every metric times 100 as in the paper.

    Attributes:
        overall: every metric over all items.
        answerable: every metric over the items whose answer is not "Not mentioned".
        headline: every metric over the answerable items of each source video, averaged over source videos.
        parts: ``parts[by][part]``: every metric over that part, and ``items``, the number of items.
        intervals: ``intervals["overall" | "headline"][metric]``: 95% confidence interval over resampled source videos.
    """

    overall: dict[str, float]
    answerable: dict[str, float]
    headline: dict[str, float]
    parts: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)


class Scorer:
    """Scores systems on one set of references.

    CIDEr weights words by their rarity among all references, also for parts of the set.

    Args:
        table: the references' table, see :class:`~microg_da.text.items.References`.
        metrics: names from :data:`~microg_da.text.metrics.METRICS`.
        protocol: ``"released"`` or ``"ptb"``.
        bertscore_model: a model folder, which BERTScore needs.

    Raises:
        InputError: if a name is unknown, or BERTScore is requested without a model.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        metrics: Sequence[str] = DEFAULT_METRICS,
        protocol: str = "ptb",
        bertscore_model: str | Path | None = None,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise unknown_name("protocol", protocol, PROTOCOLS)
        self.table = table
        self._tokens = PtbTokens() if protocol == "ptb" else list
        self._metrics: dict[str, Metric] = {}
        for name in metrics:
            metric = METRICS.load(name, "--metrics")
            if name == "bertscore" and bertscore_model is None:
                raise InputError(
                    "bertscore needs a model folder. Give --bertscore-model DIR, or remove bertscore from --metrics."
                )
            self._metrics[name] = metric(bertscore_model) if name == "bertscore" else metric()

    def score(self, texts: Sequence[str], by: Sequence[str] = (), ci: bool = False) -> TextScores:
        """Score one text per item, in the order of the table.

        Args:
            texts: the texts of the system; absent texts (empty or ``nan``) count as empty.
            by: parts to report, of :data:`PARTS`.
            ci: whether to compute confidence intervals.
        """
        for part in by:
            if part not in PARTS:
                raise unknown_name("part", part, PARTS, "--by")
        counts = self._statistics(["" if is_absent(text) else text for text in texts])
        answerable = self.table["answerable"].to_numpy(bool)
        return TextScores(
            overall=self._values(counts, np.ones(len(self.table), bool)),
            answerable=self._values(counts, answerable),
            headline={name: _finite_mean(values) for name, values in self._per_source(counts, answerable).items()},
            parts={name: self._part(counts, name) for name in by},
            intervals=self._intervals(counts, answerable) if ci else {},
        )

    def _statistics(self, texts: list[str]) -> dict[str, np.ndarray]:
        references = self.table["text"].tolist()
        # Metrics run in parallel: METEOR and the tokeniser are separate programs, and embedding releases the
        # interpreter lock.
        with ThreadPoolExecutor() as pool:
            started = {
                name: pool.submit(metric.statistics, texts, references)
                for name, metric in self._metrics.items()
                if not metric.reads_tokens
            }
            # All texts are in one list, so that the tokeniser starts once.
            tokens = self._tokens([*texts, *references])
            candidates, references = tokens[: len(texts)], tokens[len(texts) :]
            for name in self._metrics.keys() - started.keys():
                started[name] = pool.submit(self._metrics[name].statistics, candidates, references)
            return {name: started[name].result() for name in self._metrics}

    def _values(self, counts: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, float]:
        return {name: float(self._value(name, rows[mask].sum(0))) for name, rows in counts.items()}

    def _value(self, name: str, sums: np.ndarray) -> np.ndarray:
        return PERCENT * self._metrics[name].value(sums)

    def _part(self, counts: dict[str, np.ndarray], by: str) -> dict[str, dict[str, float]]:
        column = self.table[by]
        if by == "answerable":
            column = column.map({True: "answerable", False: "not mentioned"})
        return {
            str(part): {"items": int(number), **self._values(counts, (column == part).to_numpy())}
            for part, number in column.value_counts().items()
        }

    def _per_source(self, counts: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric for every source video (sources,); NaN without items in the mask."""
        return {name: self._value(name, sums) for name, sums in self._sums(counts, mask).items()}

    def _sums(self, counts: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
        codes, sources = pd.factorize(self.table["source"])
        member = np.zeros((len(sources), len(codes)))
        member[codes, np.arange(len(codes))] = mask
        return {name: member @ rows for name, rows in counts.items()}

    def _intervals(
        self, counts: dict[str, np.ndarray], answerable: np.ndarray
    ) -> dict[str, dict[str, tuple[float, float]]]:
        sums = self._sums(counts, np.ones_like(answerable))
        num_sources = self.table["source"].nunique()
        if num_sources < 2:
            raise InputError("--ci resamples source videos, but all items come from one source video. Remove --ci.")
        times = np.random.default_rng(0).multinomial(num_sources, np.full(num_sources, 1 / num_sources), RESAMPLES)
        intervals: dict[str, dict[str, tuple[float, float]]] = {"overall": {}, "headline": {}}
        for name, values in self._per_source(counts, answerable).items():
            finite = np.isfinite(values)
            weight = (times * finite).sum(1)
            means = (times * np.where(finite, values, 0)).sum(1)[weight > 0] / weight[weight > 0]
            intervals["overall"][name] = _middle(self._value(name, times @ sums[name]))
            intervals["headline"][name] = _middle(means)
        return intervals


def _middle(samples: np.ndarray) -> tuple[float, float]:
    if not samples.size:
        return float("nan"), float("nan")
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def _finite_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def as_dict(scores: TextScores) -> dict[str, object]:
    """Return the scores as plain values for JSON, without scores that were not requested."""
    answer: dict[str, object] = {
        "overall": scores.overall,
        "answerable": scores.answerable,
        "headline": scores.headline,
    }
    if scores.parts:
        answer["parts"] = scores.parts
    if scores.intervals:
        answer["intervals"] = scores.intervals
    return answer
