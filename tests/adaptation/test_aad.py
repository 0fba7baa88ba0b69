"""Attraction and dispersion, against the paper's softmax of two answers and against loops; the bank by identity."""

import numpy as np
import pytest
import torch

from microg_da.adaptation.aad import LEAST_RATE, PeopleBank, attraction_and_dispersion
from microg_da.adaptation.base import create_adaptation
from microg_da.config import TrainingConfig
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey, PersonKey

C = 4


def people(count, video="v"):
    return [PersonKey(ClipKey(video, 1), place) for place in range(count)]


def draws(count=5, neighbours=3, classes=C, seed=0):
    generator = torch.Generator().manual_seed(seed)
    answers = torch.rand(count, classes, generator=generator, dtype=torch.float64).requires_grad_()
    return answers, torch.rand(count, neighbours, classes, generator=generator, dtype=torch.float64)


def test_at_even_rates_both_terms_are_the_papers_for_two_answers():
    """Dot products of softmax answers, summed over neighbours and over the others of the batch, up to a constant."""
    answers, nearest = draws(classes=1)
    two, near = (torch.cat([x, 1 - x], dim=-1) for x in (answers, nearest))
    expected_attract = -(two[:, None] * near).sum(-1).sum(1).mean()
    outside = 1 - torch.eye(5, dtype=torch.float64)
    expected_disperse = ((two @ two.T) * outside).sum(1).mean()
    attract, disperse = attraction_and_dispersion(answers, nearest, torch.tensor([0.5], dtype=torch.float64))
    assert float(attract.detach()) == pytest.approx(float(expected_attract.detach()) + 3 / 2, rel=1e-9)
    assert float(disperse.detach()) == pytest.approx(float(expected_disperse.detach()) - 4 / 2, rel=1e-9)
    for ours, theirs in ((attract, expected_attract), (disperse, expected_disperse)):
        gradients = [torch.autograd.grad(loss, [answers], retain_graph=True)[0] for loss in (ours, theirs)]
        torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-9)


def test_values_are_those_of_loops_over_people_and_classes():
    answers, nearest = draws()
    rates = torch.tensor([0.3, 0.0, 0.9, 1e-5], dtype=torch.float64)
    p, q, r = answers.detach().numpy(), nearest.numpy(), rates.numpy()
    kept = [0, 2, 3]

    def agreement(a, b):
        return np.mean([(a[c] - r[c]) * (b[c] - r[c]) / (2 * max(r[c] * (1 - r[c]), LEAST_RATE)) for c in kept])

    attract, disperse = attraction_and_dispersion(answers, nearest, rates)
    assert float(attract.detach()) == pytest.approx(np.mean([-sum(agreement(p[i], x) for x in q[i]) for i in range(5)]))
    others = [sum(agreement(p[i], p[j]) for j in range(5) if j != i) for i in range(5)]
    assert float(disperse.detach()) == pytest.approx(np.mean(others))


def test_classes_that_nobody_is_expected_to_have_get_no_gradient():
    answers, nearest = draws()
    attract, disperse = attraction_and_dispersion(answers, nearest, torch.tensor([0.3, 0.0, 0.5, 0.0]))
    (gradient,) = torch.autograd.grad(attract + disperse, [answers])
    assert (gradient[:, [1, 3]] == 0).all()
    assert (gradient[:, [0, 2]] != 0).all()


def test_dispersion_rests_where_the_mean_answer_is_the_class_rate():
    """So it does not pull a rare class to one half."""
    answers = torch.tensor([[0.1], [0.3], [0.2]], requires_grad=True)
    for rate, sign in ((0.2, 0), (0.1, 1), (0.4, -1)):
        _, disperse = attraction_and_dispersion(answers, torch.zeros(3, 0, 1), torch.tensor([rate]))
        (gradient,) = torch.autograd.grad(disperse, [answers])
        assert np.sign(round(float(gradient.sum()), 6)) == sign


@pytest.mark.parametrize(("count", "rates"), [(0, [0.5] * C), (3, [0.0] * C), (1, [0.5] * C)])
def test_nobody_no_class_and_nobody_else(count, rates):
    answers, nearest = draws(count, neighbours=0)
    attract, disperse = attraction_and_dispersion(answers, nearest, torch.tensor(rates))
    (attract + disperse).backward()
    assert float(attract.detach()) == float(disperse.detach()) == 0
    assert torch.equal(answers.grad, torch.zeros_like(answers))


def test_the_bank_finds_people_by_identity():
    bank = PeopleBank(2, 1)
    everyone = people(3)
    bank.put(everyone, torch.tensor([[1.0, 0], [0, 2], [3, 0.1]]), torch.tensor([[0.1], [0.2], [0.3]]))
    rows = bank.put([everyone[2], *people(1, "other")], torch.tensor([[0.0, 5], [1, 1]]), torch.tensor([[0.9], [0.5]]))
    assert rows.tolist() == [2, 3]
    assert bank.answers.flatten().tolist() == pytest.approx([0.1, 0.2, 0.9, 0.5])
    assert bank.features[2].tolist() == [0, 1]
    assert bank.neighbours(rows[:1], 1).flatten().tolist() == pytest.approx([0.2])  # now beside the second
    assert bank.neighbours(rows[:1], 9).shape == (1, 3, 1)


def test_neighbours_are_those_of_sklearn():
    from sklearn.neighbors import NearestNeighbors

    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    bank = PeopleBank(6, 1)
    rows = bank.put(people(20), features, torch.arange(20.0)[:, None])
    index = NearestNeighbors(metric="cosine").fit(features.numpy())
    expected = index.kneighbors(n_neighbors=4, return_distance=False)  # leaves each point itself out
    assert np.array_equal(bank.neighbours(rows, 4)[..., 0].numpy(), expected)


def test_a_bank_of_nobody_has_no_neighbours():
    bank = PeopleBank(6, C)
    rows = bank.put([], torch.zeros(0, 6), torch.zeros(0, C))
    assert bank.neighbours(rows, 5).shape == (0, 0, C)


def clips(seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number, count in enumerate((2, 1, 0)):
        frames = torch.randint(0, 256, (3, 4, 32, 32), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[2.0, 2, 30, 28]]).repeat(count, 1)
        made.append(Clip(frames, boxes, boxes / 32, ClipKey(f"v{number}", 1)))
    return collate_clips(made, "target")


def test_a_stage_is_taken_up_with_its_bank_and_forgets_it_in_the_end():
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0, width=[4, 4, 4, 4]).eval()
    method, resumed = (create_adaptation("aad", feature_dim=detector.feature_dim, num_classes=C) for _ in range(2))
    method.before_training(detector, [], [clips()])
    found = torch.sigmoid(detector(clips().frames, clips().boxes, clips().clip_index).logits.detach())
    torch.testing.assert_close(method.rates, found.mean(0))
    losses = method.step_losses(detector.train(), None, clips(1), 0.5)
    assert set(losses) == {"attract", "disperse"}
    resumed.before_training(detector.eval(), [], [clips()])
    resumed.load_state_dict(method.state_dict())
    assert torch.equal(resumed.bank.answers, method.bank.answers)
    assert not torch.allclose(resumed.bank.answers, found)
    assert resumed.bank._rows == method.bank._rows
    method.after_training(detector)
    assert len(method.bank) == 0


def test_attraction_gathers_and_dispersion_fades():
    method = create_adaptation("aad", {"beta": 2.0, "neighbours": 1}, feature_dim=3, num_classes=C)
    assert pytest.approx(1 / 36) == (1 + 10 * 0.5) ** -2
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0, width=[4, 4, 4, 4]).eval()
    method = create_adaptation("aad", {"beta": 2.0}, feature_dim=detector.feature_dim, num_classes=C)
    method.before_training(detector, [], [clips()])
    late, early = (float(method.step_losses(detector, None, clips(), at)["disperse"].detach()) for at in (0.5, 0.0))
    assert late == pytest.approx(early / 36, rel=1e-4)


def test_at_least_one_neighbour_is_asked_for():
    with pytest.raises(InputError, match="neighbours"):
        create_adaptation("aad", {"neighbours": 0}, feature_dim=3, num_classes=C)


def test_the_optimiser_is_the_authors_so_that_the_weight_of_the_only_loss_counts():
    training = TrainingConfig(epochs=4, lr=4e-3, warmup_epochs=1.0)
    stage = create_adaptation("aad", feature_dim=3, num_classes=C).stage_training(training)
    assert (stage.optimizer, stage.lr, stage.momentum, stage.weight_decay) == ("sgd", 1e-4, 0.9, 1e-3)
    assert stage.warmup_epochs == pytest.approx(0.4)
    own = create_adaptation("aad", {"lr": None}, feature_dim=3, num_classes=C).stage_training(training)
    assert own.lr == 4e-3
