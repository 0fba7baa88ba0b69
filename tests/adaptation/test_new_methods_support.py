"""Classes without source mass get no gradient and no label from the newer methods, though detectors have opinions."""

import copy

import pytest
import torch
from online_cases import batch, trained_detector

from microg_da.adaptation.base import create_adaptation

C = 5
ABSENT = [1, 3]


@pytest.fixture(scope="module")
def trained():
    """Two of the five classes are improbable for everybody, as classes without a source label are."""
    detector = trained_detector()
    with torch.no_grad():
        detector.head.projection.weight[ABSENT] *= 0.01
        detector.head.projection.bias[ABSENT] = -7.0
    return detector


@pytest.fixture
def detector(trained):
    return copy.deepcopy(trained)


def made(name, detector, rates=None, **arguments):
    return create_adaptation(name, arguments, feature_dim=detector.feature_dim, num_classes=C, class_rates=rates)


@pytest.mark.parametrize("name", ["memo", "cotta"])
def test_the_rows_of_absent_classes_stay_where_they_are(name, detector):
    method = made(name, detector, lr=0.1, episodic=False)
    method.prepare(detector, [batch((2, 2), seed=9)], [batch((2, 2), seed=8)])
    assert [index for index, taken in enumerate(method.support.tolist()) if not taken] == ABSENT
    if name == "cotta":
        method.source_entropy.fill_(0.0)
        method.arguments.restored = 0.0
    before = detector.head.projection.weight.detach().clone()
    method.start_test(detector)
    method.predict(detector, batch((2, 1), low=100))
    moved = (detector.head.projection.weight.detach() != before).any(dim=1)
    assert [index for index, row in enumerate(moved.tolist()) if not row] == ABSENT
    method.end_test(detector)


@pytest.mark.parametrize("name", ["eata", "bem", "rotta"])
def test_what_the_detector_says_of_absent_classes_changes_no_step(name, detector):
    """They change scales and shifts alone; other rows for absent classes, and they move as before."""
    found = []
    for weight in (1.0, -300.0):
        network = copy.deepcopy(detector)
        method = made(name, network, lr=1e-2, episodic=False, **({"update_interval": 3} if name == "rotta" else {}))
        method.prepare(network, [batch((2, 2), seed=9)], [batch((2, 2), seed=8)])
        torch.manual_seed(0)
        if name == "eata":
            method.arguments.margin, method.arguments.similarity = 1.5, 1e3
            method.arguments.fisher_weight = 0.0
        with torch.no_grad():
            network.head.projection.weight[ABSENT] *= weight
        method.start_test(network)
        method.predict(network, batch((2, 1), low=100))
        changed = [parameter.detach().clone() for parameter in method._chosen]
        assert not torch.equal(
            torch.cat([p.flatten() for p in changed]), torch.cat([p.flatten() for p in state(detector)])
        )
        found.append(changed)
        method.end_test(network)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def state(detector):
    layers = [m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    return [p.detach() for layer in layers for p in layer.parameters(recurse=False)]


@pytest.mark.parametrize("name", ["aad", "pets", "dru"])
def test_source_free_methods_find_the_support_by_the_source_model(name, detector):
    method = made(name, detector, **({"positive": 1.0, "negative": 1.0} if name != "aad" else {}))
    target = batch((2, 2, 2), seed=8)
    method.before_training(detector, [], [target])
    assert [index for index, taken in enumerate(method.support.tolist()) if not taken] == ABSENT
    sum(method.step_losses(detector.train(), None, target, 0.5).values()).backward()
    rows = detector.head.projection.weight.grad.abs().sum(dim=1)
    assert (rows[ABSENT] == 0).all()
    assert (rows > 0).any()


def test_mic_gives_no_label_to_classes_that_the_source_lacks(detector):
    rates = [0.0 if index in ABSENT else 0.5 for index in range(C)]
    method = made("mic", detector, rates, ramp_up=0.1, positive=1.0, negative=1.0)
    method.before_training(detector, [], [])
    source = batch((0,)).with_labels(torch.zeros(0, C))
    method.thresholds.people.fill_(2)
    method.thresholds.positives.fill_(1)
    sum(method.step_losses(detector.train(), source, batch((2, 2, 2), seed=8), 0.5).values()).backward()
    rows = detector.head.projection.weight.grad.abs().sum(dim=1)
    assert (rows[ABSENT] == 0).all()
    assert (rows > 0).any()
