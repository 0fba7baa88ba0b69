"""Text metrics as additive counts: the sum over any set of items gives the metric of that set.

Means of item scores (CIDEr, ROUGE-L, cosines) add the score and 1. BLEU and METEOR are not means and add the counts of
n-grams and matches. One pass over the items is sufficient for the whole set, its parts and every bootstrap sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import numpy as np

from microg_da.errors import InputError
from microg_da.registry import Entry, Registry

METRICS = Registry(
    "metric",
    {
        "cider": Entry("microg_da.text.overlap:Cider", "consensus of 1- to 4-grams, weighted by rarity"),
        "bleu4": Entry("microg_da.text.overlap:Bleu4", "precision of 1- to 4-grams with a brevity penalty"),
        "rougeL": Entry("microg_da.text.overlap:RougeL", "longest common subsequence of words"),
        "meteor": Entry("microg_da.text.meteor:Meteor", "words matched by form, stem, synonym and paraphrase"),
        "sbert": Entry("microg_da.text.sbert:SentenceBert", "cosine of MiniLM sentence embeddings (S-BERT, S-VQA)"),
        "bertscore": Entry("microg_da.text.bertscore:BertScore", "F1 of best-matching token embeddings"),
    },
)


class Metric(ABC):
    """Comparison of candidates with one reference each.

    Attributes:
        reads_tokens: whether the metric reads the protocol's tokens or the original text.
    """

    reads_tokens = True

    @abstractmethod
    def statistics(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return the counts (N, S) of N pairs."""

    @abstractmethod
    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the metric, 0…1 (CIDEr 0…10), of sets with the summed counts ``sums`` (…, S); NaN for an empty set."""


class MeanMetric(Metric):
    """A metric that is the mean of item scores."""

    @abstractmethod
    def scores(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return the scores (N,) of N pairs."""

    def statistics(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return the score and 1 for every pair."""
        scores = np.asarray(self.scores(candidates, references), dtype=float)
        return np.stack([scores, np.ones_like(scores)], axis=1)

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean."""
        return ratio(sums[..., 0], sums[..., 1])


def ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Return the element-wise quotient, or ``empty`` for a denominator of 0."""
    quotient: np.ndarray = np.divide(
        numerator, denominator, out=np.full(np.shape(numerator), empty), where=denominator != 0
    )
    return quotient


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional extra.

    Raises:
        InputError: if the module is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise InputError(
            f"{purpose} needs {missing}, which is not installed: pip install 'microg_da[{extra}]', "
            "or choose other --metrics."
        ) from error
