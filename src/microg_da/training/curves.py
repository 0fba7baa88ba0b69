"""The curves of a stage, complete across interruptions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from microg_da.files import replacing


def set_aside(folder: Path) -> None:
    """Rename the curves of the part before an interruption, because Lightning's logger overwrites its file."""
    current = folder / "metrics.csv"
    if current.exists():
        current.rename(folder / f"metrics.part{len(list(folder.glob('metrics.part*.csv')))}.csv")


def join_curves(folder: Path) -> None:
    """Join all parts into ``metrics.csv``; where parts overlap, the later one counts."""
    parts = sorted(folder.glob("metrics.part*.csv"), key=lambda path: int(path.name.split("part")[1].split(".")[0]))
    if not parts:
        return
    joined = pd.DataFrame()
    for path in [*parts, folder / "metrics.csv"]:
        try:
            table = pd.read_csv(path)
        except (pd.errors.EmptyDataError, FileNotFoundError):
            continue
        joined = pd.concat([joined[joined["epoch"] < table["epoch"].min()] if len(joined) else joined, table])
    with replacing(folder / "metrics.csv") as temporary:
        joined.to_csv(temporary, index=False)
    for path in parts:
        path.unlink()
