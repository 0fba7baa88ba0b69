"""The example keyframes of a run: people, ground truth, and the predictions before and after adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from microg_da.files import inside
from microg_da.reporting.figures import embedded_image, embedded_strip
from microg_da.runs.examples import ExampleKeyframe, ExamplePerson
from microg_da.types import VARIANTS, Variant

THRESHOLD = 0.5
MAX_LABELS = 10
BYTES = 12_000_000
"""The budget in bytes of all gallery images of a page."""
MOST_BYTES = 240_000
"""The budget in bytes of one example: a third for the keyframe, the rest for its window."""
OUTCOMES = ("fixed", "broken", "still wrong", "right", "wrong")


@dataclass(frozen=True)
class Answer:
    """One prediction compared with the label: ``outcome`` is correct, wrong, missed or absent (a true negative)."""

    probability: float | None
    outcome: str


@dataclass(frozen=True)
class Label:
    """One action of one person: whether it is labelled, the predictions of each variant, and the outcome.

    ``outcome`` is one of :data:`OUTCOMES`; the first three need a detector before and one after.
    """

    action: int
    name: str
    true: bool
    answers: list[Answer]
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
    """One keyframe of the gallery."""

    domain: str
    video_id: str
    frame_stamp: int
    image: str
    size: tuple[int, int]
    strip: tuple[str, int] | None
    people: list[Person]

    @property
    def outcomes(self) -> list[str]:
        """The outcomes of all shown labels."""
        return [label.outcome for person in self.people for label in person.labels]


def compare_with_truth(probability: float | None, true: bool) -> Answer:
    """Compare a probability with the truth at :data:`THRESHOLD`."""
    predicted = probability is not None and probability >= THRESHOLD
    outcome = ("correct" if predicted else "missed") if true else ("wrong" if predicted else "absent")
    return Answer(probability, outcome)


def gallery(
    examples: Sequence[ExampleKeyframe], folder: Path, names: Mapping[int, str]
) -> tuple[list[Variant], list[Example]]:
    """Compare the predictions in every example with the truth.

    Args:
        examples: the examples of the run.
        folder: the folder of their images.
        names: the name of each action id.

    Returns:
        The compared variants, at most two (before and after adaptation), and the examples.

    Raises:
        InputError: if an image is missing or damaged.
    """
    people = [person for example in examples for person in example.people]
    # VARIANTS is in the order of a run: with an adaptation, the first two are before and after.
    variants = [variant for variant in VARIANTS if any(variant in person.predictions for person in people)][:2]
    budget = min(BYTES // max(len(examples), 1), MOST_BYTES)
    return variants, [_example(example, folder, names, variants, budget) for example in examples]


def _example(
    example: ExampleKeyframe, folder: Path, names: Mapping[int, str], variants: Sequence[Variant], budget: int
) -> Example:
    uri, width, height = embedded_image(inside(folder, example.image), budget // 3)
    return Example(
        domain=example.domain,
        video_id=example.video_id,
        frame_stamp=example.frame_stamp,
        image=uri,
        size=(width, height),
        strip=embedded_strip([inside(folder, name) for name in example.frames], budget - budget // 3),
        people=[_person(n, person, names, variants) for n, person in enumerate(example.people, start=1)],
    )


def _person(number: int, person: ExamplePerson, names: Mapping[int, str], variants: Sequence[Variant]) -> Person:
    by_variant = {variant: person.predictions.get(variant, {}) for variant in variants}
    true = set(person.true)
    shown = true | {k for values in by_variant.values() for k, p in values.items() if p >= THRESHOLD}
    surest = {k: max((values.get(k, 0.0) for values in by_variant.values()), default=0.0) for k in shown}
    # Labelled actions first, then predictions by confidence.
    ordered = sorted(shown, key=lambda k: (k not in true, -surest[k], k))
    labels = [
        _label(
            k,
            names.get(k, f"action {k}"),
            k in true,
            {variant: values.get(k) for variant, values in by_variant.items()},
        )
        for k in ordered[:MAX_LABELS]
    ]
    x1, y1, x2, y2 = (100 * value for value in person.box)
    return Person(number, (x1, y1, x2 - x1, y2 - y1), labels, len(ordered) - len(labels))


def _label(action: int, name: str, true: bool, probabilities: Mapping[Variant, float | None]) -> Label:
    """Compare one action; without two detectors, only the first prediction counts."""
    answers = [compare_with_truth(probability, true) for probability in probabilities.values()]
    right = [answer.outcome in ("correct", "absent") for answer in answers]
    if {"source_only", "adapted"} <= probabilities.keys():
        before, after = right
        outcome = ("right" if before else "fixed") if after else ("broken" if before else "still wrong")
    else:
        outcome = "right" if all(right[:1]) else "wrong"
    return Label(action, name, true, answers, outcome)
