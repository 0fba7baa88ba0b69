"""Validators from confidence and diversity of target predictions.

Each class is a separate Bernoulli variable: one sigmoid for each class replaces the softmax of the papers, and classes
are averaged.
"""

from __future__ import annotations

import torch

from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.validation.observations import Observed


def entropy(observed: Observed) -> float:
    """Return the negative mean Bernoulli entropy (nats) over target people and classes; NaN without people.

    The score is 0 for a detector with only confident predictions, including a collapsed detector.

    Used for selection by Morerio, Cavazza and Murino, "Minimal-entropy correlation alignment for unsupervised deep
    domain adaptation", ICLR 2018.
    """
    logits = observed.supported_target_logits.float()
    return -float(bernoulli_entropy(logits).mean()) if logits.numel() else float("nan")


def information_maximisation(observed: Observed) -> float:
    """Return the mutual information (nats) between target people and each class, averaged over classes.

    The score is the entropy of a class's mean probability minus the mean of its entropies. It is high if people differ
    and each prediction is confident, and 0 if all people get the same prediction. It does not use class rates of the
    source. It is NaN with fewer than two people.

    Musgrave, Belongie and Lim, "Three new validators and a large-scale benchmark ranking for unsupervised domain
    adaptation", 2022, after Krause, Perona and Gomes, NIPS 2010.
    """
    logits = observed.supported_target_logits.double()
    if len(logits) < 2 or not logits.numel():
        return float("nan")
    # The mean is a logit, because a mean probability may be rounded to 0 or 1.
    mean_yes, mean_no = (torch.nn.functional.logsigmoid(sign * logits).logsumexp(dim=0) for sign in (1, -1))
    return float((bernoulli_entropy(mean_yes - mean_no) - bernoulli_entropy(logits).mean(dim=0)).mean())


def bnm(observed: Observed) -> float:
    """Return the nuclear norm of the ``(K, 2C)`` matrix ``[p, 1 - p]`` over √(K C); NaN without target people.

    The matrix contains the probabilities of "yes" and "no" for each class, in place of all outcomes of a softmax.
    Confident and identical predictions give exactly 1, confident and varied predictions up to √min(K, 2C). Without the
    root, the score would increase with the number of people.

    Cui et al., "Towards discriminability and diversity: Batch nuclear-norm maximization under label insufficient
    situations", CVPR 2020.
    """
    logits = observed.supported_target_logits.double()
    if not logits.numel():
        return float("nan")
    answers = torch.cat([torch.sigmoid(logits), torch.sigmoid(-logits)], dim=1)
    return float(torch.linalg.matrix_norm(answers, "nuc") / logits.numel() ** 0.5)
