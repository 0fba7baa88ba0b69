"""Finding people: YOLOX against a computation cell by cell, turned frames against arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_helpers import find_red, scene

from microg_da.errors import InputError
from microg_da.video.person_boxes import PersonBoxes, drop_parts, fuse, inside_frame, suppress
from microg_da.video.person_detector import ADAPTIVE, Yolox, _grid, create_person_detector, decode, letterbox
from microg_da.video.roll_search import RollSearch, turn, turn_back


def test_decoding_is_that_of_every_cell():
    rng = np.random.default_rng(0)
    height, width = 64, 96
    grid, stride = _grid(height, width)
    output = rng.normal(size=(len(grid), 85)).astype(np.float32)
    decoded = decode(output, grid, stride)
    row = 0
    for s in (8, 16, 32):
        for y in range(height // s):
            for x in range(width // s):
                dx, dy, w, h = output[row, :4]
                expected = [(x + dx) * s, (y + dy) * s, np.exp(w) * s, np.exp(h) * s]
                np.testing.assert_allclose(decoded[row, :4], expected, rtol=1e-5)
                row += 1
    assert row == len(output)
    np.testing.assert_array_equal(decoded[:, 4:], output[:, 4:])


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (30, 30), (1080, 1920)])
def test_the_letterbox_keeps_the_shape(shape):
    image = np.full((*shape, 3), 200, np.uint8)
    padded, scale = letterbox(image, (64, 96))
    assert padded.shape == (64, 96, 3)
    assert scale == min(64 / shape[0], 96 / shape[1])
    inside = (padded == 200).all(axis=2)
    assert inside.any(axis=1).sum() == int(shape[0] * scale)
    assert inside.any(axis=0).sum() == int(shape[1] * scale)
    assert (padded[~inside] == 114).all()


def test_of_overlapping_boxes_the_best_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [-5, -5, 0.5, 4], [95, 5, 140, 20]], float)
    found = PersonBoxes(boxes, np.array([0.5, 0.9, 0.6, 0.8, 0.7]), np.zeros(5))
    kept = suppress(inside_frame(found, (50, 100)))
    assert kept.boxes.tolist() == [[1, 0, 11, 10], [95, 5, 100, 20], [20, 0, 30, 10]]
    assert kept.scores.tolist() == [0.9, 0.7, 0.6]
    nobody = PersonBoxes(np.empty((0, 4)), np.empty(0), np.empty(0))
    assert len(suppress(inside_frame(nobody, (50, 100))).boxes) == 0


class TestFusion:
    """One box of several looks at one person."""

    def test_the_mean_is_weighted_by_scores(self):
        boxes = np.array([[0, 0, 10, 20], [50, 50, 60, 70], [2, 0, 12, 20], [0, 2, 10, 22], [0, 5, 10, 20]], float)
        scores = np.array([0.6, 0.5, 0.3, 0.1, 0.55])
        # The last one is found too far from the person's roll for its box to count.
        fused = fuse(PersonBoxes(boxes, scores, np.array([0, 90, 45, 315, 180.0])), scores)
        weights = np.array([0.6, 0.3, 0.1]) ** 4
        mean = weights @ boxes[[0, 2, 3]] / weights.sum()
        np.testing.assert_allclose(fused.boxes, [mean, boxes[1]])
        assert fused.scores.tolist() == [0.6, 0.5]
        assert fused.rolls.tolist() == [0, 90]

    def test_the_preferred_gives_score_and_roll(self):
        boxes = np.array([[0, 0, 10, 20], [1, 0, 11, 20]], float)
        fused = fuse(PersonBoxes(boxes, np.array([0.5, 0.52]), np.array([0.0, 180.0])), np.array([0.55, 0.52]))
        assert (fused.scores.tolist(), fused.rolls.tolist()) == ([0.5], [0.0])

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 12), st.integers(0, 10**6))
    def test_who_is_left_is_who_suppression_leaves(self, count, seed):
        rng = np.random.default_rng(seed)
        corners = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], axis=1)
        found = PersonBoxes(boxes, rng.uniform(0.1, 1, count), np.zeros(count))
        fused, kept = fuse(found, found.scores), suppress(found)
        np.testing.assert_array_equal(fused.scores, kept.scores)
        if len(kept.scores) == count:
            np.testing.assert_allclose(fused.boxes, kept.boxes)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 360), st.integers(20, 60), st.integers(20, 60), st.floats(0.2, 0.8), st.floats(0.2, 0.8))
def test_turning_there_and_back_keeps_the_middle(roll, height, width, x, y):
    matrix = turn(np.zeros((height, width, 3), np.uint8), roll)[1]
    centre = matrix[:, :2] @ [x * width, y * height] + matrix[:, 2]
    half = np.array([4, 6])
    box = np.concatenate([centre - half, centre + half])[None]
    back = turn_back(box, matrix)
    np.testing.assert_allclose((back[0, :2] + back[0, 2:]) / 2, [x * width, y * height], atol=1e-6)
    # The ellipse's extent lies between its two semi-axes.
    assert ((back[0, 2:] - back[0, :2]) / 2 >= 4 - 1e-6).all()
    assert ((back[0, 2:] - back[0, :2]) / 2 <= 6 + 1e-6).all()


@pytest.mark.parametrize("quarter", range(4))
def test_quarter_turns_are_exact(quarter):
    rng = np.random.default_rng(quarter)
    image = rng.integers(0, 255, (30, 50, 3), np.uint8)
    turned, matrix = turn(image, 90.0 * quarter)
    np.testing.assert_array_equal(turned, np.rot90(image, quarter))
    image = scene([(10, 4, 20, 28)], size=(30, 50))
    found = find_red(turn(image, 90.0 * quarter)[0]).boxes
    np.testing.assert_allclose(turn_back(found, matrix), [[10, 4, 20, 28]], atol=1e-9)


def only_standing(image):
    """Finds red people whose head, a white block, is on top."""
    found = find_red(image)
    heads = [image[max(int(y1) - 4, 0), int((x1 + x2) / 2)].min() > 200 for x1, y1, x2, _ in found.boxes]
    keep = np.array(heads, bool)
    return type(found)(*(part[keep] for part in found))


def astronaut(roll):
    """Somebody in a square frame who lies ``roll`` degrees clockwise, a quarter turn's multiple."""
    image = scene([(40, 40, 56, 80)], size=(120, 120))
    image[30:40, 44:52] = 255
    return np.ascontiguousarray(np.rot90(image, -round(roll / 90)))


@pytest.mark.parametrize("roll", [0, 90, 180, 270])
def test_inverted_people_are_found_and_their_roll_is_told(roll):
    image = astronaut(roll)
    assert len(only_standing(image).boxes) == (roll == 0)
    found = RollSearch(only_standing, 4)(image)
    np.testing.assert_allclose(found.boxes, find_red(image).boxes, atol=1e-6)
    assert found.rolls.tolist() == [roll]


class TestPartsOfPeople:
    """A detection inside a surer one is a part of it, unless both stand at one roll."""

    def kept(self, *people):
        boxes, scores, rolls = (np.array(part, float) for part in zip(*people, strict=True))
        return drop_parts(PersonBoxes(boxes, scores, rolls)).rolls.tolist()

    def test_a_face_at_another_roll(self):
        assert self.kept(((0, 0, 100, 200), 0.9, 0), ((20, 0, 60, 60), 0.5, 180)) == [0]
        # Sixty of a hundred pixels are inside: too few to be a part.
        assert self.kept(((0, 0, 60, 200), 0.9, 0), ((0, 0, 100, 60), 0.5, 90)) == [0, 90]

    def test_a_body_at_another_roll_around_a_surer_torso(self):
        assert self.kept(((10, 10, 50, 60), 0.9, 0), ((0, 0, 200, 70), 0.5, 270)) == [0]

    def test_somebody_before_somebody_else(self):
        assert self.kept(((0, 0, 100, 200), 0.9, 0), ((20, 0, 60, 60), 0.5, 0)) == [0, 0]

    @pytest.mark.data
    def test_a_portrait_is_one_person(self, test_data):
        pytest.importorskip("onnxruntime")
        import cv2

        image = cv2.imread(str(test_data / "iss_photos" / "Cady-Coleman.jpg"))
        detector = Yolox(test_data / "weights" / "yolox_nano" / "yolox_nano.onnx")
        assert RollSearch(detector, 4)(image).rolls.tolist() == [0]


def unsure_of_tilted(image):
    """Finds red people; the further from upright their white head is, the less sure it is."""
    found = find_red(image)
    white = np.argwhere(image.min(axis=2) > 200)
    if not len(found.boxes) or not len(white):
        return found.take(np.zeros(len(found.boxes), bool))
    x1, y1, x2, y2 = found.boxes[0]
    dy, dx = white.mean(axis=0) - [(y1 + y2) / 2, (x1 + x2) / 2]
    off = abs(np.degrees(np.arctan2(dx, -dy)))
    return PersonBoxes(found.boxes[:1], np.array([0.95 - off / 100]), found.rolls[:1])


@pytest.mark.parametrize(("roll", "passes"), [(0, 4), (90, 4), (135, 6), (315, 6)])
def test_the_adaptive_search_looks_between_quarters_where_it_is_unsure(roll, passes):
    image = turn(astronaut(0), 360.0 - roll)[0]
    search = RollSearch(unsure_of_tilted)
    found = search(image)
    assert found.rolls.tolist() == [roll]
    # At 135 and 315 degrees two quarter turns are equally far: one of them is the person's, with its two neighbours.
    assert search.passes == passes
    assert RollSearch(unsure_of_tilted, 8)(image).rolls.tolist() == [roll]


def test_a_search_leaves_out_who_is_below_its_threshold():
    image = turn(astronaut(0), 315.0)[0]  # 45 degrees clockwise: at quarter turns the score is 0.5
    assert len(RollSearch(unsure_of_tilted, 4, threshold=0.4)(image).scores) == 1
    assert len(RollSearch(unsure_of_tilted, 4, threshold=0.6)(image).scores) == 0
    assert len(RollSearch(unsure_of_tilted, 8, threshold=0.6)(image).scores) == 1


def test_nobody():
    for search in (RollSearch(find_red), RollSearch(find_red, 4), RollSearch(find_red, 6)):
        found = search(scene())
        assert [len(part) for part in found] == [0, 0, 0]
        assert found.boxes.shape == (0, 4)


class TestYolox:
    """With the real network."""

    @pytest.fixture
    def path(self, test_data):
        pytest.importorskip("onnxruntime")
        return test_data / "weights" / "yolox_nano" / "yolox_nano.onnx"

    @pytest.mark.data
    def test_astronauts_upside_down(self, path, test_data):
        import cv2

        image = cv2.imread(str(test_data / "videos" / "iss_still.jpg"))
        detector = Yolox(path)
        upright = detector(image)
        assert len(upright.boxes) >= 2
        assert np.isnan(upright.rolls).all()
        inverted = cv2.rotate(image, cv2.ROTATE_180)
        searched = RollSearch(detector, 2)(inverted)
        found = searched.boxes[searched.rolls == 180]
        # What was found upright is found again, at the mirrored places; an upright look alone misses some.
        size = np.array([image.shape[1], image.shape[0]] * 2)
        mirrored = (size - upright.boxes)[:, [2, 3, 0, 1]]
        for box in mirrored:
            assert np.abs(found - box).max(axis=1).min() < 1
        assert len(detector(inverted).boxes) < len(searched.boxes)

    @pytest.mark.data
    def test_a_person_in_a_video(self, path, test_data):
        from microg_da.video.reader import Video

        frames = Video(test_data / "videos" / "one-by-one-person-detection.mp4").frames()
        image = next(frame.image for frame in frames if frame.seconds >= 8)
        found = Yolox(path)(image)
        assert len(found.boxes) == 1
        np.testing.assert_allclose(found.boxes[0], [374, 14, 525, 404], atol=12)  # read off the frame

    def test_what_is_no_network(self, tmp_path):
        with pytest.raises(InputError, match=r"none\.onnx"):
            Yolox(tmp_path / "none.onnx")
        pytest.importorskip("onnxruntime")
        (tmp_path / "text.onnx").write_text("no network")
        with pytest.raises(InputError, match=r"text\.onnx.*ONNX"):
            Yolox(tmp_path / "text.onnx")

    @pytest.mark.parametrize(
        ("threshold", "rolls", "words"),
        [
            (2, None, r"--person-threshold 2\b.*\[0, 1\]"),
            (0.5, "1", r"--roll-search 1\b.*\b2 to 36\b"),
            (0.5, "many", rf"--roll-search many\b.*{ADAPTIVE}"),
        ],
    )
    def test_numbers_that_cannot_be(self, tmp_path, threshold, rolls, words):
        with pytest.raises(InputError, match=words):
            create_person_detector(tmp_path / "x.onnx", threshold, rolls)
