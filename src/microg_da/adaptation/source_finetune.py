"""The control experiment: the same training on source clips only."""

from __future__ import annotations

from microg_da.adaptation.base import Supervised


class SourceFinetune(Supervised):
    """Continues supervised training on the source, without target clips.

    It is the control for all training methods. With ``adaptation.rotation`` it shows what rotation augmentation
    gives without target clips.
    """
