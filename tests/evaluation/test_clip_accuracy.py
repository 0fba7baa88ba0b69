"""Top-1 accuracy of clips against torchmetrics and sklearn, and where it is defined."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy

from microg_da.evaluation import evaluate
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.evaluation.protocols import PROTOCOLS, Scores
from microg_da.taxonomy import get_taxonomy

CLASSES = get_taxonomy("jhmdb21").ids
BOXES = [(0.0, 0.0, 0.3, 0.9), (0.4, 0.0, 0.7, 0.9), (0.75, 0.0, 1.0, 0.9)]


def clips(number: int, seed: int = 0, most_people: int = 1, keyframes: int = 1):
    """Tables of clips with one class each, and the logits ``(people, C)`` of every clip."""
    rng = np.random.default_rng(seed)
    truth, detections, logits, labels = [], [], [], rng.integers(0, len(CLASSES), number)
    for clip, label in enumerate(labels):
        people = []
        for stamp in range(1, keyframes + 1):
            for box in BOXES[: rng.integers(1, most_people + 1)]:
                scores = rng.normal(size=len(CLASSES))
                scores[label] += 1.0
                truth.append((f"clip{clip}", stamp, *box, CLASSES[label]))
                detections += [(f"clip{clip}", stamp, *box, a, s) for a, s in zip(CLASSES, scores, strict=True)]
                people.append(scores)
        logits.append(np.array(people))
    columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id"]
    return pd.DataFrame(detections, columns=[*columns, "score"]), pd.DataFrame(truth, columns=columns), logits, labels


def top1(detections, truth, **options) -> float:
    return evaluate(detections, truth, taxonomy="jhmdb21", **options).top1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_person_a_clip_agrees_with_torchmetrics(protocol: str):
    detections, truth, logits, labels = clips(60)
    expected = multiclass_accuracy(
        torch.tensor(np.concatenate(logits)), torch.tensor(labels), len(CLASSES), average="micro"
    ).item()
    assert 0.1 < expected < 0.9
    assert top1(detections, truth, protocol=protocol) == pytest.approx(expected)


@pytest.mark.parametrize("keyframes", [1, 3])
@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_several_people_are_averaged_as_probabilities(keyframes: int, kind: str):
    detections, truth, logits, labels = clips(60, seed=1, most_people=3, keyframes=keyframes)
    probabilities = [1 / (1 + np.exp(-people)) for people in logits]
    means = np.stack([people.mean(axis=0) for people in probabilities])
    expected = top_k_accuracy_score(labels, means, k=1, labels=np.arange(len(CLASSES)))
    if kind == "probability":
        detections["score"] = 1 / (1 + np.exp(-detections.score))
    assert top1(detections, truth, scores=kind) == pytest.approx(expected)


def test_is_the_same_in_training():
    detections, truth, logits, _ = clips(20, seed=2, most_people=3)
    metric = DetectionMetrics(truth, taxonomy="jhmdb21")
    people = detections.drop_duplicates(["video_id", "x1"])
    index = metric.index_of(zip(people.video_id, people.frame_stamp, strict=True))
    boxes = torch.tensor(people[["x1", "y1", "x2", "y2"]].to_numpy())
    metric.update(index, boxes, torch.tensor(np.concatenate(logits)))
    assert metric.scores().top1 == pytest.approx(top1(detections, truth))


def test_large_logits_are_told_apart():
    detections, truth, logits, labels = clips(30, seed=3)
    detections["score"] = 100 + 10 * detections.score  # probabilities of 1 up to rounding
    expected = np.mean([people[0].argmax() for people in logits] == labels)
    assert top1(detections, truth) == pytest.approx(expected)


def test_a_clip_without_detections_is_wrong():
    detections, truth, _, _ = clips(10, seed=4)
    before = top1(detections, truth)
    right = next(c for c in truth.video_id if top1(*(t[t.video_id == c] for t in (detections, truth))) == 1)
    after = top1(detections[detections.video_id != right], truth)
    assert after == pytest.approx(before - 0.1)


def test_impossible_everywhere_names_no_class():
    detections, truth, _, _ = clips(4)
    truth["action_id"] = CLASSES[0]
    assert top1(detections.assign(score=0.0), truth, scores="probability") == 0


class TestWhereItIsDefined:
    def test_a_clip_of_two_classes_ends_it(self):
        detections, truth, _, _ = clips(10)
        second = truth.head(1).assign(action_id=truth.action_id.iloc[0] % len(CLASSES) + 1)
        found = evaluate(detections, pd.concat([truth, second]), taxonomy="jhmdb21")
        assert not found.is_single_label
        assert np.isnan(found.top1)
        assert not {"top1", "num_clips"} & found.as_dict().keys()

    def test_the_same_label_of_several_people_does_not(self):
        detections, truth, _, _ = clips(10, most_people=3)
        assert evaluate(detections, truth, taxonomy="jhmdb21").num_clips == 10

    def test_it_survives_json(self):
        detections, truth, _, _ = clips(10)
        found = evaluate(detections, truth, taxonomy="jhmdb21")
        again = Scores.from_dict(json.loads(json.dumps(found.as_dict())))
        assert (again.top1, again.num_clips) == (found.top1, 10)

    def test_results_of_earlier_versions_have_none(self):
        detections, truth, _, _ = clips(10)
        values = evaluate(detections, truth, taxonomy="jhmdb21").as_dict()
        del values["top1"], values["num_clips"]
        assert not Scores.from_dict(json.loads(json.dumps(values))).is_single_label
