"""Validator that uses labelled source clips."""

from __future__ import annotations

from microg_da.validation.observations import Observed


def source_map(observed: Observed) -> float:
    """Return mAP on the source validation split; NaN if it was not scored."""
    return float("nan") if observed.source_map is None else float(observed.source_map)
