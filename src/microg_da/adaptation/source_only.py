"""No adaptation."""

from __future__ import annotations

from typing import ClassVar

from microg_da.adaptation.base import Adaptation


class SourceOnly(Adaptation):
    """The source model as it is: the lower bound that every method is measured from."""

    trains: ClassVar[bool] = False
