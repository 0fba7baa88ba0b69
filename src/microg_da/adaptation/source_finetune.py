"""The control experiment: the same training on source clips alone."""

from __future__ import annotations

from microg_da.adaptation.base import Supervised


class SourceFinetune(Supervised):
    """Continues supervised training on the source; target clips are not looked at.

    It is the control of every training method. With ``adaptation.rotation`` it shows what rotation augmentation
    gives without target clips.
    """
