"""Source hypothesis transfer."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from microg_da.adaptation.base import Losses
from microg_da.adaptation.source_free import SourceFree, SourceFreeArguments
from microg_da.types import Prediction


class SHOT(SourceFree):
    """Freezes the source classifier and trains the backbone for confident predictions on the target.

    The entropy of predictions is minimised while class rates are preserved. With ``pseudo_label_weight``, all target
    people get pseudo-labels by the nearest prototype at the start of each epoch.

    Liang et al., "Do we really need to access the source data? Source hypothesis transfer for unsupervised domain
    adaptation", ICML 2020.

    Deviations from the paper:

    - Pseudo-labels are off by default (the paper's SHOT-IM), for the reason given in :class:`SourceFreeArguments`.
    - A Bernoulli distribution for each class in the support replaces the softmax; losses are means over these classes.
    - The diversity term of the paper would draw the rate of each class to one half. Here KL(prior ‖ rate) draws the
      moving average of rates to the prior, the rates that the source model predicts on the target.
    - A class has two prototypes, for presence and absence, and the fraction of people with the label equals the prior.
    - The detector has no bottleneck between features and classifier: all layers before the classifier have the
      paper's learning rate for pretrained layers, and the source model has no weight normalisation or label smoothing.
    - The learning rate follows the schedule of the run.
    """

    Arguments: ClassVar[type] = SourceFreeArguments
    arguments: SourceFreeArguments

    def labelled_losses(self, target: Prediction, labels: Tensor | None, progress: float) -> Losses:
        """Return ``entropy``, ``prior`` and ``pseudo_label``."""
        losses, _ = self.information_losses(target, labels)
        return losses
