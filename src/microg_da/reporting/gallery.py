"""The example keyframes of a run: who is where, what is true, what was predicted before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microg_da.reporting.figures import embedded_image, embedded_strip
from microg_da.reporting.run_folder import ADAPTED, ROWS, SOURCE_ONLY

THRESHOLD = 0.5
MAX_LABELS = 10


@dataclass(frozen=True)
class Verdict:
    """One prediction judged: ``outcome`` is correct, wrong, missed or absent (rightly not predicted)."""

    probability: float | None
    outcome: str


@dataclass(frozen=True)
class Label:
    """One action of one person: whether it is true, and the verdict on each row of the run."""

    name: str
    true: bool
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Person:
    """One box, ``left top width height`` in percent of the image, and its labels."""

    number: int
    box: tuple[float, float, float, float]
    labels: list[Label]
    more: int


@dataclass(frozen=True)
class Example:
    """One keyframe with everything the gallery shows of it."""

    domain: str
    video_id: str
    frame_stamp: Any
    image: str
    size: tuple[int, int]
    strip: tuple[str, int] | None
    people: list[Person]
    fixed: int
    broken: int


def judge(probability: float | None, true: bool) -> Verdict:
    """Compare a probability with the truth at :data:`THRESHOLD`."""
    predicted = probability is not None and probability >= THRESHOLD
    outcome = ("correct" if predicted else "missed") if true else ("wrong" if predicted else "absent")
    return Verdict(probability, outcome)


def gallery(examples: list[dict[str, Any]], folder: Path, names: Mapping[int, str]) -> tuple[list[str], list[Example]]:
    """Judge every example.

    Args:
        examples: the list in ``examples.json``.
        folder: where its images lie.
        names: the name of each action id.

    Returns:
        The rows of the run that are compared, at most two (before and after, where the run has both), and the
        examples.

    Raises:
        InputError: if an image is missing or damaged.
    """
    people = [person for example in examples for person in example.get("people", [])]
    # ROWS is in the order of a run: with an adaptation, the first two are before and after.
    rows = [row for row in ROWS if any(row in person for person in people)][:2]
    return rows, [_example(example, folder, names, rows) for example in examples]


def _example(example: dict[str, Any], folder: Path, names: Mapping[int, str], rows: list[str]) -> Example:
    uri, width, height = embedded_image(folder / example["image"])
    people = [_person(n, p, names, rows) for n, p in enumerate(example.get("people", []), start=1)]
    changes = [_change(label, rows) for person in people for label in person.labels]
    return Example(
        domain=str(example.get("domain", "")),
        video_id=str(example.get("video_id", "")),
        frame_stamp=example.get("frame_stamp", ""),
        image=uri,
        size=(width, height),
        strip=embedded_strip([folder / name for name in example.get("frames") or []]),
        people=people,
        fixed=changes.count("fixed"),
        broken=changes.count("broken"),
    )


def _person(number: int, person: dict[str, Any], names: Mapping[int, str], rows: list[str]) -> Person:
    predictions = [{int(k): float(v) for k, v in (person.get(row) or {}).items()} for row in rows]
    true = {int(action) for action in person.get("true", [])}
    shown = true | {k for row in predictions for k, p in row.items() if p >= THRESHOLD}
    # Truth first, then what was predicted most surely.
    ordered = sorted(shown, key=lambda k: (k not in true, -max((row.get(k, 0.0) for row in predictions), default=0), k))
    labels = [
        Label(names.get(k, f"action {k}"), k in true, [judge(row.get(k), k in true) for row in predictions])
        for k in ordered[:MAX_LABELS]
    ]
    x1, y1, x2, y2 = (100 * float(value) for value in person["box"])
    return Person(number, (x1, y1, x2 - x1, y2 - y1), labels, len(ordered) - len(labels))


def _change(label: Label, rows: list[str]) -> str:
    """``fixed`` or ``broken`` if adaptation turned a wrong verdict right or a right one wrong, else ``same``."""
    if not {SOURCE_ONLY, ADAPTED} <= set(rows):
        return "same"
    before, after = (label.verdicts[rows.index(row)].outcome in ("correct", "absent") for row in (SOURCE_ONLY, ADAPTED))
    if before == after:
        return "same"
    return "fixed" if after else "broken"
