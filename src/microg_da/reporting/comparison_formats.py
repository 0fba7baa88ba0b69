"""A comparison as a table for other programs and for papers."""

from __future__ import annotations

import math

import pandas as pd

from microg_da.errors import unknown_name
from microg_da.reporting.numbers import MISSING
from microg_da.reporting.run_comparison import FIGURES, Comparison, Setting, verdict_text
from microg_da.reporting.tables import VARIANT_TITLES

FORMATS = ("csv", "markdown", "latex")

_TITLES = {**VARIANT_TITLES, "gap_recovered": "gap recovered"}
_LATEX = {
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "→": r"$\rightarrow$",
    "°": r"$^\circ$",
    "×": r"$\times$",
    "τ": r"$\tau$",
}


def format_comparison(comparison: Comparison, name: str) -> str:
    """A comparison as CSV (fractions), Markdown or LaTeX (× 100, mean ± standard deviation over seeds).

    Args:
        comparison: the result of :func:`~microg_da.reporting.run_comparison.compare_runs`.
        name: ``csv``, ``markdown`` or ``latex``.

    Raises:
        InputError: for another format.
    """
    if name == "csv":
        return comparison_frame(comparison).to_csv(index=False)
    if name == "markdown":
        table = readable_frame(comparison).map(lambda text: text.replace("|", r"\|"))
        align = ["left", *["right"] * (table.shape[1] - 1)]
        return str(table.to_markdown(index=False, disable_numparse=True, colalign=align)) + "\n"
    if name == "latex":
        table = readable_frame(comparison)
        text: str = table.to_latex(index=False, escape=True, column_format="l" + "r" * (table.shape[1] - 1))
        for character, command in _LATEX.items():
            text = text.replace(character, command)
        return text
    raise unknown_name("format", name, FORMATS, where="--format")


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each setting, with target mAP as fractions.

    Columns: ``setting``, ``runs`` (names, with spaces between), ``seeds``; of each variant, of the gap recovered and of
    the paired ``difference`` the mean over seeds, its standard deviation (``…_std``) and how many runs have it
    (``…_n``); ``low`` and ``high`` of the 95% interval of the difference, and ``verdict``.
    """
    return pd.DataFrame([_line(comparison, setting) for setting in comparison.settings])


def _line(comparison: Comparison, setting: Setting) -> dict[str, object]:
    line: dict[str, object] = {
        "setting": setting.name,
        "runs": " ".join(setting.runs["name"].astype(str)),
        "seeds": setting.seeds,
    }
    spreads = {name: setting.figures[name] for name in FIGURES} | {"difference": setting.difference}
    for name, spread in spreads.items():
        line[name] = math.nan if spread is None else spread.mean
        line[f"{name}_std"] = math.nan if spread is None else spread.deviation
        line[f"{name}_n"] = 0 if spread is None else spread.count
    low, high = (math.nan, math.nan) if setting.interval is None else setting.interval
    return line | {"low": low, "high": high, "verdict": verdict_text(comparison, setting)}


def readable_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row of texts for each setting, × 100, without figures that no run has."""
    shown = [name for name in FIGURES if any(setting.figures[name].count for setting in comparison.settings)]
    lines = []
    for setting in comparison.settings:
        difference = MISSING if setting.difference is None else setting.difference.text(signed=True)
        line = {"setting": setting.name, "seeds": str(setting.seeds)}
        line |= {_TITLES[name]: setting.text(name) for name in shown}
        lines.append(line | {"difference": difference, "verdict": verdict_text(comparison, setting)})
    return pd.DataFrame(lines)
