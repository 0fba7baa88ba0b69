"""Structure of target features: their distances to one another and to source features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from microg_da.adaptation.mmd import multi_kernel_mmd
from microg_da.validation.observations import Observed

SND_TEMPERATURE = 0.05
MOST_PEOPLE = 1024
"""How many people of a domain are compared pair by pair; of more, as many are taken at even distances."""


def snd(observed: Observed) -> float:
    """Soft neighbourhood density of target predictions; NaN with fewer than three people or without classes.

    The mean entropy (nats) of each person's softmax, at temperature 0.05, over the cosines of their predictions to
    all others: high where all people have many near neighbours, as in dense clusters. Rows of probabilities of the
    classes in the support take the place of the paper's softmax; for rows that sum to 1 the score is the paper's. A
    person of whom little is predicted still has a direction, that of the classes nearest to it.

    Saito et al., "Tune it the right way: Unsupervised validation of domain adaptation via soft neighborhood
    density", ICCV 2021.
    """
    logits = observed.supported_target_logits
    if not logits.numel():
        return float("nan")
    return neighbourhood_entropy(torch.sigmoid(evenly(logits).double()))


def neighbourhood_entropy(rows: Tensor, temperature: float = SND_TEMPERATURE) -> float:
    """Mean entropy (nats) of the softmax over the cosines of each of ``(K, M)`` rows to all others; NaN if K < 3."""
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

    The cosine between the two matrices ``P^T P / K`` of probabilities. A softmax has one class a person, and is
    compared with the identity; of a multi-label person several classes are true, and which go together is read from
    the source. It is blind to a collapse of both domains.

    Tu, Deng, Zheng and Gedeon, "Assessing model out-of-distribution generalization with softmax prediction
    probability baselines and a correlation method", 2023 (Corr-C).
    """
    if not (observed.source_logits.numel() and observed.target_logits.numel()):
        return float("nan")
    both = observed.supported_source_logits, observed.supported_target_logits
    source, target = (class_correlation(logits) for logits in both)
    return float(F.cosine_similarity(source.flatten(), target.flatten(), dim=0, eps=1e-300))


def class_correlation(logits: Tensor) -> Tensor:
    """``(C, C)`` mean over people of the products of their probabilities."""
    probabilities = torch.sigmoid(logits.double())
    return probabilities.T @ probabilities / len(probabilities)


def mmd(observed: Observed) -> float:
    """Minus the multi-kernel discrepancy of the domains' RoI features; NaN with fewer than two people in a domain.

    Bandwidths follow the median distance, so that features which merely shrink are no nearer.

    Long et al., "Learning transferable features with deep adaptation networks", ICML 2015.
    """
    source, target = evenly(observed.source_features), evenly(observed.target_features)
    if min(len(source), len(target)) < 2:
        return float("nan")
    return -float(multi_kernel_mmd(source, target))


def evenly(people: Tensor, most: int = MOST_PEOPLE) -> Tensor:
    """At most ``most`` rows at even distances: pairs of all people would not fit into memory."""
    count = len(people)
    return people if count <= most else people[torch.arange(most) * count // most]
