"""``metrics/<stage>/metrics.csv``: the logged values of each stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from microg_da.errors import InputError
from microg_da.runs.layout import RunFolder
from microg_da.types import STAGES


def read_curves(run: RunFolder) -> dict[str, pd.DataFrame]:
    """Read the logged values of the stages, in the order of training.

    Raises:
        InputError: if a file is damaged.
    """
    found = [path.parent.name for path in sorted(run.metrics_folder.glob("*/metrics.csv"))]
    ordered = [stage for stage in STAGES if stage in found] + [stage for stage in found if stage not in STAGES]
    return {stage: _read_curve(run.metrics_file(stage)) for stage in ordered}


def _read_curve(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a CSV file of metrics ({error}).") from error
