"""Errors of estimated up, against the simulator's truth and known rolls."""

import numpy as np
import pytest
import torch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.up_method import Found
from microg_da.config import load_config
from microg_da.data.datamodule import DomainDatasets
from microg_da.evaluation.up_errors import AngleErrors
from microg_da.inference.up_errors import up_errors
from microg_da.models import create_detector
from microg_da.types import Prediction


@pytest.fixture(scope="module")
def datasets():
    words = [f"synthetic.{split}_clips=6" for split in ("train", "val", "test")]
    return DomainDatasets(load_config("ava2microg", [*words, "synthetic.cache=false", "data.image_size=48"]))


def predictor(degrees_of):
    """A gravity frame whose finder answers by a function of the batch."""
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_micro", num_classes=50)
    method = create_adaptation("gravity_frame", feature_dim=detector.feature_dim, num_classes=50)

    class Answers(torch.nn.Module):
        def find(self, network, batch):
            degrees = degrees_of(batch)
            bins = torch.arange(36) * 10.0
            distance = (torch.remainder(bins - degrees[:, None] + 180, 360) - 180).abs()
            empty = torch.zeros(len(degrees), 1)
            return Found(degrees, (-distance).log_softmax(dim=1), Prediction(empty, empty), 2 * len(batch))

    method.finder = Answers()
    return Predictor(detector, method)


def test_the_truth_has_no_error_and_its_opposite_is_a_flip(datasets):
    ups = datasets.get("target", "test", labelled=False).ups()
    right = up_errors(predictor(lambda batch: torch.tensor([ups.get(key, 0.0) for key in batch.people])), datasets)
    assert right["target"].decided == AngleErrors(pytest.approx(0, abs=1e-3), 0)
    assert right["target"].estimator.median_error < 5.1
    assert right["target"].people == len(ups)
    assert right["target"].passes == 2
    wrong = up_errors(
        predictor(lambda batch: torch.tensor([180 + ups.get(key, 0.0) for key in batch.people])), datasets
    )
    assert wrong["target"].decided == AngleErrors(pytest.approx(180, abs=1e-3), 1)


def test_source_clips_are_rolled_by_known_angles(datasets):
    errors = up_errors(predictor(lambda batch: torch.zeros(batch.num_boxes)), datasets)["rolled_source"]
    assert 40 < errors.decided.median_error < 140
    assert 0.1 < errors.decided.flips < 0.9


def test_other_methods_have_none(datasets):
    detector = create_detector("r2plus1d_micro", num_classes=50)
    assert up_errors(Predictor(detector), datasets) == {}


def test_the_summary_is_the_median_and_the_share_beyond_a_right_angle():
    errors = np.random.default_rng(0).uniform(0, 180, 31)
    assert AngleErrors.of(errors).median_error == np.sort(errors)[15]
    assert AngleErrors.of(errors).flips == sum(error > 90 for error in errors) / 31
    assert np.isnan(AngleErrors.of(np.zeros(0)).flips)
