"""Format of figures: times 100, with one decimal and a true minus sign."""

from __future__ import annotations

import math

MISSING = "–"


def percent(value: float | None, *, signed: bool = False) -> str:
    """Format a fraction ×100 with one decimal and a true minus sign; "–" for None or NaN."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
    if float(text) == 0:
        text = "±0.0" if signed else "0.0"
    return text.replace("-", "−")
