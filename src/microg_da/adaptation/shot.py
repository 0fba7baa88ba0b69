"""Source hypothesis transfer."""

from __future__ import annotations

from typing import ClassVar

from microg_da.adaptation.base import Losses
from microg_da.adaptation.source_free import SourceFree, SourceFreeArguments
from microg_da.types import Prediction


class SHOT(SourceFree):
    """The source model's classifier stays, and the backbone learns target features that it is sure of.

    The paper's softmax becomes a Bernoulli distribution for each class of each person. Single predictions are made
    sure (low entropy). The paper's diversity term would pull the rate of every class to one half, which hardly a class
    comes near; here the running rates are held to the prior, those that the source model saw on the target, by
    KL(prior ‖ rate), which grows without bound as a class dies out. Pseudo-labels come from the two prototypes of
    each class, see :class:`~microg_da.adaptation.prototypes.Prototypes`, which follow training instead of being made
    anew each epoch.

    Liang et al., "Do we really need to access the source data? Source hypothesis transfer for unsupervised domain
    adaptation", ICML 2020.
    """

    Arguments: ClassVar[type] = SourceFreeArguments
    arguments: SourceFreeArguments

    def losses(self, target: Prediction, progress: float) -> Losses:
        """``entropy``, ``prior`` and ``pseudo_label``."""
        losses, _ = self.information_losses(target)
        return losses
