"""Presentation of an audit: a few tables on a terminal, or one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment
from rich.console import Console
from rich.table import Table

from microg_da.data.audit import AlikePair, Audit, group_table
from microg_da.data.frames import FrameStore
from microg_da.data.pictures import data_uri, shrunk
from microg_da.terminal import print_table

PICTURE_BYTES = 4_000_000
"""The budget in bytes of all images of a page."""
MOST_BYTES = 24_000
"""The budget in bytes of one image."""
MOST_PAIRS = 60
PICTURE_SIZE, PICTURE_SIDE = 320, 180
"""Longest side of an image and shortest side of a decoded frame, in pixels."""


class ShownPair(NamedTuple):
    """Two similar clips and a frame of each as a data URI."""

    pair: AlikePair
    first: str
    second: str


def print_audit(audit: Audit, console: Console) -> None:
    """Print errors first, then contents."""
    console.print(f"[bold]{audit.source}[/bold]", soft_wrap=True)
    console.print(_split(audit))
    problems = Table("found", "what", "detail", title="Findings", title_justify="left")
    # Names of clips often differ at their end, so that they are not truncated.
    problems.add_column("e.g.", overflow="fold")
    for finding in audit.problems:
        problems.add_row(f"{finding.count:,}", finding.name, finding.detail, "; ".join(finding.examples[:2]))
    print_table(problems, console)
    clean = [finding.name for finding in audit.findings if not finding.count]
    console.print(f"Checked, without findings: {', '.join(clean) or '(nothing)'}.")
    counts = Table("what", "number", title="Contents", title_justify="left")
    for name, count in audit.counts.items():
        counts.add_row(name, f"{count:,}")
    for persons, clips in audit.persons_per_clip.items():
        counts.add_row(f"clips with {persons} person{'s' if persons > 1 else ''}", f"{clips:,}")
    print_table(counts, console)
    if len(audit.splits):
        print_table(_as_rich(audit.splits, "Splits"), console)
    print_table(_as_rich(group_table(audit.classes), "Labels by group"), console)


def audit_html(audit: Audit, frames: FrameStore | None = None) -> str:
    """One page without outside resources.

    Args:
        audit: what was found.
        frames: the frames of the data, for pictures of similar clips; at most :data:`PICTURE_BYTES`.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("microg_da.data") / "audit.html.j2").read_text(encoding="utf-8"))
    tables = {"Splits": audit.splits.reset_index(names="split")} if len(audit.splits) else {}
    tables |= {
        "Labels by group": group_table(audit.classes).reset_index(),
        "Labels by class": audit.classes,
    }
    alike = [] if frames is None else embedded_pairs(audit.alike, frames)
    return template.render(audit=audit, split=_split(audit), tables=tables, alike=alike)


def embedded_pairs(pairs: Sequence[AlikePair], frames: FrameStore) -> list[ShownPair]:
    """The first :data:`MOST_PAIRS` pairs with a frame of each clip, together within :data:`PICTURE_BYTES`."""
    shown = pairs[:MOST_PAIRS]
    budget = min(PICTURE_BYTES // max(2 * len(shown), 1), MOST_BYTES)
    pictures = ([_middle_frame(frames, clip, budget) for clip in (pair.first, pair.second)] for pair in shown)
    return [ShownPair(pair, *both) for pair, both in zip(shown, pictures, strict=True)]


def _middle_frame(frames: FrameStore, video_id: str, budget: int) -> str:
    number = frames.num_frames(video_id) // 2
    image = next(iter(frames.read(video_id, np.array([number]), PICTURE_SIDE)))
    return data_uri(shrunk(image, PICTURE_SIZE), budget)


def _split(audit: Audit) -> str:
    return f"split {audit.split}" if audit.split else "without a split: the data has no split files"


def _as_rich(table: pd.DataFrame, title: str) -> Table:
    rich_table = Table("", *map(str, table.columns), title=title, title_justify="left")
    for name, row in table.iterrows():
        rich_table.add_row(str(name), *(f"{value:,}" for value in row))
    return rich_table
