"""BERTScore with a local model folder; no weights are downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from microg_da.errors import InputError
from microg_da.text.metrics import MeanMetric, require


class BertScore(MeanMetric):
    """F1 of best-matching token embeddings, by the ``bert-score`` package, without weights and rescaling.

    The layer is the package's recommendation for the name of the folder (``roberta-large``: 17), else the last layer.
    An empty text scores 0. Zhang et al., ICLR 2020.

    Args:
        folder: a model in the format of ``transformers``.

    Raises:
        InputError: if there is no model in the folder.
    """

    reads_tokens = False

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "config.json").is_file():
            raise InputError(
                f"--bertscore-model {folder}: the folder has no config.json. Give a transformers model folder."
            )

    def scores(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return the item scores (N,)."""
        scores = np.zeros(len(candidates))
        present = [index for index, text in enumerate(candidates) if text.strip()]
        if present:
            _, _, f1 = self._scorer.score([candidates[i] for i in present], [references[i] for i in present])
            scores[present] = f1.numpy()
        return scores

    @cached_property
    def _scorer(self) -> Any:
        package = require("bert_score", "text-sbert", "BERTScore")
        config = require("transformers", "text-sbert", "BERTScore").AutoConfig.from_pretrained(
            self.folder, local_files_only=True
        )
        recommended = require("bert_score.utils", "text-sbert", "BERTScore").model2layers
        layers = recommended.get(self.folder.name, config.num_hidden_layers)
        return package.BERTScorer(model_type=str(self.folder), num_layers=layers)
