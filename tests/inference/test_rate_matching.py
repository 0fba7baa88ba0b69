"""Decisions of a detector at the class rates of the source."""

import numpy as np
import pytest
import torch

from microg_da.adaptation.base import TestTimeMethod, create_adaptation, detect
from microg_da.adaptation.predictor import Predictor
from microg_da.config import load_config
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.inference.rate_matching import match_class_rates
from microg_da.models import create_detector
from microg_da.runs.detectors import matches_rates

TINY = ["data.image_size=32", "model.num_frames=2", "synthetic.train_clips=24", "synthetic.workers=0"]


@pytest.fixture(scope="module")
def datasets():
    return DomainDatasets(load_config("ava2microg", [*TINY, "trainer.accelerator=cpu"]))


@pytest.fixture
def detector():
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_micro", num_classes=50).eval()
    torch.nn.init.normal_(detector.head.projection.weight, std=0.1)
    torch.nn.init.constant_(detector.head.projection.bias, -10)  # as one that says no to everything
    return detector


def logits(predictor, data):
    with torch.no_grad(), predictor.testing():
        return torch.cat([predictor(batch).logits for batch in data.unaugmented_clips("target")])


@pytest.mark.parametrize("name", [None, "roll_tta"])
def test_target_people_have_the_classes_as_often_as_source_people(datasets, detector, name):
    method = None if name is None else create_adaptation(name, feature_dim=detector.feature_dim, num_classes=50)
    predictor = Predictor(detector, method)
    data = StageData(datasets, labelled=None, unlabelled="target", batch_size=8)
    before = logits(predictor, data)
    assert (before < 0).all()
    match_class_rates(predictor, data, datasets.class_rates)
    after = logits(predictor, data)
    wanted = np.round(np.float32(datasets.class_rates) * len(after))
    found = (after > 0).sum(dim=0).numpy()
    ranked = before.sort(dim=0, descending=True).values.numpy()
    rows = wanted.astype(int)
    # Random weights may give two people nearly the same logit; between these there is no threshold.
    clear = np.array(
        [0 < row < len(ranked) and gap[row - 1] - gap[row] > 1e-4 for row, gap in zip(rows, ranked.T, strict=True)]
    )
    assert clear.sum() > 5
    assert (found == wanted)[clear].all()
    np.testing.assert_allclose(after - before, (after - before)[:1].expand_as(after), atol=1e-4)
    if method is not None:  # it comes back with the method, and a file that lacks it shifts nothing
        again = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=50)
        again.load_state_dict(method.state_dict())
        assert torch.equal(again.decision_shift, method.decision_shift)
        again.load_state_dict({k: v for k, v in method.state_dict().items() if k != "decision_shift"})
        assert not again.decision_shift.any()


def test_no_graph_is_kept(datasets, detector):
    """A method that needs gradients asks for them; eight rolls of a batch with all activations would fill the memory."""

    class Asks(TestTimeMethod):
        def predict(self, detector, batch):
            assert not torch.is_grad_enabled()
            return detect(detector, batch)

    data = StageData(datasets, labelled=None, unlabelled="target", batch_size=8)
    method = create_adaptation("roll_tta", feature_dim=detector.feature_dim, num_classes=50)
    match_class_rates(Predictor(detector, Asks(method.arguments, method.task)), data, datasets.class_rates)


def test_it_is_not_for_oracles():
    assert matches_rates(load_config("ava2microg", ["adaptation=cdan"]))
    assert not matches_rates(load_config("ava2microg", ["adaptation=cdan", "adaptation.match_rates=false"]))
    for name in ("source_only", "target_supervised", "joint"):
        assert not matches_rates(load_config("ava2microg", [f"adaptation={name}", "adaptation.match_rates=true"]))
