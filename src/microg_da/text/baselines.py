"""Answers and captions made without looking at the video: the scores that references alone reach.

Each baseline says what it saw. One that has seen references of the same source video knows its cast, its rooms
and its annotator's phrases; it measures the benchmark, and no zero-shot model should be ranked against it.
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

# Which items of the same source video retrieval may not see, as a distance in clips: the clip, its surroundings
# (at 3 s a clip, half a minute on either side), the whole video.
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
    """A blind system's text for every item, and what it had seen to say it."""

    name: str
    saw: str
    texts: list[str]


def baselines(table: pd.DataFrame, task: str, embed: Embed | None = None, seed: int = 0) -> Iterator[Baseline]:
    """All baselines of a task, one after another.

    Args:
        table: the references' table, see :class:`~microg_da.text.items.References`.
        task: ``"caption"`` or ``"vqa"``.
        embed: unit-length sentence embeddings (N, D) of N texts; without it nothing is retrieved by them.
        seed: of what is drawn.
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
    """For every item the answer to the nearest question that is not within ``radius`` clips of it.

    Many questions are the same word for word. Of those equally near, the answer that most of them have is taken;
    of answers equally common, the one that is last in the table. Where all items are left out the answer is empty.

    Args:
        table: columns ``source`` and ``number``.
        answers: the answers (N,).
        similarity: the similarities (rows, columns) of two lists of items, given by their indices.
        radius: distance within a source video, in clips, up to which items are left out; 0 is the clip itself.
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
    """For every radius and item the indices, ascending, of all items whose question is nearest; see nearest_allowed."""
    source = pd.factorize(table["source"])[0]
    number = table["number"].to_numpy(float)
    everything = np.arange(len(table))
    found: dict[str, list[np.ndarray]] = {name: [] for name in radii}
    for start in range(0, len(table), BLOCK):
        rows = everything[start : start + BLOCK]
        similar = similarity(rows, everything)
        # Another source video is at no distance (NaN), and so within no radius.
        distance = np.where(source[rows, None] == source, np.abs(number[rows, None] - number), np.nan)
        for name, radius in radii.items():
            allowed = np.where(distance <= radius, -np.inf, similar)
            # Equal questions differ in the last bits of their similarity.
            nearest = (allowed >= allowed.max(axis=1, keepdims=True) - 1e-5) & np.isfinite(allowed)
            found[name] += [np.flatnonzero(row) for row in nearest]
    return found


def _commonest(answers: np.ndarray) -> str:
    # Reversed, since a Counter keeps the first of equals.
    return Counter(answers[::-1]).most_common(1)[0][0] if answers.size else ""


def tfidf_similarity(texts: Sequence[str]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Cosines of the texts' words and pairs of words, weighted by rarity."""
    vectors = _tfidf(texts)
    return lambda rows, columns: (vectors[rows] @ vectors[columns].T).toarray()


def cosine_similarity(vectors: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Cosines of unit-length vectors (N, D)."""
    return lambda rows, columns: vectors[rows] @ vectors[columns].T


def _tfidf(texts: Sequence[str]):  # type: ignore[no-untyped-def] # a scipy matrix, and scipy is optional
    extraction = require("sklearn.feature_extraction.text", "text", "retrieval by TF-IDF")
    vectoriser = extraction.TfidfVectorizer(ngram_range=(1, 2), dtype=np.float32)
    return vectoriser.fit_transform([*texts, "a"])[:-1]


def commonest_elsewhere(table: pd.DataFrame) -> list[str]:
    """For every item the commonest answer of the other source videos that is not "Not mentioned"."""
    told = table[table["answerable"]]
    counts = pd.crosstab(told["text"], told["source"])
    total = counts.sum(axis=1)
    answers = {}
    for source in table["source"].unique():
        elsewhere = total - counts[source] if source in counts else total
        answers[source] = str(elsewhere.idxmax()) if elsewhere.max() > 0 else ""
    return table["source"].map(answers).tolist()


def medoid_elsewhere(table: pd.DataFrame) -> list[str]:
    """For every item the caption of the other source videos that is most like all of them (mean TF-IDF cosine)."""
    vectors = _tfidf(table["text"].tolist())
    texts = table["text"].to_numpy(object)
    chosen = {}
    for source in table["source"].unique():
        others = np.flatnonzero(table["source"] != source)
        likeness = vectors[others] @ np.asarray(vectors[others].sum(axis=0)).ravel()
        chosen[source] = texts[others[likeness.argmax()]] if others.size else ""
    return table["source"].map(chosen).tolist()


def _pick(table: pd.DataFrame, choose: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    """The text of the item that ``choose`` gives for every place, source by source; empty where there is one clip."""
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
    # Of two equally near clips the earlier.
    return np.lexsort((np.broadcast_to(number, distance.shape), distance), axis=-1)[:, 0]


def _random(number: np.ndarray, seed: int) -> np.ndarray:
    step = np.random.default_rng(seed).integers(1, len(number), size=len(number))
    return (np.arange(len(number)) + step) % len(number)


def _check_numbers(table: pd.DataFrame) -> None:
    unnumbered = table.loc[table["number"].isna(), "video_id"]
    if len(unnumbered):
        raise InputError(
            f"video_id {unnumbered.iloc[0]!r} does not end in _NUMBER, the clip's place in its source video, "
            "which the baselines need."
        )
