"""Video mAP and the linking of tubes against slow loops, and properties that must hold."""

import itertools

import numpy as np
import pandas as pd
import pytest

from microg_da.errors import InputError
from microg_da.evaluation.tubes import link_tubes
from microg_da.evaluation.video_map import THRESHOLDS, evaluate_tubes
from microg_da.taxonomy import Taxonomy

IDS = (1, 12, 80)
TAXONOMY = Taxonomy("three", IDS, ("a", "b", "c"))
BOX = ["x1", "y1", "x2", "y2"]


def tubes(seed, *, scored):
    """Random tubes with gaps; boxes of one person move little, so that IoUs of all sizes occur."""
    rng = np.random.default_rng(seed)
    rows = []
    for video, person in itertools.product(range(4), range(3)):
        corner, action = np.array([0.05 + 0.3 * person, 0.1]), int(rng.choice(IDS))
        start, stop = sorted(rng.choice(12, 2, replace=False))
        for frame in range(start, stop + 1):
            if rng.random() < 0.8:
                low = corner + rng.uniform(0, 0.06, 2)
                row = [f"film_{video}", frame, *low, *(low + np.array([0.25, 0.6])), action, person]
                rows.append([*row, round(rng.uniform(), 1)] if scored else row)
    return pd.DataFrame(
        rows, columns=["video_id", "frame_stamp", *BOX, "action_id", "person_id", *(["score"] * scored)]
    )


def slow_iou(first, second):
    """Frame by frame, with sets."""
    boxes = [{row.frame_stamp: row for row in table.itertuples()} for table in (first, second)]
    common = boxes[0].keys() & boxes[1].keys()
    total = 0.0
    for frame in common:
        a, b = boxes[0][frame], boxes[1][frame]
        width = max(0.0, min(a.x2, b.x2) - max(a.x1, b.x1))
        height = max(0.0, min(a.y2, b.y2) - max(a.y1, b.y1))
        both = width * height
        total += both / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - both)
    return total / len(common) * len(common) / len(boxes[0].keys() | boxes[1].keys()) if common else 0.0


def slow_aps(found, truth, action, thresholds):
    """One detection after another, and the area under the envelope of precision by recall."""
    key = ["video_id", "person_id"]
    detected, true = (list(table[table.action_id == action].groupby(key, sort=False)) for table in (found, truth))
    if not true:
        return None
    ranked = sorted(detected, key=lambda group: -group[1].score.mean())  # Python sorts stably
    ious = [
        [slow_iou(rows, wanted) if name[0] == other[0] else -1.0 for other, wanted in true] for name, rows in ranked
    ]
    return [slow_area(ious, len(true), threshold) for threshold in thresholds]


def slow_area(ious, wanted, threshold):
    taken, hits, points = set(), 0, []
    for rank, row in enumerate(ious, start=1):
        free = [(iou, -place) for place, iou in enumerate(row) if place not in taken]
        if free and max(free)[0] >= threshold:
            taken.add(-max(free)[1])
            hits += 1
        points.append((hits / wanted, hits / rank))
    area, reached = 0.0, 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[place:])
        reached = recall
    return area


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_slow_loop(seed):
    found, truth = tubes(seed, scored=True), tubes(seed + 100, scored=False)
    found = pd.concat(
        [found, truth.assign(score=0.5, person_id=truth.person_id + 7, x2=truth.x2 - 0.055)], ignore_index=True
    )
    scores = evaluate_tubes(found, truth, taxonomy=TAXONOMY, scores="probability")

    thresholds = (0.2, *THRESHOLDS)
    areas = [slow_aps(found, truth, action, thresholds) for action in IDS]
    means = dict(zip(thresholds, np.mean([area for area in areas if area is not None], axis=0), strict=True))

    assert scores.map_20 == pytest.approx(means[0.2])
    assert scores.map_50 == pytest.approx(means[0.5])
    assert scores.map_75 == pytest.approx(means[0.75])
    assert scores.map_50_95 == pytest.approx(np.mean([means[threshold] for threshold in THRESHOLDS]))
    assert 0 < scores.map_50_95 < scores.map_20


def test_the_truth_finds_itself():
    truth = tubes(3, scored=False)
    scores = evaluate_tubes(truth.assign(score=1.0), truth, taxonomy=TAXONOMY)
    assert (scores.map_20, scores.map_50, scores.map_50_95) == (1, 1, 1)
    assert scores.num_tubes == scores.num_detections == truth.groupby(["video_id", "person_id"]).ngroups
    assert scores.num_videos == truth.video_id.nunique()


def test_a_second_tube_on_one_person_is_wrong():
    truth = tubes(3, scored=False)
    truth = truth[(truth.video_id == truth.video_id[0]) & (truth.person_id == truth.person_id[0])]
    twice = pd.concat([truth.assign(score=0.9), truth.assign(score=0.8, person_id=5)])
    assert evaluate_tubes(twice, truth, taxonomy=TAXONOMY).map_50 == 1
    first = pd.concat([truth.assign(score=0.9, x1=0.9, x2=0.95), truth.assign(score=0.8, person_id=5)])
    assert evaluate_tubes(first, truth, taxonomy=TAXONOMY).map_50 == 0.5


def test_another_action_or_another_video_is_no_match():
    truth = tubes(3, scored=False).assign(action_id=1)
    assert evaluate_tubes(truth.assign(score=1.0, action_id=12), truth, taxonomy=TAXONOMY).map_20 == 0
    moved = truth.assign(score=1.0, video_id=truth.video_id.str.replace("film_0", "film_9"))
    part = evaluate_tubes(moved, truth, taxonomy=TAXONOMY)
    kept = truth[truth.video_id != "film_0"].groupby(["video_id", "person_id"]).ngroups
    assert part.map_20 <= kept / part.num_tubes


def test_no_detections_and_classes_without_tubes():
    truth = tubes(1, scored=False).assign(action_id=12)
    scores = evaluate_tubes(truth.assign(score=0.0)[:0], truth, taxonomy=TAXONOMY)
    assert (scores.map_20, scores.map_50_95, scores.num_detections) == (0, 0, 0)
    assert scores.per_class.ap_50.isna().tolist() == [True, False, True]
    assert scores.num_classes_with_ground_truth == 1
    nothing = evaluate_tubes(truth.assign(score=1.0), truth[:0], taxonomy=TAXONOMY)
    assert np.isnan(nothing.map_50)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns="person_id"), "person_id.*link"),
        (lambda table: pd.concat([table, table[:1]]), "two boxes at frame_stamp"),
        (lambda table: table.assign(x2=300.0), "box outside the image"),
        (lambda table: table.assign(video_id="elsewhere_" + table.video_id), "no common video"),
        (lambda table: table.drop(columns="score"), "score"),
    ],
)
def test_tables_that_are_no_tubes_are_refused(change, said):
    truth = tubes(1, scored=False)
    with pytest.raises(InputError, match=said):
        evaluate_tubes(change(truth.assign(score=1.0)), truth, taxonomy=TAXONOMY)


# ------------------------------------------------------------------------------------------------------------ linking


def detections(seed, frames=4, most=3):
    """Frames with different numbers of boxes that overlap in all ways."""
    rng = np.random.default_rng(seed)
    rows = []
    for frame in range(frames):
        for _ in range(rng.integers(1, most + 1)):
            low = rng.uniform(0, 0.5, 2)
            rows.append(["film_1", 10 * frame, *low, *(low + rng.uniform(0.2, 0.5, 2)), 12, rng.uniform()])
    rng.shuffle(rows)
    return pd.DataFrame(rows, columns=["video_id", "frame_stamp", *BOX, "action_id", "score"]).astype(
        {"frame_stamp": int, "action_id": int, **dict.fromkeys([*BOX, "score"], float)}
    )


def every_path(table, weight):
    """The rows of the best path, by trying all; again without them while each frame has a box."""
    frames = [list(part.index) for _, part in table.groupby("frame_stamp")]
    found = []
    while all(frames):

        def value(path):
            rows = [table.loc[row] for row in path]
            ious = [
                slow_iou(pd.DataFrame([a]).assign(frame_stamp=0), pd.DataFrame([b]).assign(frame_stamp=0))
                for a, b in itertools.pairwise(rows)
            ]
            return sum(row.score for row in rows) + weight * sum(ious)

        best = max(itertools.product(*frames), key=value)
        found.append(sorted(best))
        frames = [[row for row in rows if row not in best] for rows in frames]
    return found


@pytest.mark.parametrize(("seed", "weight"), [(0, 1.0), (1, 1.0), (2, 3.0), (3, 0.0)])
def test_linking_equals_trying_every_path(seed, weight):
    table = detections(seed)
    linked = link_tubes(table, scores="probability", overlap_weight=weight)
    key = ["frame_stamp", *BOX]
    place = {tuple(row): index for index, row in zip(table.index, table[key].to_numpy(), strict=True)}
    found = [sorted(place[tuple(row)] for row in rows[key].to_numpy()) for _, rows in linked.groupby("person_id")]
    assert found == every_path(table, weight)


def test_videos_and_actions_are_linked_apart():
    table = detections(5)
    other = table.assign(video_id="film_2")
    third = table.assign(action_id=1)
    alone = link_tubes(table, scores="probability")
    linked = link_tubes(pd.concat([table, other, third]), scores="probability")
    for name, action in (("film_1", 12), ("film_2", 12), ("film_1", 1)):
        part = linked[(linked.video_id == name) & (linked.action_id == action)].reset_index(drop=True)
        pd.testing.assert_frame_equal(
            part.drop(columns=["video_id", "action_id"]), alone.drop(columns=["video_id", "action_id"])
        )


def test_logits_count_as_probabilities_and_stay_as_they_are():
    table = detections(7)
    logits = table.assign(score=np.log(table.score / (1 - table.score)))
    first, second = link_tubes(table, scores="probability"), link_tubes(logits, scores="logit")
    assert first.person_id.tolist() == second.person_id.tolist()
    assert set(second.score) <= set(logits.score)
    far = link_tubes(table.assign(score=-1e6))
    assert np.isfinite(far.score).all()


def test_nothing_to_link():
    table = detections(1)
    assert link_tubes(table[:0]).empty
    with pytest.raises(InputError, match="score"):
        link_tubes(table.drop(columns="score"))


def test_linked_tubes_of_a_perfect_detector_are_the_truth():
    """As many people in every frame, moving slowly: links are tracks."""
    rows = [
        ("film_1", frame, 0.1 + 0.3 * person + frame / 200, 0.1, 0.3 + 0.3 * person + frame / 200, 0.9, 12, person)
        for frame in range(8)
        for person in range(3)
    ]
    truth = pd.DataFrame(rows, columns=["video_id", "frame_stamp", *BOX, "action_id", "person_id"])
    found = truth.drop(columns="person_id").assign(score=0.9).sample(frac=1, random_state=0)
    assert evaluate_tubes(link_tubes(found, scores="probability"), truth, taxonomy=TAXONOMY).map_50_95 == 1
