"""mAP against camera roll: the two numbers, and tables that hold what was measured."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from microg_da.errors import InputError
from microg_da.evaluation.protocols import evaluate
from microg_da.evaluation.roll_response import RollResponse
from microg_da.files import to_json

ACTIONS = {1: "PM", 12: "PM", 17: "OM", 80: "PI"}
BOX = {"x1": 0.1, "y1": 0.1, "x2": 0.5, "y2": 0.9}


def scores(order_of_12=None, noise=0.0):
    """Twelve people on twelve keyframes; each class's positives are found first unless noise disturbs the order."""
    rng = np.random.default_rng(0)
    truth, said = [], []
    for number in range(12):
        where = {"video_id": f"v_{number:02d}", "frame_stamp": 1, **BOX}
        for position, action in enumerate(ACTIONS):
            positive = number % 4 == position
            if positive:
                truth.append({**where, "action_id": action, "person_id": 0})
            score = 2.0 * positive + noise * rng.normal()
            if action == 12 and order_of_12 is not None:
                score = order_of_12 * (2.0 * positive)
            said.append({**where, "action_id": action, "score": score})
    return evaluate(pd.DataFrame(said), pd.DataFrame(truth))


@pytest.fixture
def response():
    return RollResponse.of({90.0: scores(noise=2.0), 0: scores(), 180.0: scores(order_of_12=-1)})


def test_gravity_bias_by_hand(response):
    maps = {0: scores().map, 90: scores(noise=2.0).map, 180: scores(order_of_12=-1).map}
    assert maps[0] == 1
    assert response.gravity_bias == pytest.approx(1 - sum(maps.values()) / 3)
    assert response.worst_angle == min(maps, key=maps.get)
    assert response.curves.index.tolist() == [0, 90, 180]
    assert response.curves["all"].tolist() == pytest.approx(list(maps.values()))


def test_groups_are_means_of_their_classes_and_classes_are_their_ap(response):
    curves = response.curves
    np.testing.assert_allclose(curves["PM"], (curves[1] + curves[12]) / 2)
    np.testing.assert_allclose(curves["OM"], curves[17])
    np.testing.assert_allclose(curves["all"], curves[[1, 12, 17, 80]].mean(axis=1))
    summary = response.summary()
    assert summary.loc[12, "name"] == "stand"
    assert summary.loc[12, "worst_angle"] == 180
    assert summary.loc["PM", "support"] == 6
    assert summary["kind"].value_counts().to_dict() == {"class": 4, "group": 3, "all": 1}


def test_an_equal_response_has_no_gravity_bias():
    response = RollResponse.of(dict.fromkeys([0, 120, 240], scores()))
    assert response.gravity_bias == 0
    assert response.worst_angle == 0
    assert (response.summary()["gravity_bias"] == 0).all()


def test_a_single_angle():
    assert RollResponse.of({0: scores()}).gravity_bias == 0


def test_nothing_to_score_gives_no_number():
    nothing = evaluate(
        pd.DataFrame(columns=["video_id", "frame_stamp", *BOX, "action_id", "score"]),
        pd.DataFrame(columns=["video_id", "frame_stamp", *BOX, "action_id", "person_id"]),
    )
    response = RollResponse.of({0: nothing, 180: nothing})
    assert math.isnan(response.gravity_bias)
    assert math.isnan(response.worst_angle)
    assert json.loads(to_json(response.as_dict()))["gravity_bias"] is None


def test_where_nothing_is_found_upright_no_part_of_it_can_be_lost():
    response = RollResponse.of({0: scores(), 180: scores()})
    response.curves.loc[0, 17] = 0.0
    assert math.isnan(response.summary().loc[17, "gravity_bias"])


def test_the_table_and_the_dictionary_hold_every_value(response):
    table = response.as_table()
    assert len(table) == 3 * (1 + 3 + 4)
    one = table[(table["degrees"] == 90) & (table["action_id"] == 80)]
    assert one["map"].item() == response.curves.loc[90, 80]
    assert one["name"].item() == "watch (a person)"
    plain = json.loads(to_json(response.as_dict()))
    assert plain["degrees"] == [0, 90, 180]
    assert {curve["key"]: curve["map"] for curve in plain["curves"]}["all"] == response.curves["all"].tolist()


def test_it_needs_the_upright_clip():
    with pytest.raises(InputError, match=r"angle 0\b"):
        RollResponse.of({90: scores()})
