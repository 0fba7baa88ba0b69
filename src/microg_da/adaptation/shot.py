"""Source hypothesis transfer."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from microg_da.adaptation.base import Losses
from microg_da.adaptation.source_free import SourceFree, SourceFreeArguments
from microg_da.types import Prediction


class SHOT(SourceFree):
    """The source model's classifier stays, and the backbone learns target features that it is sure of.

    Single predictions are made sure (low entropy) while the classes keep their rates. With ``pseudo_label_weight`` all
    target people get pseudo-labels by the nearest prototype at the beginning of every epoch.

    Liang et al., "Do we really need to access the source data? Source hypothesis transfer for unsupervised domain
    adaptation", ICML 2020.

    Deviations from the paper:

    - Pseudo-labels are off by default (the paper's SHOT-IM), for the reason given in :class:`SourceFreeArguments`.
    - The softmax is a Bernoulli distribution for each class in the support, and losses are means over these classes.
    - The diversity term of the paper would pull the rate of every class to one half. Here the running rates are held to
      the prior, those that the source model saw on the target, by KL(prior ‖ rate).
    - A class has two prototypes, of having it and of not having it, and the share of people that gets the label is
      exactly the prior's. With a softmax that share needs no care.
    - The detector has no bottleneck between features and classifier: all layers before the classifier learn at the rate
      that the paper gives to pretrained layers, and no weight normalisation or label smoothing is added to the source
      model.
    - The learning rate follows the schedule of the run.
    """

    Arguments: ClassVar[type] = SourceFreeArguments
    arguments: SourceFreeArguments

    def labelled_losses(self, target: Prediction, labels: Tensor | None, progress: float) -> Losses:
        """``entropy``, ``prior`` and ``pseudo_label``."""
        losses, _ = self.information_losses(target, labels)
        return losses
