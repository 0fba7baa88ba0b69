"""Who is kept in a queue, and what alignment with a queue compares."""

import numpy as np
import pytest
import torch

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.feature_queue import FeatureQueue, unit_scale
from microg_da.errors import InputError
from microg_da.types import Prediction

D = 4


@pytest.mark.parametrize("counts", [[3, 2, 4, 0, 1], [9], [0], [5, 5, 5]])
def test_the_people_met_last_are_kept_in_order(counts):
    queue, met = FeatureQueue(6, D), torch.zeros(0, D)
    for seed, count in enumerate(counts):
        features = torch.randn(count, D, generator=torch.Generator().manual_seed(seed))
        everyone = queue.extend(features)
        assert torch.equal(everyone, torch.cat([features, met[:6]]))
        met = torch.cat([features, met])
    assert torch.equal(queue.kept[: int(queue.count)], met[:6])


def test_only_people_of_the_step_carry_a_gradient():
    queue = FeatureQueue(6, D)
    queue.extend(torch.randn(3, D, requires_grad=True))
    features = torch.randn(2, D, requires_grad=True)
    (gradient,) = torch.autograd.grad(queue.extend(features).sum(), features)
    assert torch.equal(gradient, torch.ones(2, D))
    assert not queue.kept.requires_grad


def test_a_queue_of_nobody_keeps_nobody():
    queue = FeatureQueue(0, D)
    assert len(queue.extend(torch.randn(3, D))) == len(queue.extend(torch.randn(3, D))) == 3


def test_features_of_unit_scale_do_not_depend_on_their_length():
    features = torch.randn(5, D)
    torch.testing.assert_close(unit_scale(7 * features), unit_scale(features))
    np.testing.assert_allclose(unit_scale(features).square().mean(dim=1), np.ones(5), rtol=1e-5)
    assert torch.equal(unit_scale(torch.zeros(1, D)), torch.zeros(1, D))


def steps(name, people=3, count=4, **arguments):
    method = create_adaptation(name, arguments, feature_dim=D, num_classes=2)
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(count):
        features = [torch.randn(people, D, generator=generator) for _ in range(2)]
        predictions = [Prediction(torch.zeros(people, 2), x) for x in features]
        values.append(float(method.losses(*predictions, torch.zeros(people, 2), 0.5)[name]))
    return method, values


def test_coral_waits_until_there_are_as_many_people_as_dimensions():
    _, values = steps("coral", people=2)
    assert values[0] == 0
    assert all(value > 0 for value in values[1:])


@pytest.mark.parametrize("name", ["coral", "mmd"])
def test_with_a_queue_the_distance_of_equal_domains_has_less_noise(name):
    spread = {}
    for queue in (0, 256):
        _, values = steps(name, people=8, count=60, queue=queue)
        spread[queue] = np.mean(np.abs(values[30:]))
    assert spread[256] < 0.35 * spread[0]


@pytest.mark.parametrize("name", ["coral", "mmd"])
def test_the_queue_is_part_of_a_checkpoint_and_not_of_the_finished_method(name):
    method, _ = steps(name)
    other = create_adaptation(name, feature_dim=D, num_classes=2)
    other.load_state_dict(method.state_dict())
    predictions = [Prediction(torch.zeros(3, 2), torch.randn(3, D)) for _ in range(2)]
    first, second = (each.losses(*predictions, torch.zeros(3, 2), 0.5)[name] for each in (method, other))
    assert torch.equal(first, second)
    method.after_training(None)
    assert int(method.queues.source.count) == int(method.queues.target.count) == 0


@pytest.mark.parametrize("name", ["coral", "mmd"])
def test_a_negative_length_is_refused(name):
    with pytest.raises(InputError, match=r"adaptation\.args\.queue=-1"):
        create_adaptation(name, {"queue": -1}, feature_dim=D, num_classes=2)
