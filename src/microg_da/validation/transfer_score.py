"""The Transfer Score: evenness of the classifier, clustering of features, confidence and variety of predictions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.validation.confidence import information_maximisation
from microg_da.validation.observations import Observed
from microg_da.validation.structure import evenly

PROBES = 128
"""How many people, and how many random points, the Hopkins statistic compares; at most half of the people."""


def transfer_score(observed: Observed) -> float:
    """Minus the classifier's unevenness, plus the Hopkins statistic, plus mutual information over ln 2.

    NaN with fewer than four target people, fewer than two classes, or where the classifier is not known. Each of the
    three terms lies in about [0, 1], and they are added unweighted as in the paper.

    Multi-label form: the classifier's rows are those of the classes in the support. The mutual information is that of
    a person and each class's yes or no, mean over classes, over ln 2, the most that two answers can carry; the paper
    divides that of the softmax by the logarithm of the number of classes. The unevenness is our reading of the paper's
    uniformity: the mean distance of the angles between rows from that of a simplex, over π.

    Yang et al., "Can we evaluate domain adaptation models without target-domain labels?", ICLR 2024.
    """
    classifier, features = observed.supported_classifier, evenly(observed.target_features).double()
    if classifier is None or len(classifier) < 2 or len(features) < 4:
        return math.nan
    information = information_maximisation(observed) / math.log(2)
    return -unevenness(classifier.double()) + hopkins(features) + information


def unevenness(rows: Tensor) -> float:
    """Mean over pairs of ``C ≥ 2`` rows ``(C, D)`` of how far their angle is from a simplex's, as a part of π.

    The directions of a simplex are as far apart as C directions can be: each pair has the cosine ``-1 / (C - 1)``.
    """
    count = len(rows)
    cosines = (F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).T).clamp(-1, 1)
    angles = torch.arccos(cosines[torch.triu_indices(count, count, offset=1).unbind()])
    return float((angles - math.acos(-1 / (count - 1))).abs().mean()) / math.pi


def hopkins(points: Tensor, probes: int = PROBES) -> float:
    """The Hopkins statistic of ``N ≥ 2`` points ``(N, D)``: about 1/2 of evenly spread ones, nearly 1 in clusters.

    Distances from random places in the points' bounding box to the nearest point, over these plus distances from
    points to their nearest neighbours. Places and points are drawn with a fixed seed, so that a score is repeated
    exactly. 1/2 where all points are one.
    """
    points = points[points.sum(dim=1).argsort()]  # the draw does not depend on the order of the points
    generator = torch.Generator().manual_seed(0)
    count = min(probes, max(len(points) // 2, 1))
    low, high = points.amin(dim=0), points.amax(dim=0)
    places = low + (high - low) * torch.rand(count, points.shape[1], generator=generator, dtype=points.dtype)
    chosen = torch.randperm(len(points), generator=generator)[:count]
    between = torch.cdist(points[chosen], points, compute_mode="donot_use_mm_for_euclid_dist")
    between[torch.arange(count), chosen] = math.inf
    outside = float(torch.cdist(places, points).amin(dim=1).sum())
    inside = float(between.amin(dim=1).sum())
    return outside / (outside + inside) if outside + inside > 0 else 0.5
