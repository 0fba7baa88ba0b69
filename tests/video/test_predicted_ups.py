"""The estimated up of people in predictions: in the tables, in the JSON and as an arrow in the picture."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from video_helpers import brightness_scorer, find_red, scene, write_video

from microg_da.adaptation.base import Task, detect
from microg_da.adaptation.gravity_frame import GravityFrame, GravityFrameArguments
from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.up_method import Found
from microg_da.video.action_scorer import ActionScorer
from microg_da.video.box_sources import DetectorBoxes, StillBoxes
from microg_da.video.predict import PredictOptions, predict_video
from microg_da.video.reader import Video
from microg_da.video.stills import Still

LEFT, RIGHT = (20, 60, 120, 260), (260, 80, 380, 280)


class KnownUps(nn.Module):
    """Instead of an estimator: up is a function of where the middle of a box is, from 0 at the left edge to 1."""

    def __init__(self, up_at) -> None:
        super().__init__()
        self.up_at = up_at

    def find(self, detector, batch):
        middle = (batch.table_boxes[:, 0] + batch.table_boxes[:, 2]) / 2
        degrees = torch.tensor([self.up_at(x) for x in middle.tolist()])
        return Found(degrees, torch.zeros(len(degrees), 24), detect(detector, batch), len(batch))


def scorer_with_ups(up_at) -> ActionScorer:
    from dataclasses import replace

    scorer = brightness_scorer()
    method = GravityFrame(GravityFrameArguments(), Task(1, 50, (0,) * 50))
    method.finder = KnownUps(up_at)
    return replace(scorer, predictor=Predictor(scorer.predictor.detector, method))


def predict_still(folder, scorer):
    path = folder / "s.png"
    Image.fromarray(scene([RIGHT, LEFT], size=(300, 400))[:, :, ::-1].copy()).save(path)
    facts = predict_video(Still(path), StillBoxes(find_red), scorer, PredictOptions(threshold=1.0), folder / "out")
    assert json.loads((folder / "out" / "video.json").read_text()) == facts
    return facts, np.asarray(Image.open(folder / "out" / "s.jpg").convert("RGB")).astype(int)


def test_a_still_shows_the_up_of_each_person(tmp_path):
    facts, picture = predict_still(tmp_path, scorer_with_ups(lambda x: 30.0 if x < 0.5 else 200.0))
    assert facts["ups"] == [
        {"person_id": 1, "seconds": 0.0, "degrees": 30.0},
        {"person_id": 2, "seconds": 0.0, "degrees": 200.0},
    ]
    assert pd.read_csv(tmp_path / "out" / "people.csv").up.tolist() == [30.0, 200.0]
    # The arrow's pixels inside a red block are the ones that are not red; panels stand beside the blocks or at a face.
    for (x1, y1, x2, y2), up in ((LEFT, 30), (RIGHT, 200)):
        block = picture[y1 + 8 : y2 - 8, x1 + 8 : x2 - 8]
        rows, columns = np.nonzero(np.abs(block - [255, 0, 0]).sum(axis=2) > 250)
        offsets = np.stack([columns - block.shape[1] / 2, rows - block.shape[0] / 2], axis=1)
        length = np.hypot(*offsets.T)
        far = offsets[length > 0.8 * length.max()].mean(axis=0)
        assert abs((np.degrees(np.arctan2(far[0], -far[1])) - up + 180) % 360 - 180) < 8


def test_without_an_estimator_there_is_no_arrow(tmp_path):
    facts, picture = predict_still(tmp_path, brightness_scorer())
    assert facts["ups"] == []
    assert pd.read_csv(tmp_path / "out" / "people.csv").up.isna().all()
    for x1, y1, x2, y2 in (LEFT, RIGHT):
        middle = picture[y1 + 60 : y2 - 60, x1 + 30 : x2 - 30]
        assert (np.abs(middle - [255, 0, 0]).sum(axis=2) < 150).all()


def test_ups_of_a_video_belong_to_keyframes_and_people(tmp_path):
    pytest.importorskip("norfair")
    people = [(10, 20, 30, 80), (90, 20, 110, 80)]
    path = write_video(tmp_path / "v.mp4", [scene(people)] * 40)
    facts = predict_video(
        Video(path),
        DetectorBoxes(find_red, 0.5),
        scorer_with_ups(lambda x: 350.0 if x < 0.5 else 120.0),
        PredictOptions(),
        tmp_path / "out",
    )
    table = pd.read_csv(tmp_path / "out" / "people.csv")
    assert table.up.notna().tolist() == table.keyframe.tolist()
    seen = table[table.keyframe]
    np.testing.assert_allclose(seen.up, np.where(seen.x1 < 0.5, 350.0, 120.0), atol=1e-3)
    listed = {(up["person_id"], up["seconds"]): up["degrees"] for up in facts["ups"]}
    assert listed == {(row.person_id, round(row.seconds, 3)): round(row.up, 1) for row in seen.itertuples()}
    assert len(listed) == 6
