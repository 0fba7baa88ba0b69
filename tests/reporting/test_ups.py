"""Arrows of estimated up in the gallery."""

import pytest

from microg_da.errors import InputError
from microg_da.reporting.gallery import Example
from microg_da.reporting.ups import INNER, LENGTH, arrow, arrows_of
from microg_da.runs.example_ups import KeyframeUps, PersonUp, read_ups, write_ups


def person(degrees, box=(0.25, 0.2, 0.75, 0.8), density=(0.0, 0.0, 1.0, 0.0)):
    return PersonUp(box, degrees, density)


def example(video="v", stamp=46):
    return Example("target", video, stamp, "", (200, 100), None, [])


@pytest.mark.parametrize(("degrees", "direction"), [(0, (0, -1)), (90, (1, 0)), (180, (0, 1)), (270, (-1, 0))])
def test_an_arrow_points_up_from_the_middle_of_the_box(degrees, direction):
    drawn = arrow(person(degrees), (200, 100))
    assert drawn.start == (100, 50)
    side = 100  # the longer side of a box of 100 × 60 pixels
    expected = [100 + LENGTH * side * direction[0], 50 + LENGTH * side * direction[1]]
    assert list(drawn.end) == pytest.approx(expected, abs=0.02)


def test_the_curve_reaches_farthest_where_the_density_is_largest():
    points = [tuple(map(float, pair.split(","))) for pair in arrow(person(10), (200, 100)).curve.split()]
    assert points[2] == pytest.approx((100, 50 + LENGTH * 100), abs=0.02)
    assert points[0] == pytest.approx((100, 50 - INNER * 100), abs=0.02)
    flat = arrow(person(10, density=(0, 0, 0)), (200, 100))
    assert len(flat.curve.split()) == 3


def test_arrows_are_found_by_keyframe(tmp_path):
    ups = (KeyframeUps("target", "w", 46, (person(90),)),)
    write_ups(ups, tmp_path / "ups.json")
    assert read_ups(tmp_path / "ups.json") == ups
    found = arrows_of(ups, [example("v"), example("w")])
    assert [[one.degrees for one in arrows] for arrows in found] == [[], [90]]


def test_without_the_file_there_are_no_arrows_and_a_damaged_one_is_named(tmp_path):
    assert arrows_of(read_ups(tmp_path / "ups.json"), [example()]) == [[]]
    (tmp_path / "ups.json").write_text('[{"domain": "target"}]')
    with pytest.raises(InputError, match=r"ups\.json"):
        read_ups(tmp_path / "ups.json")
