"""The target test of a run, read back from its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from microg_da.data.annotations import read_annotations, read_detections
from microg_da.taxonomy import Taxonomy, get_taxonomy


@dataclass(frozen=True)
class TargetTest:
    """What is true of the target test set, and what each detector of the run said.

    Attributes:
        truth: table of annotations.
        detections: table of detections, scored by logits, for each row of the run.
        taxonomy: the classes.
        protocol: the one that the run was scored by.
    """

    truth: pd.DataFrame
    detections: dict[str, pd.DataFrame]
    taxonomy: Taxonomy
    protocol: str


def read_source_truth(folder: Path) -> pd.DataFrame | None:
    """The annotations of a run's source test set, ``ground_truth/source.csv``; None where it is not in the folder.

    Raises:
        InputError: if the file is there and cannot be understood.
    """
    path = folder / "ground_truth" / "source.csv"
    return read_annotations(path) if path.is_file() else None


def read_target_test(folder: Path, rows: list[str], protocol: str, settings: dict[str, Any]) -> TargetTest | None:
    """Read ``ground_truth/target.csv`` and ``detections/<row>_target.csv.gz``; None where they are not in the folder.

    Args:
        folder: of the run.
        rows: of its results.
        protocol: by which it was scored.
        settings: its configuration, which names the taxonomy.

    Raises:
        InputError: if a file is there and cannot be understood.
    """
    truth = folder / "ground_truth" / "target.csv"
    files = {row: folder / "detections" / f"{row}_target.csv.gz" for row in rows}
    if not rows or not all(path.is_file() for path in (truth, *files.values())):
        return None
    taxonomy = get_taxonomy((settings.get("data") or {}).get("taxonomy") or "microg50")
    return TargetTest(
        truth=read_annotations(truth),
        detections={row: read_detections(file) for row, file in files.items()},
        taxonomy=taxonomy,
        protocol=protocol,
    )
