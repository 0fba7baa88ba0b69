"""Sets of clips with other class rates: the same clips, selected by the postures of their people."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from itertools import count, islice

import numpy as np

from microg_da.errors import InputError
from microg_da.synthetic.performance import Performance
from microg_da.synthetic.postures import BEND, CROUCH, SIT, STAND, WALK
from microg_da.synthetic.render import draw_people
from microg_da.synthetic.spec import SyntheticSpec, generator

POSITIONS = {STAND: -1.0, WALK: -0.5, SIT: 0.0, BEND: 0.5, CROUCH: 1.0}
LARGEST = 5.0
_SELECTION = 3
"""The stream of random numbers that select clips."""


def shifted(spec: SyntheticSpec, shift: float) -> SyntheticSpec:
    """Return as many clips as ``spec`` has, with the rate of each posture multiplied by ``exp(shift · position)``.

    A clip is selected with a probability that is proportional to the mean of this factor over its people. Postures have
    the positions −1 (stand), −0.5 (walk), 0 (sit), 0.5 (bend) and 1 (crouch). Actions that occur with a posture change
    with it. A larger set starts with the clips of a smaller one.

    Args:
        spec: the clips to replace.
        shift: 0 changes nothing. With a positive number people stand less often and crouch more often.

    Raises:
        InputError: if ``shift`` is not between −5 and 5.

    Example:
        >>> from microg_da.synthetic.spec import SyntheticSpec
        >>> shifted(SyntheticSpec("microgravity", num_clips=3), 1.0).places
        (1, 2, 5)
    """
    if not -LARGEST <= shift <= LARGEST:
        raise InputError(f"label_shift={shift:g} is invalid: expected a number from {-LARGEST:g} to {LARGEST:g}.")
    if not shift:
        return spec
    return replace(spec, places=_selected(replace(spec, num_clips=0), spec.num_clips, shift))


@lru_cache(maxsize=16)
def _selected(spec: SyntheticSpec, number: int, shift: float) -> tuple[int, ...]:
    return tuple(islice((place for place in count() if _is_selected(spec, place, shift)), number))


def _is_selected(spec: SyntheticSpec, place: int, shift: float) -> bool:
    name = spec.name_at(place)
    people, _ = draw_people(spec.seed, name)
    chance = _factor(people, shift) / math.exp(abs(shift))
    return bool(generator(spec.seed, name, name.number, _SELECTION).random() < chance)


def _factor(people: Performance, shift: float) -> float:
    return float(np.mean([math.exp(shift * POSITIONS[actor.posture]) for actor in people.actors]))
