"""Blind baselines: answers and captions made from references without the video.

Each baseline states the references that it uses. A baseline that uses references of the same source video contains
its people, its rooms and the phrases of its annotator. Such a baseline measures the benchmark and is no fair comparison
for zero-shot models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from microg_da.errors import InputError
from microg_da.text.metrics import require
from microg_da.text.normalise import NOT_MENTIONED

# Items of the same source video that retrieval excludes, as a distance in clips: the clip itself, its surroundings
# (at 3 s per clip, half a minute before and after), or the whole video.
RADII = {"clip left out": 0.0, "10 clips around left out": 10.0, "source left out": np.inf}
_SEEN = {
    "clip left out": "all other clips, their neighbours in the same source video too",
    "10 clips around left out": "all clips more than 10 away, in the same source video too",
    "source left out": "the clips of the other source videos",
}
BLOCK = 512

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Baseline:
    """The texts of a blind system for every item, and a description of the data that it uses."""

    name: str
    saw: str
    texts: list[str]


def baselines(table: pd.DataFrame, task: str, embed: Embed | None = None, seed: int = 0) -> Iterator[Baseline]:
    """Yield all baselines of a task.

    Args:
        table: the references' table, see :class:`~microg_da.text.items.References`.
        task: ``"caption"`` or ``"vqa"``.
        embed: returns unit-length sentence embeddings (N, D) of N texts; None for no retrieval by embeddings.
        seed: seed of random choices.
    """
    _check_numbers(table)
    if task == "caption":
        yield from _caption_baselines(table, seed)
    else:
        yield from _answer_baselines(table, embed)


def _answer_baselines(table: pd.DataFrame, embed: Embed | None) -> Iterator[Baseline]:
    answers, questions = table["text"].to_numpy(object), table["question"].tolist()
    yield Baseline(f"constant “{NOT_MENTIONED}”", "nothing", [NOT_MENTIONED] * len(table))
    yield Baseline("commonest answer", "the answers of the other source videos", commonest_elsewhere(table))
    yield Baseline("echo of the question", "the question", questions)
    retrievals: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"TF-IDF": tfidf_similarity(questions)}
    if embed is not None:
        retrievals["MiniLM"] = cosine_similarity(embed(questions))
    for kind, similarity in retrievals.items():
        for radius, texts in _nearest_questions(table, answers, similarity).items():
            yield Baseline(f"{kind} nearest question, {radius}", f"the question, and {_SEEN[radius]}", texts)


def _caption_baselines(table: pd.DataFrame, seed: int) -> Iterator[Baseline]:
    same_source = "the captions of the other clips of the same source video"
    yield Baseline("random clip of the same source", same_source, _pick(table, partial(_random, seed=seed)))
    yield Baseline("nearest clip of the same source", same_source, _pick(table, _nearest_in_time))
    yield Baseline("medoid caption", "the captions of the other source videos", medoid_elsewhere(table))


def nearest_allowed(
    table: pd.DataFrame,
    answers: np.ndarray,
    similarity: Callable[[np.ndarray, np.ndarray], np.ndarray],
    radius: float,
) -> list[str]:
    """Return for every item the answer to the nearest question that is more than ``radius`` clips away.

    Many questions are identical. Among equally near questions, the commonest answer is returned, and among equally
    common answers the last answer in the table. If all items are excluded, the answer is empty.

    Args:
        table: columns ``source`` and ``number``.
        answers: the answers (N,).
        similarity: the similarities (rows, columns) of two lists of items, given by their indices.
        radius: distance within a source video, in clips, up to which items are excluded; 0 is the clip itself.
    """
    return _nearest_questions(table, answers, similarity, {"": radius})[""]


def _nearest_questions(
    table: pd.DataFrame,
    answers: np.ndarray,
    similarity: Callable[[np.ndarray, np.ndarray], np.ndarray],
    radii: dict[str, float] = RADII,
) -> dict[str, list[str]]:
    nearest = equally_near(table, similarity, radii)
    return {name: [_commonest(answers[found]) for found in items] for name, items in nearest.items()}


def equally_near(
    table: pd.DataFrame,
    similarity: Callable[[np.ndarray, np.ndarray], np.ndarray],
    radii: dict[str, float] = RADII,
) -> dict[str, list[np.ndarray]]:
    """Return for every radius and item the ascending indices of all items with the nearest question."""
    source = pd.factorize(table["source"])[0]
    number = table["number"].to_numpy(float)
    everything = np.arange(len(table))
    found: dict[str, list[np.ndarray]] = {name: [] for name in radii}
    for start in range(0, len(table), BLOCK):
        rows = everything[start : start + BLOCK]
        similar = similarity(rows, everything)
        # The distance to another source video is NaN, which is not within any radius.
        distance = np.where(source[rows, None] == source, np.abs(number[rows, None] - number), np.nan)
        for name, radius in radii.items():
            allowed = np.where(distance <= radius, -np.inf, similar)
            # The similarities of equal questions may differ in the last bits.
            nearest = (allowed >= allowed.max(axis=1, keepdims=True) - 1e-5) & np.isfinite(allowed)
            found[name] += [np.flatnonzero(row) for row in nearest]
    return found


def _commonest(answers: np.ndarray) -> str:
    # The list is reversed, because a Counter returns the first of equally common values.
    return Counter(answers[::-1]).most_common(1)[0][0] if answers.size else ""


def tfidf_similarity(texts: Sequence[str]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of the TF-IDF cosines of texts, from words and pairs of words."""
    vectors = _tfidf(texts)
    return lambda rows, columns: (vectors[rows] @ vectors[columns].T).toarray()


def cosine_similarity(vectors: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of the cosines of unit-length vectors (N, D)."""
    return lambda rows, columns: vectors[rows] @ vectors[columns].T


def _tfidf(texts: Sequence[str]):  # type: ignore[no-untyped-def] # a scipy matrix, and scipy is optional
    extraction = require("sklearn.feature_extraction.text", "text", "retrieval by TF-IDF")
    vectoriser = extraction.TfidfVectorizer(ngram_range=(1, 2), dtype=np.float32)
    return vectoriser.fit_transform([*texts, "a"])[:-1]


def commonest_elsewhere(table: pd.DataFrame) -> list[str]:
    """Return for every item the commonest answer of the other source videos except "Not mentioned"."""
    answerable = table[table["answerable"]]
    counts = pd.crosstab(answerable["text"], answerable["source"])
    total = counts.sum(axis=1)
    answers = {}
    for source in table["source"].unique():
        elsewhere = total - counts[source] if source in counts else total
        answers[source] = str(elsewhere.idxmax()) if elsewhere.max() > 0 else ""
    return table["source"].map(answers).tolist()


def medoid_elsewhere(table: pd.DataFrame) -> list[str]:
    """Return for every item the caption of the other source videos with the highest mean TF-IDF cosine to them."""
    vectors = _tfidf(table["text"].tolist())
    texts = table["text"].to_numpy(object)
    chosen = {}
    for source in table["source"].unique():
        others = np.flatnonzero(table["source"] != source)
        likeness = vectors[others] @ np.asarray(vectors[others].sum(axis=0)).ravel()
        chosen[source] = texts[others[likeness.argmax()]] if others.size else ""
    return table["source"].map(chosen).tolist()


def _pick(table: pd.DataFrame, choose: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    """Return the text of the item that ``choose`` selects for every item of a source video; empty for a single clip."""
    texts = table["text"].to_numpy(object)
    picked = np.full(len(table), "", dtype=object)
    for _, part in table.groupby("source", sort=False):
        if len(part) > 1:
            rows = part.index.to_numpy()
            picked[rows] = texts[rows[choose(part["number"].to_numpy(float))]]
    return picked.tolist()


def _nearest_in_time(number: np.ndarray) -> np.ndarray:
    distance = np.abs(number[:, None] - number)
    np.fill_diagonal(distance, np.inf)
    # Of two equally near clips, the earlier is selected.
    return np.lexsort((np.broadcast_to(number, distance.shape), distance), axis=-1)[:, 0]


def _random(number: np.ndarray, seed: int) -> np.ndarray:
    step = np.random.default_rng(seed).integers(1, len(number), size=len(number))
    return (np.arange(len(number)) + step) % len(number)


def _check_numbers(table: pd.DataFrame) -> None:
    unnumbered = table.loc[table["number"].isna(), "video_id"]
    if len(unnumbered):
        raise InputError(
            f"video_id {unnumbered.iloc[0]!r} does not end in _NUMBER. The baselines need the number of the clip "
            "in its source video."
        )
