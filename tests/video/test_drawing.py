"""What is drawn, and the files that it is written into."""

import math

import numpy as np
import pytest
from PIL import Image
from video_helpers import scene

from microg_da.video.drawing import Label, _card, colour_of, draw_note, draw_people, up_arrow
from microg_da.video.reader import Video
from microg_da.video.writer import GIF_SECONDS, GIF_WIDTH, GifWriter, Mp4Writer

ACTIONS = (("stand", 91), ("carry/hold", 44))


def drawn(box, size=(270, 480), **label):
    image = np.full((*size, 3), 90, np.uint8)
    draw_people(image, [(np.array(box), Label(3, **label))])
    return image


def changed(image):
    return (image != 90).any(axis=2)


@pytest.mark.parametrize(
    "box",
    [(0.4, 0.5, 0.6, 0.9), (0, 0, 1, 1), (0, 0, 0.2, 0.3), (0.9, 0, 1, 0.2), (0.99, 0.99, 1, 1), (0, 0.9, 0.01, 1)],
    ids=str,
)
@pytest.mark.parametrize("size", [(270, 480), (40, 40), (720, 405)], ids=str)
def test_a_person_can_be_anywhere(box, size):
    image = drawn(box, size, actions=ACTIONS, roll=90.0)
    assert changed(image).any()


def test_the_face_stays_free():
    image = drawn((0.4, 0.02, 0.6, 0.9), actions=ACTIONS)
    mask = changed(image)
    inside = mask[20:230, 200:280]
    assert not inside.any()
    assert mask[:, 290:].any()


def test_the_dial_points_to_the_head():
    pictures = {roll: drawn((0.4, 0.5, 0.6, 0.9), actions=ACTIONS, roll=roll) for roll in (0.0, 90.0, 180.0, 270.0)}
    none = drawn((0.4, 0.5, 0.6, 0.9), actions=ACTIONS)
    assert none.shape == pictures[0.0].shape
    seen = {picture.tobytes() for picture in (*pictures.values(), none)}
    assert len(seen) == 5
    assert math.isnan(Label(1, ()).roll)


@pytest.mark.parametrize("up", [0, 37, 90, 135, 180, 214, 270, 359])
@pytest.mark.parametrize("box", [(0.3, 0.1, 0.7, 0.9), (0.1, 0.3, 0.9, 0.75)], ids=["tall", "wide"])
def test_an_arrow_points_up(up, box):
    """Read from the pixels: those of the arrow are what it adds to the same picture without it."""
    size = (270, 480)
    arrow = (drawn(box, size, actions=ACTIONS, up=float(up)) != drawn(box, size, actions=ACTIONS)).any(axis=2)
    pixels = np.array(box) * [480, 270, 480, 270]
    x1, y1, x2, y2 = pixels
    rows, columns = np.nonzero(arrow[round(y1) + 4 : round(y2) - 4, round(x1) + 4 : round(x2) - 4])
    offsets = np.stack([columns + round(x1) + 4 - (x1 + x2) / 2, rows + round(y1) + 4 - (y1 + y2) / 2], axis=1)
    length = np.hypot(*offsets.T)
    far = offsets[length > 0.85 * length.max()].mean(axis=0)
    pointed = np.degrees(np.arctan2(far[0], -far[1]))
    assert abs((pointed - up + 180) % 360 - 180) < 8
    # It starts in the middle and ends inside the box.
    (start, tip) = up_arrow(pixels, up)
    np.testing.assert_allclose(start, [(x1 + x2) / 2, (y1 + y2) / 2], atol=1)
    assert x1 < tip[0] < x2
    assert y1 < tip[1] < y2


def test_nobody_knows_up():
    picture = drawn((0.3, 0.1, 0.7, 0.9), actions=ACTIONS, up=math.nan)
    assert (picture == drawn((0.3, 0.1, 0.7, 0.9), actions=ACTIONS)).all()


def test_panels_of_people_without_a_roll_are_drawn_once():
    _card.cache_clear()
    for _ in range(3):
        drawn((0.3, 0.1, 0.7, 0.9), actions=ACTIONS, roll=float("nan"), up=float("nan"))
    assert _card.cache_info().misses <= 2


def test_no_action_is_said_in_full():
    """The panel is as wide as its text: right of the last letter there is a margin."""
    card = _card(Label(1, ()), 20)
    ink = (np.abs(card.astype(int) - card[-1, -1]).max(axis=2) > 40).any(axis=0)
    assert not ink[-5:].any()


def test_colours_of_neighbours_differ():
    colours = np.array([colour_of(number) for number in range(12)], int)
    assert np.abs(np.diff(colours, axis=0)).max(axis=1).min() > 60
    draw_note(image := scene(), "1.0 s")
    assert (image != 40).any()


def test_mp4_keeps_times_and_cuts_odd_sizes(tmp_path):
    seconds = [0.0, 0.1, 0.55, 0.6, 1.4]
    with Mp4Writer(tmp_path / "v.mp4", (49, 65), 10) as writer:
        for number, time in enumerate(seconds):
            writer.add(np.full((49, 65, 3), 40 * number, np.uint8), time)
    video = Video(tmp_path / "v.mp4")
    assert video.size == (48, 64)
    np.testing.assert_allclose([frame.seconds for frame in video.frames()], seconds, atol=1e-3)
    levels = [frame.image.mean() for frame in video.frames()]
    np.testing.assert_allclose(levels, 40 * np.arange(5), atol=6)


def test_gif_is_small_and_short(tmp_path):
    with GifWriter(tmp_path / "v.gif") as writer:
        for number in range(round(30 * (GIF_SECONDS + 2))):
            if writer.wants(number / 30):
                writer.add(scene([(number % 100, 10, number % 100 + 20, 80)], size=(120, 960)), number / 30)
    with Image.open(tmp_path / "v.gif") as image:
        assert image.size == (GIF_WIDTH, 60)
        assert image.n_frames == pytest.approx(10 * GIF_SECONDS, abs=1)
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info["duration"])
    assert sum(durations) / 1000 == pytest.approx(GIF_SECONDS, abs=0.2)


CROWD = [(0.30, 0.3, 0.42, 0.9), (0.40, 0.3, 0.52, 0.9), (0.45, 0.32, 0.6, 0.92), (0.31, 0.35, 0.44, 0.95)]


def test_every_person_of_a_crowd_has_a_panel_of_its_own():
    labels = [Label(number, ACTIONS) for number in range(4)]
    together, alone = np.full((480, 854, 3), 90, np.uint8), np.full((480, 854, 3), 90, np.uint8)
    draw_people(together, [(np.array(box), label) for box, label in zip(CROWD, labels, strict=True)])
    draw_people(alone, [(np.array(CROWD[0]), labels[0])])
    assert changed(together).sum() > 3 * changed(alone).sum()
