"""Selection, weights and the Fisher pull, each against its own words."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from online_cases import C, batch, method, trained_detector
from scipy.stats import bernoulli
from sklearn.metrics.pairwise import cosine_similarity

from microg_da.adaptation.base import Task, create_adaptation
from microg_da.adaptation.eata import EATA, EATAArguments, weighted_entropy
from microg_da.errors import InputError


@pytest.fixture(scope="module")
def trained():
    return trained_detector()


@pytest.fixture
def detector(trained):
    return copy.deepcopy(trained)


def selecting(margin=1.0, uninformed=2.0):
    eata = EATA(EATAArguments(margin=margin), Task(3, C, (0,) * C))
    eata.uninformed.fill_(uninformed)
    eata.forget()
    return eata


def test_the_loss_weighs_by_how_far_below_the_margin_a_person_is():
    logits = torch.randn(6, C, dtype=torch.float64).requires_grad_()
    p = torch.sigmoid(logits)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1)
    expected = (1 / torch.exp(entropy.detach() - 1.5) * entropy).mean()
    loss = weighted_entropy(logits, 1.5)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    (ours,), (theirs,) = torch.autograd.grad(loss, [logits]), torch.autograd.grad(expected, [logits])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_people_above_the_margin_and_repetitions_are_left_out():
    eata = selecting()
    unsure, sure = torch.zeros(1, C), torch.tensor([[9.0, -9, -9, -9, -9]])
    other = torch.tensor([[-9.0, 9, -9, -9, -9]])
    assert eata.select(torch.cat([unsure, sure]), 0.5).tolist() == [False, True]  # nothing was said before
    assert eata.select(torch.cat([sure, other]), 0.5).tolist() == [False, True]


def test_the_mean_answer_follows_those_selected_alone():
    eata = selecting()
    first, second = 9 * (2 * torch.eye(C)[:1] - 1), 9 * (2 * torch.eye(C)[1:2] - 1)
    eata.select(first, 0.5)
    eata.select(torch.cat([first, second]), 0.5)
    expected = 0.9 * first.sigmoid() + 0.1 * second.sigmoid()
    torch.testing.assert_close(eata._mean_answer, expected[0])


def test_what_is_taken_of_the_source_is_what_it_says(detector):
    source = [batch((2, 1), seed=1), batch((0, 0), seed=2), batch((3,), seed=3)]
    eata = create_adaptation("eata", {"source_batches": 3}, feature_dim=detector.feature_dim, num_classes=C)
    eata.prepare(detector, iter(source), [])
    network = copy.deepcopy(detector)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.train()
    layers = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    parameters = [p.requires_grad_() for m in layers for p in m.parameters(recurse=False)]
    answers, fisher = [], 0
    for clips in (source[0], source[2]):
        logits = network(clips.frames, clips.boxes, clips.clip_index).logits
        labels = (torch.sigmoid(logits) > 0.5).float()
        loss = F.binary_cross_entropy(torch.sigmoid(logits), labels.detach(), reduction="none").sum(1).mean()
        fisher = fisher + torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]) ** 2 / 2
        answers.append(torch.sigmoid(logits).detach())
    p = torch.cat(answers).numpy()
    assert float(eata.uninformed) == pytest.approx(sum(bernoulli(q).entropy() for q in p.mean(0)), rel=1e-4)
    usual = np.mean(cosine_similarity(p, p.mean(0, keepdims=True)))
    assert float(eata.usual_similarity) == pytest.approx(usual, rel=1e-4)
    torch.testing.assert_close(eata.fisher, fisher, atol=1e-6, rtol=1e-2)


def test_preparing_leaves_the_detector_as_it_was(detector):
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    trained = [parameter.requires_grad for parameter in detector.parameters()]
    method("eata", detector)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert [parameter.requires_grad for parameter in detector.parameters()] == trained
    assert not any(module.training for module in detector.modules())


def test_source_clips_without_people_are_said(detector):
    eata = create_adaptation("eata", feature_dim=detector.feature_dim, num_classes=C)
    with pytest.raises(InputError, match=r"'eata'.*source"):
        eata.prepare(detector, [batch((0, 0))], [])


def moves(detector, clips, **arguments):
    """How far each parameter is from where it began after each of three steps, and the Fisher information."""
    eata = method("eata", detector, similarity=1e3, **arguments)
    eata.start_test(detector)
    before = torch.nn.utils.parameters_to_vector(eata._chosen).detach().clone()
    found = []
    for _ in range(3):
        eata.predict(detector, clips)
        found.append(torch.nn.utils.parameters_to_vector(eata._chosen).detach() - before)
    eata.end_test(detector)
    return found, eata.fisher


def test_the_fisher_information_holds_weights_back(detector):
    """However large it is: the more a weight matters on the source, the less it moves."""
    clips = batch((2, 1), low=100)
    free, _ = moves(detector, clips, fisher_weight=0.0, margin=1.5)
    for weight in (10.0, 1e9):
        held, fisher = moves(detector, clips, fisher_weight=weight, margin=1.5)
        assert torch.isfinite(held[-1]).all()
        assert 0 < float((fisher * held[-1] ** 2).sum()) < float((fisher * free[-1] ** 2).sum())
    assert float(held[-1][fisher > 1e-3].abs().max()) < 1e-6


def test_the_pull_is_the_gradient_of_the_papers_penalty_for_small_steps(detector):
    """d/dw of weight · F (w - w0)², taken where the optimiser's step has led."""
    clips = batch((2, 1), low=100)
    lr, weight = 1e-6, 10.0
    (free, *_), fisher = moves(detector, clips, fisher_weight=0.0, margin=1.5, lr=lr)
    (held, *_), _ = moves(detector, clips, fisher_weight=weight, margin=1.5, lr=lr)
    expected = -lr * 2 * weight * fisher * free
    scale = float(expected.abs().max())
    small = 2 * lr * weight * fisher < 1e-2
    torch.testing.assert_close((held - free)[small], expected[small], atol=0.05 * scale + 1e-7, rtol=0.05)


def test_nobody_selected_changes_nothing(detector):
    eata = method("eata", detector, margin=0.0, lr=1.0)
    eata.start_test(detector)
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    eata.predict(detector, batch())
    assert all(torch.equal(old, new) for old, new in zip(before, detector.parameters(), strict=True))
    eata.end_test(detector)
