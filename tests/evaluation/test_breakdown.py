"""Parts of the data: every row belongs to one part, and each part is scored as if it were all there is."""

import pandas as pd
import pytest

from microg_da.data.annotations import read_actions, read_annotations, read_detections
from microg_da.errors import InputError
from microg_da.evaluation import evaluate
from microg_da.evaluation.breakdown import SIZES, evaluate_parts, footage_of, partition


@pytest.mark.parametrize("by", ["footage", "source-video", "persons", "box-size", "domain", "source"])
def test_parts_are_disjoint_and_complete(make_tables, by):
    detections, truth = make_tables(4, keyframes=20, jitter=0.03)
    footage = {video: "real" if "film1" in video else "simulated" for video in truth["video_id"]}
    parts = partition(detections, truth, by, footage)
    truths = pd.concat([part for _, part in parts.values()])
    found = pd.concat([part for part, _ in parts.values()])
    assert sorted(truths.index) == list(truth.index)
    assert found.index.is_unique
    seen = detections.merge(truth[["video_id", "frame_stamp"]].drop_duplicates())
    assert len(found) >= len(seen)  # invented keyframes have no domain, source or number of people of the truth


def test_a_part_is_scored_by_itself(make_tables):
    detections, truth = make_tables(4, keyframes=20)
    parts = evaluate_parts(detections, truth, "source-video", protocol="published")
    assert list(parts) == list(truth["video_id"].str.split("_").str[0].value_counts().index)
    mine = evaluate(
        detections[detections.video_id.str.startswith("film2_")],
        truth[truth.video_id.str.startswith("film2_")],
        protocol="published",
    )
    assert parts["film2"].as_dict(per_class=False) == pytest.approx(mine.as_dict(per_class=False), nan_ok=True)


def test_a_detection_is_as_large_as_the_person_it_covers():
    columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id"]
    truth = pd.DataFrame([("v_1", 1, 0.0, 0.0, 0.51, 0.5, 12)], columns=columns)
    boxes = [(0.0, 0.0, 0.49, 0.5), (0.9, 0.9, 1.0, 1.0)]
    detections = pd.DataFrame([("v_1", 1, *box, 12) for box in boxes], columns=columns).assign(score=1.0)
    parts = partition(detections, truth, "box-size")
    assert parts[SIZES[1]][0].index.tolist() == [0]
    assert list(parts) == [SIZES[1]]


def test_persons_are_counted_per_keyframe(make_tables):
    detections, truth = make_tables(8, keyframes=20)
    for name, (_, part) in partition(detections, truth, "persons").items():
        counts = part.drop_duplicates(["video_id", "x1", "y1", "x2", "y2"]).groupby("video_id").size()
        assert {f"{n}" if n < 3 else "3 or more" for n in counts} == {name}


def test_bad_breakdowns(make_tables):
    detections, truth = make_tables(0)
    with pytest.raises(InputError, match=r"'sauce'.*persons"):
        partition(detections, truth, "sauce")
    with pytest.raises(InputError, match="--actions"):
        partition(detections, truth, "footage")
    with pytest.raises(InputError, match=r"\b\d+ clips\b.*'film0_0'"):
        partition(detections, truth, "domain", {"other": "real"})


@pytest.mark.data
def test_footage_of_the_benchmark(test_data):
    folder = test_data / "microg4m"
    truth = read_annotations(folder / "ava_test_gt.csv")
    detections = read_detections(folder / "detections_test" / "SLOWONLY_4x16_R50.csv.gz")
    parts = evaluate_parts(detections, truth, "footage", footage_of(read_actions(folder / "actions.csv")))
    assert {name: part.num_keyframes for name, part in parts.items()} == {"real": 720, "simulated": 371}
    assert sum(part.num_boxes for part in parts.values()) == 1136
