"""No adaptation."""

from __future__ import annotations

from microg_da.adaptation.base import Method


class SourceOnly(Method):
    """The unchanged source model, without adaptation in training or at test time."""
