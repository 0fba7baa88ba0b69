"""No adaptation."""

from __future__ import annotations

from microg_da.adaptation.base import Method


class SourceOnly(Method):
    """The source model as it is: neither trained on nor changed at test time."""
