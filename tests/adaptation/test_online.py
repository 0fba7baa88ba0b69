"""What methods that act at test time share: the detector is theirs for the test, and comes back as it was."""

import copy

import pytest
import torch
from online_cases import C, batch, method, trained_detector
from torch import nn

from microg_da.adaptation.base import TrainingMethod, create_adaptation
from microg_da.adaptation.online import person_entropy
from microg_da.errors import InputError

ONLINE = ["tent", "sar", "vitta", "memo", "eata", "cotta", "bem", "rotta"]


@pytest.fixture(scope="module")
def trained():
    return trained_detector()


@pytest.fixture
def detector(trained):
    return copy.deepcopy(trained)


def state(detector):
    return {name: value.clone() for name, value in detector.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ONLINE)
def test_the_detector_changes_during_the_test_and_comes_back_bit_for_bit(name, detector):
    adaptation = method(name, detector, lr=0.01)
    before, modes = state(detector), [module.training for module in detector.modules()]
    trained = [parameter.requires_grad for parameter in detector.parameters()]
    with torch.no_grad():
        adaptation.start_test(detector)
        adaptation.predict(detector, batch(low=100))
        weights = dict(detector.named_parameters())
        assert any(not torch.equal(before[key], value) for key, value in weights.items())
        adaptation.end_test(detector)
    assert same(state(detector), before)
    assert [module.training for module in detector.modules()] == modes
    assert [parameter.requires_grad for parameter in detector.parameters()] == trained
    assert all(parameter.grad is None for parameter in detector.parameters())


@pytest.mark.parametrize("name", ONLINE)
def test_two_tests_of_one_detector_agree(name, detector):
    adaptation = method(name, detector, lr=0.01)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        adaptation.start_test(detector)
        found.append([adaptation.predict(detector, batch(seed=seed, low=100)).logits for seed in range(3)])
        adaptation.end_test(detector)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert not found[0][0].requires_grad


@pytest.mark.parametrize("name", ONLINE)
def test_episodic_batches_know_nothing_of_each_other(name, detector):
    adaptation = method(name, detector, lr=0.01, episodic=True)
    answers = []
    for others in ([], [batch(seed=5, low=200)]):
        adaptation.start_test(detector)
        for other in others:
            adaptation.predict(detector, other)
        torch.manual_seed(4)
        answers.append(adaptation.predict(detector, batch(low=100)).logits)
        adaptation.end_test(detector)
    assert torch.equal(*answers)


@pytest.mark.parametrize("name", ONLINE)
def test_an_episode_shows_in_its_own_answer(name, detector):
    """One step is not vain: the batch is looked at again after it."""
    answers = []
    for lr in (0.0, 0.01):
        adaptation = method(name, detector, lr=lr, episodic=True)
        adaptation.start_test(detector)
        answers.append(adaptation.predict(detector, batch(low=100)).logits)
        adaptation.end_test(detector)
    assert not torch.equal(*answers)


@pytest.mark.parametrize("name", ONLINE)
def test_a_batch_without_people_changes_no_weight(name, detector):
    adaptation = method(name, detector, lr=0.1)
    adaptation.start_test(detector)
    before = {key: value.clone() for key, value in detector.named_parameters()}
    assert adaptation.predict(detector, batch((0, 0))).logits.shape == (0, C)
    assert same(dict(detector.named_parameters()), before)
    adaptation.end_test(detector)


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast_hides_no_gradient(name, detector, precision):
    """Steps under autocast are the steps without it."""
    answers = []
    for enabled in (False, True):
        adaptation = method(name, detector, lr=0.01)
        with torch.no_grad(), torch.autocast("cpu", precision, enabled=enabled):
            torch.manual_seed(4)
            adaptation.start_test(detector)
            answers.append([adaptation.predict(detector, batch(seed=seed)).logits for seed in range(2)])
            adaptation.end_test(detector)
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("name", ONLINE)
def test_what_is_needed_of_the_source_is_saved_with_the_method(name, detector):
    learnt = method(name, detector)
    fresh = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)
    fresh.load_state_dict(learnt.state_dict())
    assert same(learnt.state_dict(), fresh.state_dict())


@pytest.mark.parametrize("name", ["tent", "sar", "adabn", "eata", "bem", "rotta"])
def test_a_model_that_lacks_what_a_method_needs_is_told_so(name, detector):
    plain = copy.deepcopy(detector)
    for module in plain.backbone.modules():
        for child, layer in module.named_children():
            if isinstance(layer, nn.BatchNorm3d):
                setattr(module, child, nn.Identity())
    adaptation = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)

    def use():
        if isinstance(adaptation, TrainingMethod):
            adaptation.before_training(plain, [batch()], [batch()])
        else:
            adaptation.prepare(plain, [batch()], [batch()])
            adaptation.start_test(plain)

    with pytest.raises(InputError, match=rf"{name}.*normalisation"):
        use()


def test_vitta_needs_something_to_train(detector):
    detector.backbone.requires_grad_(False)
    with pytest.raises(InputError, match=r"vitta.*model\.freeze"):
        method("vitta", detector).start_test(detector)


def test_the_entropy_of_a_person_is_that_of_all_combinations_of_answers():
    """Independent classes: the joint distribution over 2^C answers has the summed entropy."""
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(2)).double()
    p = torch.sigmoid(logits)
    answers = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).double()
    joint = (answers[None] * p[:, None] + (1 - answers[None]) * (1 - p[:, None])).prod(2)
    assert torch.allclose(person_entropy(logits).double(), torch.distributions.Categorical(joint).entropy(), atol=1e-5)
