"""``examples/ups.json``: the estimated up of the people in the examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from microg_da.files import write_json
from microg_da.runs.fields import Fields, read_objects

_REMEDY = "Remove the file; `fit --resume` writes it again."


@dataclass(frozen=True)
class PersonUp:
    """The estimated up of one person.

    Attributes:
        box: ``x1 y1 x2 y2`` in [0, 1].
        degrees: clockwise from the top of the picture.
        density: density at evenly spaced angles that start at 0.
    """

    box: tuple[float, float, float, float]
    degrees: float
    density: tuple[float, ...]


@dataclass(frozen=True)
class KeyframeUps:
    """The people of one example; attributes as in :class:`~microg_da.runs.examples.ExampleKeyframe`."""

    domain: str
    video_id: str
    frame_stamp: int
    people: tuple[PersonUp, ...]


def write_ups(ups: Sequence[KeyframeUps], path: Path) -> None:
    """Write ``ups.json``."""
    write_json(path, [asdict(keyframe) for keyframe in ups])


def read_ups(path: Path) -> tuple[KeyframeUps, ...]:
    """Read ``ups.json``; empty if the file does not exist.

    Raises:
        InputError: if the file is damaged.
    """
    return tuple(map(_keyframe, read_objects(path, "with 'people'", _REMEDY)))


def _keyframe(fields: Fields) -> KeyframeUps:
    return KeyframeUps(
        fields.text("domain"),
        fields.text("video_id"),
        fields.integer("frame_stamp"),
        tuple(map(_person, fields.objects("people"))),
    )


def _person(fields: Fields) -> PersonUp:
    return PersonUp(fields.box("box"), fields.number("degrees"), fields.numbers("density"))
