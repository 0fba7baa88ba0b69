"""Information maximisation at unchanged class rates, and what all methods without source clips do to the detector."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr
from scipy.stats import bernoulli, entropy
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.prototypes import prototype_labels
from microg_da.adaptation.source_free import bernoulli_divergence, mean_or_zero, predict_all
from microg_da.config import TrainingConfig
from microg_da.data.batches import collate_clips
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey, Prediction

D, C = 6, 4

LABELS = {"pseudo_label_weight": 0.3}


def shot(**arguments):
    return create_adaptation("shot", arguments, feature_dim=D, num_classes=C)


@pytest.fixture
def survey():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(50, D, generator=generator), torch.randn(50, C, generator=generator) - 1


def test_divergence_equals_scipys():
    p, q = torch.rand(5, C), torch.rand(5, C)
    expected = rel_entr(p.numpy(), q.numpy()) + rel_entr(1 - p.numpy(), 1 - q.numpy())
    np.testing.assert_allclose(bernoulli_divergence(p, q), expected, rtol=1e-4, atol=1e-6)


def test_divergence_gradient_is_the_formula():
    p, q = torch.rand(C), torch.rand(C, requires_grad=True)
    bernoulli_divergence(p, q).sum().backward()
    torch.testing.assert_close(q.grad, ((q - p) / (q * (1 - q))).detach(), rtol=1e-4, atol=1e-5)


def test_divergence_is_never_negative_and_finite_at_the_ends():
    ends = torch.tensor([0.0, 0.3, 1.0])
    values = bernoulli_divergence(*torch.meshgrid(ends, ends, indexing="ij"))
    assert torch.isfinite(values).all()
    assert (values >= -1e-6).all()
    assert values.diagonal().abs().max() < 1e-6


def test_mean_of_nothing():
    nothing = torch.zeros(0, 2, requires_grad=True)
    mean_or_zero(nothing).backward()
    assert nothing.grad.shape == (0, 2)


def test_losses_equal_an_independent_computation(survey):
    features, logits = survey
    method = shot(entropy_weight=0.7, prior_weight=1.3, pseudo_label_weight=0.4, memory=0.9)
    method.start(features, torch.sigmoid(logits))
    batch = Prediction(logits[:6] + 1, features[:6])
    labels = (torch.rand(6, C, generator=torch.Generator().manual_seed(2)) < 0.4).float()
    losses = method.labelled_losses(batch, labels, 0.5)

    p, before = expit(batch.logits.numpy().astype(float)), expit(logits.numpy().astype(float)).mean(axis=0)
    after = 0.9 * before + 0.1 * p.mean(axis=0)
    labels = labels.numpy()
    divergence = [entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(before, after, strict=True)]
    assert float(losses["entropy"]) == pytest.approx(0.7 * bernoulli(p).entropy().mean(), rel=1e-4)
    assert float(losses["prior"]) == pytest.approx(1.3 * np.mean(divergence), rel=1e-3)
    assert float(losses["pseudo_label"]) == pytest.approx(0.4 * log_loss(labels.ravel(), p.ravel()), rel=1e-4)


def test_gradients_equal_explicit_ones(survey):
    features, logits = survey
    method = shot(memory=0.9, **LABELS)
    method.start(features, torch.sigmoid(logits))
    rate = method.prototypes.rate.clone()
    labels = (torch.rand(6, C, generator=torch.Generator().manual_seed(2)) < 0.4).float()
    z = (logits[:6] + 1).requires_grad_()
    sum(method.labelled_losses(Prediction(z, features[:6]), labels, 0.5).values()).backward()

    p = torch.sigmoid(z.detach())
    slope = p * (1 - p) / p.numel()
    after = 0.9 * rate + 0.1 * p.mean(dim=0)
    expected = -z.detach() * slope + (after - rate) / (after * (1 - after)) * slope + 0.3 * (p - labels) / p.numel()
    torch.testing.assert_close(z.grad, expected, rtol=1e-3, atol=1e-6)


def test_rates_are_held_where_entropy_alone_lets_rare_classes_die(survey):
    """Free logits under the losses: without the prior every rare class vanishes, with it the rates stay."""
    features, _ = survey
    start = torch.randn(50, C, generator=torch.Generator().manual_seed(3)) - 2
    rates = {}
    for weight in (0.0, 10.0):
        method = shot(prior_weight=weight, pseudo_label_weight=0.0, memory=0.0)
        method.start(features, torch.sigmoid(start))
        logits = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.1)
        for _ in range(150):
            optimizer.zero_grad()
            sum(method.labelled_losses(Prediction(logits, features), None, 0.5).values()).backward()
            optimizer.step()
        rates[weight] = torch.sigmoid(logits.detach()).mean(dim=0) / method.prototypes.rate
    assert rates[0.0].max() < 0.5
    assert rates[10.0].min() > 0.7
    assert rates[10.0].max() < 1.3


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0).eval()


def clips(people):
    generator = torch.Generator().manual_seed(sum(people))
    boxes = torch.tensor([[4.0, 4, 40, 44]])
    return collate_clips(
        [
            Clip(
                torch.randint(0, 256, (3, 8, 48, 48), dtype=torch.uint8, generator=generator),
                boxes.repeat(count, 1),
                boxes.repeat(count, 1) / 48,
                ClipKey(f"v_{index}", 1),
            )
            for index, count in enumerate(people)
        ]
    )


def test_everybody_is_predicted_once(detector):
    both = predict_all(detector, [clips((2, 0)), clips((0,)), clips((1,))])
    torch.testing.assert_close(both.logits[:2], detector(*inputs(clips((2, 0)))).logits)
    torch.testing.assert_close(both.features[2:], detector(*inputs(clips((1,)))).features)


def inputs(batch):
    return batch.frames, batch.boxes, batch.clip_index


@pytest.mark.parametrize("name", ["shot", "atcon", "prototype_calibration"])
def test_the_classifier_is_frozen_during_training_only(detector, name):
    detector = copy.deepcopy(detector)
    method = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)
    source = iter(())
    method.before_training(detector, source, [clips((2, 1))])
    method.before_epoch(detector, [clips((2, 1))], 0)
    classifier = list(detector.head.projection.parameters())
    assert not any(parameter.requires_grad for parameter in classifier)
    losses = method.step_losses(detector.train(), None, clips((2, 1)), 0.5)
    sum(losses.values()).backward()
    assert all((p.grad is None) != p.requires_grad for p in detector.parameters())
    method.after_training(detector)
    assert all(parameter.requires_grad for parameter in classifier)


@pytest.mark.parametrize("name", ["shot", "atcon", "prototype_calibration"])
def test_a_target_without_people_has_the_classifiers_own_rates(detector, name):
    detector = copy.deepcopy(detector)
    method = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)
    method.before_training(detector, [], [])
    torch.testing.assert_close(method.prototypes.rate, torch.sigmoid(detector.head.projection.bias.detach()))
    method.before_epoch(detector, [], 0)
    losses = method.step_losses(detector, None, clips((0,)), 0.5)
    assert all(loss == 0 for loss in losses.values())


@pytest.mark.parametrize("name", ["shot", "atcon", "prototype_calibration"])
def test_what_was_learnt_of_the_target_is_kept(detector, name):
    detector = copy.deepcopy(detector)
    method, other = (create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C) for _ in range(2))
    method.before_training(detector, [], [clips((2, 1)), clips((1,))])
    method.before_epoch(detector, [clips((1, 1))], 0)
    other.load_state_dict(method.state_dict())
    batch = clips((1, 1))
    first, second = (Predictor(detector, each.companion)(batch) for each in (method, other))
    torch.testing.assert_close(first.logits, second.logits)
    torch.testing.assert_close(
        method.step_losses(detector, None, batch, 0.5), other.step_losses(detector, None, batch, 0.5)
    )


def labels_by_sklearn(features, probabilities, rates):
    """The two rounds of section 3.3 of the paper for each class by itself, at an exact share of people."""
    weights = probabilities.numpy().astype(float)
    features = features - features.mean(dim=0)
    for _ in range(2):
        labels = np.zeros_like(weights)
        for column, rate in enumerate(rates.tolist()):
            w = weights[:, column]
            centres = np.stack([w @ features.numpy() / w.sum(), (1 - w) @ features.numpy() / (1 - w).sum()])
            margin = np.subtract(*cosine_similarity(centres, features.numpy()))
            labels[np.argsort(-margin)[: round(rate * len(w))], column] = 1
        weights = labels
    return labels


def test_pseudo_labels_are_those_of_the_nearest_prototypes(survey):
    features, logits = survey
    probabilities = torch.sigmoid(logits)
    rates = torch.tensor([0.1, 0.3, 0.5, 0.02])
    found = prototype_labels(features, probabilities, rates)
    np.testing.assert_array_equal(found, labels_by_sklearn(features, probabilities, rates))


@pytest.mark.parametrize("people", [0, 1, 40])
def test_exactly_the_share_of_the_prior_gets_a_label_and_a_class_of_rate_zero_goes_to_nobody(people):
    generator = torch.Generator().manual_seed(0)
    rates = torch.tensor([0.0, 0.25, 1.0])
    labels = prototype_labels(
        torch.rand(people, D, generator=generator), torch.rand(people, 3, generator=generator), rates
    )
    assert labels.sum(dim=0).tolist() == (rates * people).round().tolist()


def test_labels_do_not_run_away_over_epochs(detector):
    """However often people are labelled by a detector that has drifted, the number of labels is the source model's."""
    detector = copy.deepcopy(detector)
    method = create_adaptation("shot", LABELS, feature_dim=detector.feature_dim, num_classes=C)
    target = [clips((3, 2, 4)), clips((1, 2))]
    method.before_training(detector, [], target)
    counts = []
    for epoch in range(3):
        method.before_epoch(detector, target, epoch)
        counts.append(torch.cat([method.labels_of(batch) for batch in target]).sum(dim=0).tolist())
        detector.head.projection.bias.data += 2
    assert counts[0] == counts[1] == counts[2]


def test_labels_of_an_epoch_are_kept_by_identity_and_with_the_state(detector):
    detector = copy.deepcopy(detector)
    method, other = (
        create_adaptation("shot", LABELS, feature_dim=detector.feature_dim, num_classes=C) for _ in range(2)
    )
    target = clips((3, 2, 4))
    method.before_training(detector, [], [target])
    method.before_epoch(detector, [target], 0)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.labels_of(target), method.labels_of(target))
    assert torch.equal(method.labels_of(target.take_people(torch.tensor([5, 0]))), method.labels_of(target)[[5, 0]])
    method.after_training(detector)
    assert not len(method._round)


def test_without_a_weight_nobody_is_labelled_and_no_clip_is_read(detector):
    method = create_adaptation("shot", {"pseudo_label_weight": 0.0}, feature_dim=detector.feature_dim, num_classes=C)
    method.before_epoch(detector, iter(()), 0)
    assert set(method.step_losses(detector, None, clips((1,)), 0.5)) == {"entropy", "prior"}


@pytest.mark.parametrize(("lr", "expected"), [(1e-3, 1e-3), (None, 4e-3)])
def test_the_stage_has_an_optimiser_of_its_own(lr, expected):
    stage = shot(lr=lr).stage_training(TrainingConfig(epochs=4, lr=4e-3, warmup_epochs=1.0, optimizer="adamw"))
    assert (stage.optimizer, stage.lr, stage.momentum) == ("sgd", expected, 0.9)
    assert stage.warmup_epochs == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("shot", "memory", 1.0),
        ("shot", "memory", -0.1),
        ("atcon", "slices", 0),
        ("prototype_calibration", "temperature", 0.0),
    ],
)
def test_impossible_arguments_are_named(name, argument, value):
    with pytest.raises(InputError, match=f"adaptation.args.{argument}"):
        create_adaptation(name, {argument: value}, feature_dim=D, num_classes=C)
