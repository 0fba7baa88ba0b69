"""Output of `test`: the scores of several detectors on one split, as a table and files."""

from __future__ import annotations

import re
from pathlib import Path

from rich.table import Table
from rich.text import Text

from microg_da.data.annotations import write_annotations, write_detections
from microg_da.evaluation.finding import Difference
from microg_da.evaluation.intervals import FEWEST_VIDEOS, Interval
from microg_da.files import replacing, write_json
from microg_da.inference.detector_tests import DetectorTest, TriedDetector
from microg_da.reporting.numbers import MISSING, percent
from microg_da.reporting.tables import METRICS, VARIANT_TITLES, detectors_table, duration

_STYLES = {"better": "green", "worse": "red"}


def title(tried: TriedDetector) -> str:
    """Return the title of a detector: ``source-only + roll_tta``, ``adapted (dann)``, ``x3d_s from weights.pyth``."""
    if tried.variant == "checkpoint":
        made = tried.made_by
    else:
        made = VARIANT_TITLES[tried.variant] + (f" ({tried.made_by})" if tried.made_by else "")
    method = f" + {tried.test_time}" if tried.test_time else ""
    return made + method + (", oracle" if tried.oracle else "")


def detector_test_table(test: DetectorTest) -> Table:
    """Return a table with one row per detector: scores ×100, 95% interval of mAP, change from the first row."""
    headers = ["\nmAP", "95%\ninterval", *(f"\n{name}" for name in list(METRICS.values())[1:])]
    changes = ["change\nof mAP", "95%\ninterval"] if len(test.tried) > 1 else []
    table = detectors_table([*headers, *changes, "\ntime"], _lines(test))
    for tried in test.tried:
        figures = [percent(getattr(tried.scores, metric)) for metric in METRICS]
        cells: list[str | Text] = [figures[0], _span(tried.interval), *figures[1:]]
        if changes:
            cells += _change(tried.change)
        table.add_row(title(tried), *cells, duration(tried.prepared + tried.seconds))
    return table


def write_detector_test(test: DetectorTest, folder: str | Path) -> Path:
    """Write ``test.json``, ``test.csv``, ``per_class.csv``, the ground truth and the detections of each detector.

    Returns:
        The folder.

    Raises:
        InputError: if a file cannot be written.
    """
    folder = Path(folder)
    write_annotations(test.truth, folder / "ground_truth.csv")
    files = [f"detections/{number}_{_slug(title(tried))}.csv.gz" for number, tried in enumerate(test.tried, 1)]
    for file, detections in zip(files, test.detections, strict=True):
        write_detections(detections, folder / file)
    scores = test.as_table()
    scores.insert(0, "title", [title(tried) for tried in test.tried])
    tables = {"test": scores, "per_class": test.per_class_table()}
    if len(test.skipped):
        tables["skipped"] = test.skipped
    for name, table in tables.items():
        with replacing(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    names = {"titles": [title(tried) for tried in test.tried], "detections": files}
    write_json(folder / "test.json", {**test.as_dict(), **names})
    return folder


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-")


def _lines(test: DetectorTest) -> list[str]:
    scores = test.tried[0].scores
    lines = [
        f"{test.data}, {test.split} split: {scores.num_boxes:,} people in {scores.num_keyframes:,} keyframes, "
        f"{test.protocol} protocol"
    ]
    if test.tried[0].interval is None:
        lines.append(f"no intervals: fewer than {FEWEST_VIDEOS} source videos")
    if len(test.skipped):
        lines.append(f"{len(test.skipped)} clips could not be read and were skipped")
    return lines


def _span(interval: Interval | None) -> str:
    return MISSING if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"


def _change(change: Difference | None) -> list[str | Text]:
    if change is None:
        return [MISSING, MISSING]
    style = _STYLES.get(change.verdict, "")
    figure = Text(percent(change.value, signed=True), style=style)
    if change.low is None or change.high is None:
        return [figure, MISSING]
    return [figure, Text(f"{percent(change.low, signed=True)} to {percent(change.high, signed=True)}", style=style)]
