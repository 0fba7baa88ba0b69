"""Tables of adaptation.py: methods compared with their controls, and choices of validators."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from microg_da.errors import InputError
from microg_da.evaluation.paired_comparison import holm
from microg_da.evaluation.seeds import paired_difference
from microg_da.validation.ranking import advantage_over_default, mean_within

HEADINGS = (
    *("method", "seeds", "source mAP", "target mAP", "gain", "gap recovered", "over control", "control", "p (Holm)"),
    *("seconds", "MiB", "verdict"),
)
PRINTED = ("method", "source mAP", "target mAP", "over control", "verdict")
"""The columns of the printed table."""
ON_PAGE = tuple(heading for heading in HEADINGS if heading not in ("seconds", "MiB"))
"""The columns of Markdown tables. The JSON file also has seconds and memory."""
GUARD = " + guard"
LEFT = ("method", "control", "verdict")
SIGNIFICANT = 0.05
VIDEO_INTERVAL = ("video_low", "video_high")
"""Bounds of the difference to the control over source videos; only for one seed."""
SOURCE_ONLY = "source_only"
ORACLE_ROWS = {"source_only": SOURCE_ONLY, "target_supervised": "target_supervised (oracle)"}


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return one line per method, in the order of adaptation.yaml."""
    groups = table.groupby("method", sort=False)
    spread = groups[["target_map", "gain"]].std().rename(columns={"target_map": "sd", "gain": "gain_sd"})
    means = groups[["source_map", "target_map", "gain", "gap", "seconds", "memory"]].mean()
    counts = groups.size().rename("seeds")
    marks = groups.agg(collapsed=("collapsed", "sum"), knows=("knows", "first"), control=("control", "first"))
    videos = groups.agg({bound: "first" for bound in VIDEO_INTERVAL if bound in table})
    return means.join(spread).join(counts).join(marks).join(against_controls(table)).join(videos)


def against_controls(table: pd.DataFrame) -> pd.DataFrame:
    """Return the paired difference over seeds and the corrected p-value of each method that has a control."""
    scores = table.pivot_table(index="seed", columns="method", values="target_map")
    controls = table.dropna(subset=["control"]).groupby("method", sort=False)["control"].first()
    lines = {}
    for method, control in controls.items():
        if control in scores:
            both = scores[[method, control]].dropna()
            lines[method] = paired_difference(both[method].tolist(), both[control].tolist())
    found = pd.DataFrame.from_dict(lines, orient="index", columns=["over_control", "half_width", "p"])
    tested = found["p"].notna()
    found["p_holm"] = math.nan
    if tested.any():
        found.loc[tested, "p_holm"] = holm(found.loc[tested, "p"].to_numpy())
    return found


def choices(table: pd.DataFrame) -> pd.DataFrame:
    """Return the choice of each validator, by seed, among all rows except oracles."""
    candidates = table[table["method"] != ORACLE_ROWS["target_supervised"]]
    best = candidates.groupby("seed")["target_map"].max()
    lines = []
    for column in [name for name in table.columns if name.startswith("validator/")]:
        scored = candidates.dropna(subset=[column])
        for guard in (False, True):
            admitted = scored[~scored["collapsed"]] if guard else scored
            if admitted.empty:
                continue
            chosen = admitted.loc[admitted.groupby("seed")[column].idxmax()].set_index("seed")
            between, _ = mean_within(admitted, ["seed"], column, "target_map")
            rows = admitted.dropna(subset=["family"]) if "family" in admitted else admitted.head(0)
            within, families = (
                mean_within(rows, ["seed", "family"], column, "target_map") if len(rows) else (math.nan, 0)
            )
            lines.append(
                {
                    "validator": column.removeprefix("validator/") + (GUARD if guard else ""),
                    "chosen": ", ".join(dict.fromkeys(chosen["method"])),
                    "target_map": chosen["target_map"].mean(),
                    "regret": (best - chosen["target_map"]).mean(),
                    "rank_correlation": between,
                    "within": within,
                    "families": families,
                    "over_default": over_default(rows, column),
                }
            )
    return pd.DataFrame(lines)


def over_default(rows: pd.DataFrame, column: str) -> float:
    """Return the gain in target mAP if a validator chooses the settings, over the default settings."""
    if rows.empty:
        return math.nan
    return advantage_over_default(
        rows, ["seed", "family"], column, "target_map", lambda part: part["default"].astype(bool)
    )[0]


def verdict(line: Any) -> str:
    """Return whether a method differs from its control, by the corrected test or by its interval."""
    way = "gain" if line.over_control > 0 else "loss"
    if math.isnan(line.half_width):
        low, high = video_interval(line)
        return "" if math.isnan(low) else "within noise" if low <= 0 <= high else way
    if line.p_holm < SIGNIFICANT:
        return f"{way}, significant"
    return way if abs(line.over_control) > line.half_width else "within noise"


def as_table(summary: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 0, 0, 1))
    for heading in PRINTED:
        method = heading == "method"
        justify: Any = "left" if heading in LEFT else "right"
        table.add_column(heading.removesuffix(" mAP"), justify=justify, no_wrap=not method, overflow="fold")
    for line in summary.itertuples():
        style = "red" if line.gain < 0 else "dim" if line.Index in ORACLE_ROWS.values() else ""
        shown = dict(zip(HEADINGS, cells(line), strict=True))
        table.add_row(*(shown[heading] for heading in PRINTED), style=style)
    return table


def cells(line: Any) -> list[str]:
    spread = "" if math.isnan(line.sd) else f" ± {line.sd:.1f}"
    collapsed = f" ({line.collapsed} of {line.seeds} collapsed)" if line.collapsed else ""
    knows = f" (knows {line.knows})" if line.knows else ""
    figures = [f"{line.source_map:.1f}", f"{line.target_map:.1f}{spread}", f"{line.gain:+.1f}", f"{line.gap:.0%}"]
    return [
        f"{line.Index}{knows}{collapsed}",
        str(line.seeds),
        *figures,
        *control_cells(line),
        f"{line.seconds:.0f}",
        f"{line.memory:.0f}",
        verdict(line),
    ]


def video_interval(line: Any) -> tuple[float, float]:
    """Return the interval over source videos, NaN if there is none."""
    return getattr(line, "video_low", math.nan), getattr(line, "video_high", math.nan)


def control_cells(line: Any) -> list[str]:
    if math.isnan(line.over_control):
        return ["", "", ""]
    low, high = video_interval(line)
    if not math.isnan(line.half_width):
        interval = f" ± {line.half_width:.1f}"
    else:
        interval = "" if math.isnan(low) else f" ({low:+.1f} to {high:+.1f})"
    p = "" if math.isnan(line.p_holm) else f"{line.p_holm:.3f}"
    return [f"{line.over_control:+.1f}{interval}", str(line.control), p]


def markdown(summary: pd.DataFrame, chosen: pd.DataFrame) -> str:
    rule = "".join("---|" if heading in LEFT else "---:|" for heading in ON_PAGE)
    lines = ["| " + " | ".join(ON_PAGE) + " |", f"|{rule}"]
    for line in summary.itertuples():
        shown = dict(zip(HEADINGS, cells(line), strict=True))
        lines.append("| " + " | ".join(shown[heading] for heading in ON_PAGE) + " |")
    headings = "validator | choice | target mAP | regret | weighted τ | within settings | over default"
    lines += ["", f"| {headings} |", "|---|---|---:|---:|---:|---:|---:|"]
    for line in without_repetitions(chosen).itertuples():
        figures = " | ".join(
            [f"{line.target_map:.1f}", f"{line.regret:.1f}"]
            + [
                "–" if math.isnan(value) else f"{value:{form}}"
                for value, form in ((line.rank_correlation, "+.2f"), (line.within, "+.2f"), (line.over_default, "+.1f"))
            ]
        )
        lines.append(f"| {line.validator} | {line.chosen} | {figures} |")
    return "\n".join(lines) + "\n"


def without_repetitions(chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the choices without those that the collapse guard does not change."""
    if chosen.empty:
        return chosen
    plain = chosen["validator"].str.removesuffix(GUARD)
    return chosen[~chosen.assign(validator=plain).duplicated()]


def write_into(page: Path, name: str, text: str) -> None:
    """Replace the text between ``<!-- table: NAME -->`` and ``<!-- end of table -->`` in a page.

    Raises:
        InputError: The page does not contain these lines.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- table: {name} -->\n")
    _, end, after = rest.partition("<!-- end of table -->")
    if not (begin and end):
        raise InputError(f"{page}: expected the lines '<!-- table: {name} -->' and '<!-- end of table -->'.")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
