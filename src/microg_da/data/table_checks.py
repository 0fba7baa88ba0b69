"""Checks values in tables of annotations or detections; errors give the row or line of the first invalid value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from microg_da.errors import InputError
from microg_da.taxonomy import MAX_ACTION_ID, Taxonomy

BOX = ["x1", "y1", "x2", "y2"]
TEXT = frozenset({"video_id", "domain", "source_video"})
"""Columns that hold text; all others hold numbers."""

_LARGEST = 2**53


@dataclass(frozen=True)
class Place:
    """The origin of the rows of a table."""

    source: str
    line: Callable[[int], int] | None = None

    def error(self, row: int, problem: str) -> InputError:
        """Return the error for a problem in one row."""
        if self.line is None:
            return InputError(f"{self.source}, row {row}: {problem}")
        return InputError(f"{self.source}, line {self.line(row)}: {problem}")


def check_table(table: pd.DataFrame, where: Place) -> None:
    """Check a table that was not read from a file.

    Args:
        table: annotations or detections with boxes.
        where: the name of the table, for error messages.

    Raises:
        InputError: for text in numeric columns, invalid ids and stamps, or boxes outside [0, 1].
    """
    for name in table.columns.difference(list(TEXT)):
        if len(table) and not pd.api.types.is_numeric_dtype(table[name]):
            raise InputError(
                f"{where.source}, column {name}: found {table[name].iloc[0]!r} of type {table[name].dtype}, expected "
                f"numbers. Convert the column, e.g. with pandas.to_numeric."
            )
    check_values(table, where, None)
    check_boxes(table, where, largest=1.0)


def check_values(table: pd.DataFrame, where: Place, taxonomy: Taxonomy | None) -> None:
    """Check ids, stamps and numbers, but not boxes.

    Raises:
        InputError: naming the first wrong row.
    """
    # Names repeat, so that checking distinct names is ten times faster.
    for text in table.columns.intersection(["video_id", "source_video"]):
        blank = [name for name in table[text].unique() if not str(name).strip()]
        reject(table[text].isin(blank), where, f"{text} is empty")
    if "source_video" in table:
        other = table.groupby("video_id")["source_video"].transform("first") != table["source_video"]
        reject(other, where, "source_video differs from that of an earlier row with the same video_id")
    for name in table.columns.difference(list(TEXT)):
        reject(~np.isfinite(table[name].to_numpy(np.float64)), where, f"{name} is not a finite number")
    for name in table.columns.intersection(["action_id", "person_id"]):
        hint = " (is this a file of detections?)" if name == "person_id" else ""
        values = table[name].to_numpy(np.float64)
        reject((values % 1 != 0) | (np.abs(values) > _LARGEST), where, f"{name} is not a whole number{hint}")
    if "frame_stamp" in table:
        stamps = table["frame_stamp"].to_numpy(np.float64)
        reject((stamps < 0) | (stamps > _LARGEST), where, "frame_stamp is negative or impossibly large")
    if "action_id" in table:
        ids = taxonomy.ids if taxonomy else range(1, MAX_ACTION_ID + 1)
        name = f"one of the {len(ids)} ids of taxonomy {taxonomy.name!r}" if taxonomy else f"in 1…{MAX_ACTION_ID}"
        reject(~table["action_id"].isin(ids), where, f"action_id is not {name}")


def check_boxes(table: pd.DataFrame, where: Place, largest: float | None) -> None:
    """Check that boxes have an area and lie in the image.

    Args:
        table: with the columns of a box.
        where: the name of the table.
        largest: the largest coordinate; None for pixels, which have no limit.

    Raises:
        InputError: naming the first wrong row.
    """
    boxes = table[BOX].to_numpy(np.float64)
    outside = (boxes < 0) | (boxes > (np.inf if largest is None else largest))
    unit = "pixels, 0 or more" if largest is None else "fractions of the image, in [0, 1]"
    reject(np.any(outside, axis=1), where, f"box outside the image; coordinates are {unit}")
    reject(np.any(boxes[:, :2] >= boxes[:, 2:], axis=1), where, "box without area; x1 < x2 and y1 < y2 are needed")


def reject(bad: pd.Series | np.ndarray | np.bool_, where: Place, problem: str) -> None:
    """Raise an error if any row is invalid, with the first such row and the number of others."""
    rows = np.flatnonzero(np.asarray(bad))
    if rows.size:
        more = f" (and {rows.size - 1} more such rows)" if rows.size > 1 else ""
        raise where.error(int(rows[0]), problem + more)
