"""The memory of test people against the rules of its paper, applied to a plain list."""

import math

import numpy as np
import pytest

from microg_da.adaptation.balanced_memory import BalancedMemory


def oracle(stream, capacity, categories, timeliness=1.0, unsureness=1.0):
    """Numbers of the items of a stream that remain: at each time, everything is worked out from nothing."""
    kept = []

    def badness(number, now):
        age = now - number
        return timeliness / (1 + math.exp(-age / capacity)) + unsureness * stream[number][1]

    for now, (category, _) in enumerate(stream):
        sizes = np.bincount([stream[number][0] for number in kept], minlength=categories)
        if sizes[category] >= capacity / categories:
            rivals = [number for number in kept if stream[number][0] == category]
        elif len(kept) < capacity:
            kept.append(now)
            continue
        else:
            rivals = [number for number in kept if sizes[stream[number][0]] == sizes.max()]
        worst = max(rivals, key=lambda number: badness(number, now))
        if badness(worst, now) > badness(now, now):
            kept.remove(worst)
            kept.append(now)
    return sorted(kept)


@pytest.mark.parametrize(("capacity", "categories"), [(8, 4), (7, 3), (3, 5), (1, 1)])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.2, 3.0)])
def test_what_remains_of_a_stream_is_what_the_paper_says(capacity, categories, weights):
    generator = np.random.default_rng(0)
    shares = generator.dirichlet(np.ones(categories))
    stream = [(int(generator.choice(categories, p=shares)), float(generator.random())) for _ in range(80)]
    memory = BalancedMemory(capacity, categories, *weights)
    for number, (category, uncertainty) in enumerate(stream):
        memory.add(number, category, uncertainty)
        assert sorted(one.item for one in memory.kept) == oracle(stream[: number + 1], capacity, categories, *weights)
    assert all(one.age == len(stream) - one.item for one in memory.kept)
    assert len(memory) <= capacity


def test_a_stream_of_one_category_leaves_room_for_the_others():
    memory = BalancedMemory(6, 3)
    for number in range(50):
        memory.add(number, 0, 0.5)
    assert len(memory) == 2
    for number in range(4):
        memory.add(number, 1 + number % 2, 0.9)
    assert [one.category for one in memory.kept] == [0, 0, 1, 1, 2, 2]


def test_the_unsure_leave_first_and_of_equally_sure_ones_the_old():
    memory = BalancedMemory(2, 1)
    for name, uncertainty in (("unsure", 0.9), ("old", 0.1), ("new", 0.1)):
        memory.add(name, 0, uncertainty)
    assert [one.item for one in memory.kept] == ["old", "new"]
    memory.add("newest", 0, 0.1)
    assert [one.item for one in memory.kept] == ["new", "newest"]
    memory.add("worse", 0, 0.8)
    assert [one.item for one in memory.kept] == ["new", "newest"]


def test_no_age_counts_without_timeliness():
    memory = BalancedMemory(1, 1, timeliness=0.0)
    for number, uncertainty in enumerate((0.5, 0.6, 0.4, 0.4)):
        memory.add(number, 0, uncertainty)
    assert [one.item for one in memory.kept] == [2]
