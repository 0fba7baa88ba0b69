"""Distance between the domains in a detector's features: a projection, and a number without projection."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.data.annotations import BOX, KEYFRAME, read_annotations
from microg_da.data.source_videos import source_videos_of
from microg_da.errors import InputError
from microg_da.evaluation.logistic import fit_deviations
from microg_da.reporting.content import Content
from microg_da.runs.layout import RunFolder
from microg_da.taxonomy import Taxonomy
from microg_da.types import DOMAINS, VARIANTS, Domain

COMPONENTS = 64
"""The number of principal components for the classifier."""
FOLDS = 5
LAYERS = 8
"""Points of groups are drawn alternately, so that no group covers another."""
SIZE = 300.0
ACTIVITIES = ("movement only", "with an object", "with a person", "with both")


@dataclass(frozen=True)
class People:
    """Features of a random sample of one domain's test people, from one detector.

    Attributes:
        features: ``(N, D)`` float64.
        video_id: ``(N,)`` str.
        frame_stamp: ``(N,)``.
        boxes: ``(N, 4)`` as the annotation table has them.
    """

    features: np.ndarray
    video_id: np.ndarray
    frame_stamp: np.ndarray
    boxes: np.ndarray

    @classmethod
    def read(cls, path: Path) -> People:
        """Read a file of ``features/``.

        Raises:
            InputError: if it is damaged.
        """
        try:
            with np.load(path) as stored:
                people = cls(
                    features=stored["features"].astype(np.float64),
                    video_id=stored["video_id"],
                    frame_stamp=stored["frame_stamp"],
                    boxes=stored["boxes"].astype(np.float64),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"cannot read {path}: {error}. Delete it; the report is made without it.") from error
        if not np.isfinite(people.features).all():
            raise InputError(f"{path}: some features are not finite numbers. Delete it; the report is made without it.")
        return people

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Projection:
    """The principal components of some vectors.

    Attributes:
        points: ``(N, K)``, the first K components, by falling variance.
        variance: ``(K,)``, the share of all variance that each holds.
    """

    points: np.ndarray
    variance: np.ndarray


def principal_components(features: np.ndarray, most: int) -> Projection:
    """Return up to ``most`` principal components of ``(N, D)`` features."""
    centred = features - features.mean(axis=0)
    # Both products have the same non-zero spectrum; the smaller one is cheaper for wide networks.
    wide = centred.shape[1] > centred.shape[0]
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    kept = values[:most] > values.max(initial=0) * 1e-10
    values, vectors, total = values[:most][kept], vectors[:, :most][:, kept], values.sum()
    points = vectors * np.sqrt(values) if wide else centred @ vectors
    return Projection(points, values / total if total > 0 else values)


def separability(points: np.ndarray, is_target: np.ndarray, videos: np.ndarray) -> float | None:
    """Return the accuracy of a linear domain classifier on people from held-out source videos.

    Logistic regression (penalty ½‖w‖², standardised inputs), cross-validated over source videos, since people of one
    video are similar. The result is the mean accuracy of both domains: 0.5 for indistinguishable domains, 1 for
    separable domains. (The proxy A-distance of Ben-David et al., NIPS 2006, is 4 × this − 2.)

    Args:
        points: ``(N, K)``.
        is_target: ``(N,)`` bool.
        videos: ``(N,)``, the source video of each.

    Returns:
        The accuracy, or None if a domain has fewer than two source videos.
    """
    fold = np.zeros(len(points), dtype=int)
    counts = []
    for domain in (False, True):
        mine = is_target == domain
        names, number = np.unique(videos[mine], return_inverse=True)
        counts.append(len(names))
        fold[mine] = number
    folds = min(FOLDS, *counts)
    if folds < 2:
        return None
    fold %= folds
    right = np.zeros(len(points), dtype=bool)
    for held_out in range(folds):
        train = fold != held_out
        mean, deviation = points[train].mean(axis=0), points[train].std(axis=0)
        x = (points - mean) / np.where(deviation > 0, deviation, 1)
        y = is_target[train, None]
        weights = fit_deviations(x[train].T[:, :, None], y, np.zeros(y.shape), pull=0.5)[:, 0]
        scores = x @ weights
        # The threshold is halfway between the means of both domains, independent of their proportions.
        threshold = (scores[train & is_target].mean() + scores[train & ~is_target].mean()) / 2
        right[~train] = (scores[~train] > threshold) == is_target[~train]
    return float((right[is_target].mean() + right[~is_target].mean()) / 2)


@dataclass(frozen=True)
class Scatter:
    """Data of the template ``scatter.html.j2``: (number of the group, path) and (number, name, people)."""

    title: str
    layers: list[tuple[int, str]]
    groups: list[tuple[int, str, int]]


def scatter(title: str, points: np.ndarray, group: np.ndarray, names: Sequence[str]) -> Scatter:
    """Lay out ``(N, 2)`` points in a square of :data:`SIZE`, both axes in the same unit, one style per group."""
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    span = max(float(np.ptp(points, axis=0).max()), 1e-12)
    x, y = (SIZE * (0.5 + 0.94 * (points - middle) / span * [1, -1])).T
    layers = []
    for part in range(LAYERS):
        for number in range(len(names)):
            chosen = np.flatnonzero(group == number)[part::LAYERS]
            if len(chosen):
                layers.append((number, "".join(f"M{x[i]:.1f} {y[i]:.1f}h0" for i in chosen)))
    counted = [(number, name, int((group == number).sum())) for number, name in enumerate(names)]
    return Scatter(title, layers, [entry for entry in counted if entry[2]])


def activities(people: People, truth: pd.DataFrame, taxonomy: Taxonomy) -> np.ndarray:
    """Return the index ``(N,)`` in :data:`ACTIVITIES` of each person; −1 for people who are not in the table."""
    table = truth.assign(group=[taxonomy.group(action) for action in truth["action_id"]])
    labels = table.assign(object=table["group"] == "OM", person=table["group"] == "PI")
    labels = labels.groupby([*KEYFRAME, *BOX], as_index=False)[["object", "person"]].max()
    sample = pd.DataFrame(people.boxes, columns=[f"{corner}_kept" for corner in BOX])
    sample = sample.assign(video_id=people.video_id, frame_stamp=people.frame_stamp, number=range(len(people)))
    pairs = sample.merge(labels, on=KEYFRAME)
    kept = pairs[[f"{corner}_kept" for corner in BOX]].to_numpy()
    pairs = pairs[(np.abs(kept - pairs[BOX].to_numpy()) < 1e-3).all(axis=1)]
    found = np.full(len(people), -1)
    found[pairs["number"]] = pairs["object"].astype(int) + 2 * pairs["person"].astype(int)
    return found


def domains_content(run: RunFolder, taxonomy: Taxonomy) -> Content | None:
    """Return the content of the page: pictures and separability for each variant with stored features."""
    shown = []
    for variant in VARIANTS:
        files = [run.features_file(variant, domain) for domain in DOMAINS]
        if all(file.is_file() for file in files):
            people = [People.read(file) for file in files]
            if min(map(len, people)) > 0:
                shown.append({"variant": variant, **_view(people, run, taxonomy)})
    return {"views": shown} if shown else None


def _view(people: Sequence[People], run: RunFolder, taxonomy: Taxonomy) -> Content:
    is_target = np.repeat([False, True], [len(part) for part in people])
    # A fixed drawing order that is independent of domain and video.
    order = np.random.default_rng(0).permutation(len(is_target))
    is_target = is_target[order]
    videos = np.concatenate([_source_videos(part, run, domain) for part, domain in zip(people, DOMAINS, strict=True)])
    videos = videos[order]
    found = principal_components(np.concatenate([part.features for part in people])[order], COMPONENTS)
    flat = np.zeros((len(order), 2))
    flat[:, : found.points.shape[1]] = found.points[:, :2]
    charts = [scatter("by domain", flat, is_target.astype(int), DOMAINS)]
    doing = _activities(people, run, taxonomy)
    if doing is not None:
        charts.append(scatter("by activity", flat, doing[order], ACTIVITIES))
    return {
        "charts": charts,
        "variance": found.variance[:2].tolist(),
        "components": found.points.shape[1],
        "kept": float(found.variance.sum()),
        "dimensions": people[0].features.shape[1],
        "separability": separability(found.points, is_target, videos),
        "separability_drawn": separability(flat, is_target, videos),
        "counts": [len(part) for part in people],
    }


def _source_videos(people: People, run: RunFolder, domain: Domain) -> np.ndarray:
    """Return the source video of each person, from the ground truth if it exists."""
    path = run.ground_truth_file(domain)
    table = pd.DataFrame({"video_id": people.video_id})
    return source_videos_of(table, read_annotations(path) if path.is_file() else table).to_numpy(str)


def _activities(people: Sequence[People], run: RunFolder, taxonomy: Taxonomy) -> np.ndarray | None:
    tables = [run.ground_truth_file(domain) for domain in DOMAINS]
    if not all(table.is_file() for table in tables) or "AC" in taxonomy.groups:  # actions without groups
        return None
    parts = zip(people, tables, strict=True)
    return np.concatenate([activities(part, read_annotations(table), taxonomy) for part, table in parts])
