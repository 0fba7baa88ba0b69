"""``examples/examples.json``: annotated keyframes, and the predictions of each variant for the people in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from microg_da.files import write_json
from microg_da.runs.fields import Fields, read_objects
from microg_da.types import DOMAINS, VARIANTS, Domain, Variant

_REMEDY = "Restore the file, or remove it and continue the run with `fit --resume`."


@dataclass(frozen=True)
class ExamplePerson:
    """One person in a keyframe.

    Attributes:
        box: ``x1 y1 x2 y2`` in [0, 1].
        true: action ids of the annotation.
        predictions: the probability of each action id, by variant.
    """

    box: tuple[float, float, float, float]
    true: tuple[int, ...]
    predictions: Mapping[Variant, Mapping[int, float]]


@dataclass(frozen=True)
class ExampleKeyframe:
    """One keyframe.

    Attributes:
        domain: the domain of the test split.
        video_id: the clip.
        frame_stamp: the stamp of the keyframe.
        image: file name of the picture, in the folder of ``examples.json``.
        frames: file names of the pictures of the window.
        people: the annotated people.
    """

    domain: Domain
    video_id: str
    frame_stamp: int
    image: str
    frames: tuple[str, ...]
    people: tuple[ExamplePerson, ...]


def write_example_list(examples: Sequence[ExampleKeyframe], path: Path) -> None:
    """Write ``examples.json``."""
    write_json(path, [_plain(example) for example in examples])


def _plain(example: ExampleKeyframe) -> dict[str, object]:
    return {
        "domain": example.domain,
        "video_id": example.video_id,
        "frame_stamp": example.frame_stamp,
        "image": example.image,
        "frames": list(example.frames),
        "people": [{"box": person.box, "true": person.true, **person.predictions} for person in example.people],
    }


def read_example_list(path: Path) -> tuple[ExampleKeyframe, ...]:
    """Read ``examples.json``; empty if the file does not exist.

    Raises:
        InputError: if the file is damaged.
    """
    return tuple(map(_example, read_objects(path, "that each name an 'image'", _REMEDY)))


def _example(fields: Fields) -> ExampleKeyframe:
    return ExampleKeyframe(
        domain=_domain(fields),
        video_id=fields.text("video_id"),
        frame_stamp=fields.integer("frame_stamp"),
        image=fields.text("image"),
        frames=fields.optional(fields.texts, "frames") or (),
        people=tuple(map(_person, fields.objects("people"))),
    )


def _domain(fields: Fields) -> Domain:
    text = fields.text("domain")
    for domain in DOMAINS:
        if domain == text:
            return domain
    raise fields.error(f"'domain' is {text!r}; expected {' or '.join(DOMAINS)}")


def _person(fields: Fields) -> ExamplePerson:
    predictions = {variant: _probabilities(fields.fields(variant)) for variant in VARIANTS if fields.has(variant)}
    return ExamplePerson(fields.box("box"), fields.integers("true"), predictions)


def _probabilities(fields: Fields) -> dict[int, float]:
    if not all(action.isdecimal() for action in fields.values):
        raise fields.error("the keys must be action ids")
    return {int(action): fields.number(action) for action in fields.values}
