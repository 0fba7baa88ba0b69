"""Confidence and variety of target predictions.

Each class is a Bernoulli variable of its own: where a paper has the softmax over classes, there is one sigmoid a
class here, and classes are averaged.
"""

from __future__ import annotations

import torch

from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.validation.observations import Observed


def entropy(observed: Observed) -> float:
    """Minus the mean Bernoulli entropy (nats) over target people and classes; NaN without people.

    0 for a detector that is sure of everything, which the collapsed ones are too.

    Morerio, Cavazza and Murino, "Minimal-entropy correlation alignment for unsupervised deep domain adaptation",
    ICLR 2018, choose by it.
    """
    logits = observed.supported_target_logits.float()
    return -float(bernoulli_entropy(logits).mean()) if logits.numel() else float("nan")


def information_maximisation(observed: Observed) -> float:
    """Mutual information (nats) between a target person and each class, mean over classes; NaN with fewer than two.

    The entropy of a class's mean probability less the mean of its entropies: high where people differ and each
    answer is sure, 0 where all get the same answer. No rate of the source is assumed.

    Musgrave, Belongie and Lim, "Three new validators and a large-scale benchmark ranking for unsupervised domain
    adaptation", 2022, after Krause, Perona and Gomes, NIPS 2010.
    """
    logits = observed.supported_target_logits.double()
    if len(logits) < 2 or not logits.numel():
        return float("nan")
    # As a logarithm of odds, since a mean probability may round to 0 or 1.
    mean_yes, mean_no = (torch.nn.functional.logsigmoid(sign * logits).logsumexp(dim=0) for sign in (1, -1))
    return float((bernoulli_entropy(mean_yes - mean_no) - bernoulli_entropy(logits).mean(dim=0)).mean())


def bnm(observed: Observed) -> float:
    """Nuclear norm of the ``(K, 2C)`` matrix ``[p, 1 - p]`` of target people over √(K C); NaN without people.

    Both answers of each class stand in the matrix, as all answers of a softmax do, so that "no" is an answer. Sure
    and identical answers give exactly 1, sure and varied ones up to √min(K, 2C); without the root, more people would
    look like more variety.

    Cui et al., "Towards discriminability and diversity: Batch nuclear-norm maximization under label insufficient
    situations", CVPR 2020.
    """
    logits = observed.supported_target_logits.double()
    if not logits.numel():
        return float("nan")
    answers = torch.cat([torch.sigmoid(logits), torch.sigmoid(-logits)], dim=1)
    return float(torch.linalg.matrix_norm(answers, "nuc") / logits.numel() ** 0.5)
