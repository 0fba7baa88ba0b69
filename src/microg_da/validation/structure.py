"""Validators from the structure of target predictions and features, and their similarity to the source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.mmd import multi_kernel_mmd
from microg_da.validation.observations import Observed

SND_TEMPERATURE = 0.05
MOST_PEOPLE = 1024
"""Maximum number of people of a domain in pairwise comparisons, selected at even distances."""


def snd(observed: Observed) -> float:
    """Return the soft neighbourhood density of target predictions; NaN with fewer than three people or no classes.

    For each person, the score computes the softmax, with temperature 0.05, over the cosines to the predictions of all
    other people, and averages its entropy (nats) over people. The score is high if all people have many near
    neighbours, as in dense clusters. Vectors of class probabilities in the support replace the softmax outputs of the
    paper. For vectors with the sum 1, the score equals that of the paper. A person with low probabilities still has a
    direction.

    Saito et al., "Tune it the right way: Unsupervised validation of domain adaptation via soft neighborhood
    density", ICCV 2021.
    """
    logits = observed.supported_target_logits
    if not logits.numel():
        return float("nan")
    return neighbourhood_entropy(torch.sigmoid(evenly(logits).double()))


def neighbourhood_entropy(rows: Tensor, temperature: float = SND_TEMPERATURE) -> float:
    """Return the mean entropy (nats) of the softmax over cosines between ``(K, M)`` rows; NaN if K < 3."""
    rows = F.normalize(rows, dim=1, eps=1e-300)
    count = len(rows)
    if count < 3:
        return float("nan")
    similarity = rows @ rows.T / temperature
    others = similarity[~torch.eye(count, dtype=torch.bool)].view(count, count - 1)
    logs = others - others.logsumexp(dim=1, keepdim=True)
    return float(-(logs * logs.softmax(dim=1)).sum(dim=1).mean())


def corr_c(observed: Observed) -> float:
    """Return the similarity of class correlations of target and source predictions; NaN if a domain has no people.

    The score is the cosine between the matrices ``P^T P / K`` of probabilities of both domains. The paper has one
    class per person and compares with the identity. Here a person has several classes, and the source gives the
    expected correlations. The score does not detect a collapse on both domains.

    Tu, Deng, Zheng and Gedeon, "Assessing model out-of-distribution generalization with softmax prediction
    probability baselines and a correlation method", 2023 (Corr-C).
    """
    if not (observed.source_logits.numel() and observed.target_logits.numel()):
        return float("nan")
    both = observed.supported_source_logits, observed.supported_target_logits
    source, target = (class_correlation(logits) for logits in both)
    return float(F.cosine_similarity(source.flatten(), target.flatten(), dim=0, eps=1e-300))


def class_correlation(logits: Tensor) -> Tensor:
    """Return the ``(C, C)`` mean over people of the products of their probabilities."""
    probabilities = torch.sigmoid(logits.double())
    return probabilities.T @ probabilities / len(probabilities)


def mmd(observed: Observed) -> float:
    """Return the negative multi-kernel MMD of the domains' RoI features; NaN with fewer than two people in a domain.

    Bandwidths are proportional to the median distance, so that a smaller scale of the features does not change the
    score.

    Long et al., "Learning transferable features with deep adaptation networks", ICML 2015.
    """
    source, target = evenly(observed.source_features), evenly(observed.target_features)
    if min(len(source), len(target)) < 2:
        return float("nan")
    return -float(multi_kernel_mmd(source, target))


def evenly(people: Tensor, most: int = MOST_PEOPLE) -> Tensor:
    """Return at most ``most`` rows at even distances, because pairs of all people may not fit into memory."""
    count = len(people)
    return people if count <= most else people[torch.arange(most) * count // most]
