"""The example keyframes of a run: who is where, what is true, what was predicted before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microg_da.files import inside
from microg_da.reporting.figures import embedded_image, embedded_strip
from microg_da.runs.reader import ADAPTED, ROWS, SOURCE_ONLY

THRESHOLD = 0.5
MAX_LABELS = 10
BYTES = 12_000_000
"""How much of a page the images of its gallery may take together, however many there are."""
MOST_BYTES = 240_000
"""And those of one example, however few there are; a third is for the keyframe, the rest for its window."""
OUTCOMES = ("fixed", "broken", "still wrong", "right", "wrong")


@dataclass(frozen=True)
class Verdict:
    """One prediction judged: ``outcome`` is correct, wrong, missed or absent (rightly not predicted)."""

    probability: float | None
    outcome: str


@dataclass(frozen=True)
class Label:
    """One action of one person: whether it is true, the verdict on each row of the run, and what became of it.

    ``outcome`` is one of :data:`OUTCOMES`; the first three need a detector before and one after.
    """

    action: int
    name: str
    true: bool
    verdicts: list[Verdict]
    outcome: str


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

    @property
    def outcomes(self) -> list[str]:
        """What became of every label that is shown."""
        return [label.outcome for person in self.people for label in person.labels]


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
    budget = min(BYTES // max(len(examples), 1), MOST_BYTES)
    return rows, [_example(example, folder, names, rows, budget) for example in examples]


def _example(example: dict[str, Any], folder: Path, names: Mapping[int, str], rows: list[str], budget: int) -> Example:
    uri, width, height = embedded_image(inside(folder, example["image"]), budget // 3)
    people = [_person(n, p, names, rows) for n, p in enumerate(example.get("people", []), start=1)]
    return Example(
        domain=str(example.get("domain", "")),
        video_id=str(example.get("video_id", "")),
        frame_stamp=example.get("frame_stamp", ""),
        image=uri,
        size=(width, height),
        strip=embedded_strip([inside(folder, name) for name in example.get("frames") or []], budget - budget // 3),
        people=people,
    )


def _person(number: int, person: dict[str, Any], names: Mapping[int, str], rows: list[str]) -> Person:
    said = {row: {int(k): float(v) for k, v in (person.get(row) or {}).items()} for row in rows}
    true = {int(action) for action in person.get("true", [])}
    shown = true | {k for row in said.values() for k, p in row.items() if p >= THRESHOLD}
    surest = {k: max((row.get(k, 0.0) for row in said.values()), default=0.0) for k in shown}
    # Truth first, then what was predicted most surely.
    ordered = sorted(shown, key=lambda k: (k not in true, -surest[k], k))
    labels = [
        _label(k, names.get(k, f"action {k}"), k in true, {row: values.get(k) for row, values in said.items()})
        for k in ordered[:MAX_LABELS]
    ]
    x1, y1, x2, y2 = (100 * float(value) for value in person["box"])
    return Person(number, (x1, y1, x2 - x1, y2 - y1), labels, len(ordered) - len(labels))


def _label(action: int, name: str, true: bool, probabilities: dict[str, float | None]) -> Label:
    """Judge one action; without a detector before and one after, the first one's verdict alone counts."""
    verdicts = [judge(probability, true) for probability in probabilities.values()]
    right = [verdict.outcome in ("correct", "absent") for verdict in verdicts]
    if {SOURCE_ONLY, ADAPTED} <= probabilities.keys():
        before, after = right
        outcome = ("right" if before else "fixed") if after else ("broken" if before else "still wrong")
    else:
        outcome = "right" if all(right[:1]) else "wrong"
    return Label(action, name, true, verdicts, outcome)
