"""Training: the Lightning module, schedules, stages, and `fit`, which strings them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microg_da.training.experiment import fit

__all__ = ["fit"]


def __getattr__(name: str) -> Any:
    if name == "fit":
        from microg_da.training.experiment import fit

        return fit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
