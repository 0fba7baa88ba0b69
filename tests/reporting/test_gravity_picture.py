"""The gravity frame in one picture: which examples are shown, and that the turned clip has up at the top."""

import cv2
import numpy as np
import pytest
from PIL import Image

from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.reporting.gravity_picture import gravity_rows, write_gravity_picture
from microg_da.runs.example_ups import KeyframeUps, PersonUp, write_ups
from microg_da.runs.examples import ExampleKeyframe, ExamplePerson, write_example_list
from microg_da.runs.folder import Run

SIZE = 96
BOX = (0.25, 0.25, 0.75, 0.75)
BLUE = (30, 30, 220)


def marked(folder, name, degrees):
    """A grey frame with a blue mark in the direction of up."""
    frame = np.full((SIZE, SIZE, 3), 128, np.uint8)
    place = SIZE / 2 + 30 * np.array([np.sin(np.deg2rad(degrees)), -np.cos(np.deg2rad(degrees))])
    cv2.circle(frame, tuple(int(value) for value in place), 9, BLUE[::-1], -1)
    cv2.imwrite(str(folder / name), frame)
    return name


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "examples"
    folder.mkdir()
    predictions = {
        variant: {80: 0.3, 11: share, 12: 0.1} for variant, share in (("source_only", 0.2), ("adapted", 0.7))
    }
    person = ExamplePerson(BOX, (11,), predictions)
    other = ExamplePerson(BOX, (80,), predictions)
    examples, ups = [], []
    for name, domain, degrees, people in [
        ("e0", "source", [0], (other,)),
        ("e1", "source", [0], (person,)),
        ("t0", "target", [20], (person,)),  # nearly upright
        ("t1", "target", [90, 200], (person, person)),  # two ups
        ("t2", "target", [90], (person,)),
        ("t3", "target", [270], (other,)),
    ]:
        image = marked(folder, f"{name}.png", degrees[0])
        examples.append(ExampleKeyframe(domain, name, 46, image, (), people))
        ups.append(KeyframeUps(domain, name, 46, tuple(PersonUp(BOX, angle, (0.25,) * 4) for angle in degrees)))
    made = Run(tmp_path, load_config("ava2microg"))
    write_example_list(examples, made.examples_file)
    write_ups(ups, made.example_ups_file)
    return made


def test_clips_whose_people_share_an_up_far_from_the_top_are_shown_with_earth_clips_of_their_actions(run):
    rows = gravity_rows(run)
    assert [(row.earth.video_id, row.target.video_id) for row in rows] == [("e1", "t2"), ("e0", "t3")]
    assert [row.target.video_id for row in gravity_rows(run, rows=1)] == ["t2"]


def test_the_turned_clip_has_up_at_the_top(run, tmp_path):
    path = write_gravity_picture(run, tmp_path / "frame.png", rows=1)
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    mark = (np.abs(picture - BLUE).sum(axis=2) < 60).astype(np.uint8)
    _, _, statistics, centres = cv2.connectedComponentsWithStats(mark)
    marks = sorted(centres[place].tolist() for place in np.argsort(-statistics[1:, cv2.CC_STAT_AREA])[:3] + 1)
    earth, filmed, turned = marks  # from left to right; up is at the top, at the right, at the top
    assert turned[1] == pytest.approx(earth[1], abs=3)
    assert filmed[1] - earth[1] > 20
    assert filmed[0] - earth[0] > turned[0] - filmed[0] + 20


def test_without_an_example_the_error_says_what_is_missing(run, tmp_path):
    write_ups([], run.example_ups_file)
    with pytest.raises(InputError, match="turned by more than 60"):
        write_gravity_picture(run, tmp_path / "frame.png")
    assert not (tmp_path / "frame.png").exists()
