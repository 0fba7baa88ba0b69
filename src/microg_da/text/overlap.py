"""CIDEr, BLEU-4 and ROUGE-L, by ``pycocoevalcap``."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from microg_da.text.metrics import MeanMetric, Metric, require


class Cider(MeanMetric):
    """CIDEr-D, with words weighted by their rarity among all references. Vedantam et al., CVPR 2015."""

    def scores(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return the item scores (N,), 0…10."""
        # The library fails for references without n-grams.
        if not any(reference.split() for reference in references):
            return np.zeros(len(references))
        scores: np.ndarray = _library("cider.cider").Cider().compute_score(*_numbered(references, candidates))[1]
        return scores


class RougeL(MeanMetric):
    """F measure of the longest common subsequence, with a weight of 1.2² for recall. Lin, ACL 2004."""

    def scores(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return the item scores (N,), 0…1."""
        scores: np.ndarray = _library("rouge.rouge").Rouge().compute_score(*_numbered(references, candidates))[1]
        return scores


class Bleu4(Metric):
    """Corpus BLEU with up to 4-grams. Papineni et al., ACL 2002."""

    ORDER = 4

    def statistics(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return for each pair: matched and total n-grams (4 + 4), length of candidate and of reference, and 1."""
        cook = _library("bleu.bleu_scorer").BleuScorer(n=self.ORDER)
        for candidate, reference in zip(candidates, references, strict=True):
            cook += (candidate, [reference])
        return np.array(
            [[*item["correct"], *item["guess"], item["testlen"], item["reflen"][0], 1] for item in cook.ctest],
            dtype=float,
        ).reshape(-1, 2 * self.ORDER + 3)

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the geometric mean of the precisions times the brevity penalty."""
        # The library adds these two small numbers, so that a precision of 0/0 is 0.
        precision = (sums[..., : self.ORDER] + 1e-15) / (sums[..., self.ORDER : 2 * self.ORDER] + 1e-9)
        length = (sums[..., -3] + 1e-15) / (sums[..., -2] + 1e-9)
        brevity = np.exp(np.minimum(0, 1 - 1 / length))
        return np.where(sums[..., -1] > 0, precision.prod(-1) ** (1 / self.ORDER) * brevity, np.nan)


def _library(module: str) -> ModuleType:
    return require(f"pycocoevalcap.{module}", "text", "CIDEr, BLEU-4 and ROUGE-L")


def _numbered(*columns: Sequence[str]) -> list[dict[int, list[str]]]:
    return [{index: [text] for index, text in enumerate(column)} for column in columns]
