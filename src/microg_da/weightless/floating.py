"""Clips of floating people, who are cut out of their clips and composited onto a background at individual rolls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from microg_da.data.gravity import named_rng
from microg_da.errors import InputError
from microg_da.transforms.camera import draw_motion, mask_box
from microg_da.weightless.backgrounds import Background, draw_background
from microg_da.weightless.clips import Made, Row, made_row
from microg_da.weightless.compositing import (
    colour_gains,
    cut_out,
    draw_lighting,
    finish,
    light_on_people,
    mean_colour,
    place,
    put_before,
)
from microg_da.weightless.floating_motion import Float, find_place, smooth_path
from microg_da.weightless.footage import Footage
from microg_da.weightless.plan import ClipPlan, Person
from microg_da.weightless.request import Request

SIZES = (0.8, 1.05)
"""Minimum and maximum scale of a person who floats alone, relative to the original."""
HALF = 128
"""Minimum opacity, of 255, of a pixel that belongs to a person."""
TOGETHER = 0.75
"""Additional scale factor if several people float together."""


@dataclass(frozen=True)
class Guest:
    """A person of another clip who is added.

    Attributes:
        plan: the original clip.
        who: index of the person in the original clip.
    """

    plan: ClipPlan
    who: int


@dataclass(frozen=True)
class _Actor:
    """A person with the pictures and masks for each frame of the made clip.

    Attributes:
        number: number of the person in the made clip.
        person, plan: the person, and the original clip.
        sources: ``(frames,)``, index of the original frame for each frame of the made clip.
        images: the original picture for each frame of the made clip.
        masks: ``(frames, H, W)`` bool, without empty masks.
    """

    number: int
    person: Person
    plan: ClipPlan
    sources: np.ndarray
    images: list[np.ndarray]
    masks: np.ndarray


@dataclass(frozen=True)
class _Floater:
    """An actor with a motion and colours."""

    actor: _Actor
    motion: Float
    gains: np.ndarray

    def layer(self, frame: int, size: tuple[int, int]) -> np.ndarray:
        """Return the layer of the person in a frame, uint8 ``(H, W, 4)``."""
        layer = cut_out(self.actor.images[frame], self.actor.masks[frame])
        return place(layer, self.motion.matrix(frame), size)

    def rows(self, keyframes: Sequence[int], size: tuple[int, int]) -> Iterator[Row]:
        """Yield the rows of the person at the keyframes with labels in the original clip."""
        person = self.actor.person
        for frame in keyframes:
            labelled = int(self.actor.sources[frame])
            if labelled in person.actions:
                found = mask_box(self.layer(frame, size)[..., 3] >= HALF)
                box = np.tile(np.array(self.motion.place), 2) if found is None else found
                up = person.ups[labelled] + self.motion.roll_at(frame)
                scale = np.array([size[1], size[0]] * 2, float)
                yield made_row(frame, self.actor.number, box / scale, up, self.actor.plan, person, labelled)


def make_floating(
    plan: ClipPlan, guests: Sequence[Guest], footage: Footage, pictures: Sequence[str], request: Request
) -> Made:
    """Make a clip of the people of a clip and guests in front of another background.

    Args:
        plan: the clip.
        guests: the added people; see :func:`choose_guests`.
        footage: the source of pixels and masks.
        pictures: background pictures; empty for drawn modules.
        request: the options.

    Raises:
        InputError: if a video cannot be read, or a person has no mask.
    """
    size = footage.size(plan)
    actors = _actors(plan, guests, footage)
    background = draw_background(named_rng(request.seed, plan.name, "background"), pictures, size)
    light = draw_lighting(named_rng(request.seed, plan.name, "lighting")).field(*size)
    behind = _lit(background, 0.0, light)
    floaters = _let_float(plan, actors, behind, request, size)
    rows = [row for floater in floaters for row in floater.rows(plan.keyframes, size)]
    return Made(_draw(plan, floaters, background, light, request, size), sorted(rows), background.name)


def choose_guests(plan: ClipPlan, others: Sequence[ClipPlan], request: Request) -> list[Guest]:
    """Select a random number of people from other source videos of the same split for a floating clip.

    Args:
        plan: the clip.
        others: all clips of its split.
        request: ``people`` is the maximum number of people in the clip, including its own.
    """
    free = request.people - len(plan.people)
    strangers = [other for other in others if other.source_video != plan.source_video]
    if free < 1 or not strangers:
        return []
    rng = named_rng(request.seed, plan.name, "guests")
    chosen = rng.choice(len(strangers), min(int(rng.integers(free + 1)), len(strangers)), replace=False)
    guests: list[Guest] = []
    for stranger in (strangers[number] for number in chosen.tolist()):
        labelled = [who for who, person in enumerate(stranger.people) if stranger.middle in person.actions]
        guests.append(Guest(stranger, labelled[int(rng.integers(len(labelled)))]))
    return guests


def bounce(index: np.ndarray, count: int) -> np.ndarray:
    """Map whole numbers to indices of ``count`` frames, alternately forwards and backwards."""
    place_in_cycle = index % max(2 * count - 2, 1)
    return np.asarray(np.minimum(place_in_cycle, 2 * count - 2 - place_in_cycle))


def without_gaps(masks: np.ndarray) -> np.ndarray | None:
    """Replace each empty mask of ``(frames, H, W)`` by the nearest mask that is not empty; None if all are empty."""
    there = np.flatnonzero(masks.any(axis=(1, 2)))
    if not len(there):
        return None
    nearest = np.abs(np.arange(len(masks))[:, None] - there).argmin(axis=1)
    return np.asarray(masks[there[nearest]])


def _actors(plan: ClipPlan, guests: Sequence[Guest], footage: Footage) -> list[_Actor]:
    """Return the actors from back to front, guests first."""
    joined = [(guest.plan, guest.plan.people[guest.who]) for guest in guests]
    all_people = [*joined, *((plan, person) for person in plan.people)]
    taken = {person.number for person in plan.people}
    free = (number for number in range(len(taken) + len(all_people) + 1) if number not in taken)
    actors: list[_Actor] = []
    for own, person in all_people:
        number = person.number if own is plan else next(free)
        actors.append(_actor(number, person, own, plan, footage))
    return actors


def _actor(number: int, person: Person, own: ClipPlan, plan: ClipPlan, footage: Footage) -> _Actor:
    images = footage.read(own)
    masks = without_gaps(footage.people(own, images)[own.people.index(person)])
    if masks is None:
        raise InputError(
            f"{own.name}: person {person.number} has no mask in any frame. Give masks of this person, or remove the "
            f"rows of this person."
        )
    sources = bounce(np.arange(plan.count) - plan.middle + own.middle, own.count)
    return _Actor(number, person, own, sources, [images[index] for index in sources], masks[sources])


def _let_float(
    plan: ClipPlan, actors: list[_Actor], behind: np.ndarray, request: Request, size: tuple[int, int]
) -> list[_Floater]:
    """Return each person with a motion and colours; the people of the clip are placed before guests."""
    floaters: dict[int, _Floater] = {}
    taken: list[np.ndarray] = []
    key, mean = plan.middle, behind.reshape(-1, 3).mean(axis=0)
    for place_in_list in reversed(range(len(actors))):
        actor = actors[place_in_list]
        rng = named_rng(request.seed, plan.name, "person", actor.plan.name, str(actor.person.number))
        drawn = draw_motion(rng, request.rolls, request.spin_limit, request.drift_limit)
        scale = float(rng.uniform(*SIZES)) * (TOGETHER if len(actors) > 1 else 1.0) * size[0] / actor.masks.shape[1]
        motion = Float(
            path=smooth_path(actor.masks, plan.fps),
            key=key,
            fps=plan.fps,
            roll=drawn.roll,
            spin=drawn.spin,
            drift=(drawn.drift[0] * size[0], drawn.drift[1] * size[0]),
            scale=scale,
            place=(0.0, 0.0),
        )
        motion, box = find_place(motion, actor.masks, size, taken, rng)
        taken.append(box)
        gains = colour_gains(mean_colour(actor.images[key], actor.masks[key]), mean)
        floaters[place_in_list] = _Floater(actor, motion, gains)
    return [floaters[place_in_list] for place_in_list in range(len(actors))]


def _draw(
    plan: ClipPlan,
    floaters: list[_Floater],
    background: Background,
    light: np.ndarray,
    request: Request,
    size: tuple[int, int],
) -> Iterator[np.ndarray]:
    for frame in range(plan.count):
        picture = _lit(background, (frame - plan.middle) / plan.fps, light)
        shade = light_on_people(picture)
        for floater in floaters:
            put_before(picture, floater.layer(frame, size), floater.gains, shade)
        yield finish(picture, named_rng(request.seed, plan.name, "grain", str(frame)))


def _lit(background: Background, seconds: float, light: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(background.frame(seconds) * light, 255.0), np.float32)
