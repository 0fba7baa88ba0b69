"""CIDEr, BLEU-4 and ROUGE-L, by ``pycocoevalcap``."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from microg_da.text.metrics import MeanMetric, Metric, require


class Cider(MeanMetric):
    """CIDEr-D; words are weighted by how few of all references hold them. Vedantam et al., CVPR 2015."""

    def scores(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Item scores (N,), 0…10."""
        # The library cannot count n-grams of references that have none.
        if not any(reference.split() for reference in references):
            return np.zeros(len(references))
        scores: np.ndarray = _library("cider.cider").Cider().compute_score(*_numbered(references, candidates))[1]
        return scores


class RougeL(MeanMetric):
    """F measure of the longest common subsequence, recall counting 1.2² times. Lin, ACL 2004."""

    def scores(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Item scores (N,), 0…1."""
        scores: np.ndarray = _library("rouge.rouge").Rouge().compute_score(*_numbered(references, candidates))[1]
        return scores


class Bleu4(Metric):
    """Corpus BLEU with up to 4-grams. Papineni et al., ACL 2002."""

    ORDER = 4

    def statistics(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Per pair: right n-grams, given n-grams (4 + 4), length of the candidate, of the reference, one."""
        cook = _library("bleu.bleu_scorer").BleuScorer(n=self.ORDER)
        for candidate, reference in zip(candidates, references, strict=True):
            cook += (candidate, [reference])
        return np.array(
            [[*item["correct"], *item["guess"], item["testlen"], item["reflen"][0], 1] for item in cook.ctest],
            dtype=float,
        ).reshape(-1, 2 * self.ORDER + 3)

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Geometric mean of the precisions times the brevity penalty."""
        # The two tiny numbers are the library's: a precision of 0/0 is 0 and never an error.
        precision = (sums[..., : self.ORDER] + 1e-15) / (sums[..., self.ORDER : 2 * self.ORDER] + 1e-9)
        length = (sums[..., -3] + 1e-15) / (sums[..., -2] + 1e-9)
        brevity = np.exp(np.minimum(0, 1 - 1 / length))
        return np.where(sums[..., -1] > 0, precision.prod(-1) ** (1 / self.ORDER) * brevity, np.nan)


def _library(module: str) -> ModuleType:
    return require(f"pycocoevalcap.{module}", "text", "CIDEr, BLEU-4 and ROUGE-L")


def _numbered(*columns: Sequence[str]) -> list[dict[int, list[str]]]:
    return [{index: [text] for index, text in enumerate(column)} for column in columns]
