"""The Transfer Score: uniformity of the classifier, clustering of features, and mutual information."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.validation.confidence import information_maximisation
from microg_da.validation.observations import Observed
from microg_da.validation.structure import evenly

PROBES = 128
"""Number of people and of random points in the Hopkins statistic, limited to half of the people."""


def transfer_score(observed: Observed) -> float:
    """Return the Hopkins statistic plus mutual information over ln 2 minus the non-uniformity of the classifier.

    The score is NaN with fewer than four target people, fewer than two classes, or an unknown classifier. Each of the
    three terms is about in [0, 1], and they have equal weights as in the paper.

    Multi-label form: the classifier has the rows of the classes in the support. The mutual information is that between
    people and each binary class, averaged over classes and divided by its maximum ln 2. The paper divides that of the
    softmax by the logarithm of the number of classes. The non-uniformity follows our reading of the paper's
    uniformity: the mean difference between the angles of rows and the angle of a simplex, over π.

    Yang et al., "Can we evaluate domain adaptation models without target-domain labels?", ICLR 2024.
    """
    classifier, features = observed.supported_classifier, evenly(observed.target_features).double()
    if classifier is None or len(classifier) < 2 or len(features) < 4:
        return math.nan
    information = information_maximisation(observed) / math.log(2)
    return -unevenness(classifier.double()) + hopkins(features) + information


def unevenness(rows: Tensor) -> float:
    """Return the mean difference between the angles of ``C ≥ 2`` rows ``(C, D)`` and a simplex's angle, over π.

    A simplex has the largest possible angles between C directions: the cosine of each pair is ``-1 / (C - 1)``.
    """
    count = len(rows)
    cosines = (F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).T).clamp(-1, 1)
    angles = torch.arccos(cosines[torch.triu_indices(count, count, offset=1).unbind()])
    return float((angles - math.acos(-1 / (count - 1))).abs().mean()) / math.pi


def hopkins(points: Tensor, probes: int = PROBES) -> float:
    """Return the Hopkins statistic of ``N ≥ 2`` points ``(N, D)``: about 1/2 for uniform points, nearly 1 for clusters.

    The statistic is u / (u + w), where u are distances from random positions in the bounding box to the nearest point,
    and w are distances from points to their nearest neighbours. A fixed seed makes the result reproducible. The result
    is 1/2 if all points are equal.
    """
    points = points[points.sum(dim=1).argsort()]  # makes the draw independent of the order of the points
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
