"""Learning rates, against the benchmark's own numbers."""

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR, MultiStepLR

from microg_da.config import TrainingConfig
from microg_da.training.schedules import learning_rate

PUBLISHED = TrainingConfig(
    epochs=60,
    lr=0.1,
    schedule="steps",
    step_epochs=[0, 20, 30, 40, 50],
    relative_lrs=[1, 0.1, 0.01, 0.001, 0.0001],
    warmup_epochs=5,
    warmup_start=1.25e-3,
)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1.25e-4),
        (2.5, (1.25e-4 + 0.1) / 2),
        (5, 0.1),
        (19.99, 0.1),
        (20, 0.01),
        (35, 0.001),
        (40, 1e-4),
        (59.9, 1e-5),
    ],
)
def test_the_published_schedule(epoch, expected):
    assert learning_rate(PUBLISHED, epoch) == pytest.approx(expected, rel=1e-6)


def test_the_published_schedule_is_torchs():
    """A linear warm-up times steps, made of torch's schedulers, at every step of an epoch of seven."""
    per_epoch = 7
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PUBLISHED.lr)
    schedule = ChainedScheduler(
        [
            LinearLR(optimizer, PUBLISHED.warmup_start, total_iters=5 * per_epoch),
            MultiStepLR(optimizer, [epoch * per_epoch for epoch in (20, 30, 40, 50)], gamma=0.1),
        ]
    )
    for step in range(60 * per_epoch):
        assert learning_rate(PUBLISHED, step / per_epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        schedule.step()


def test_cosine_starts_at_the_top_and_ends_at_nothing():
    config = TrainingConfig(epochs=10, lr=0.2, schedule="cosine", warmup_epochs=0)
    assert learning_rate(config, 0) == pytest.approx(0.2)
    assert learning_rate(config, 5) == pytest.approx(0.1)
    assert learning_rate(config, 10) == pytest.approx(0, abs=1e-12)
    assert learning_rate(config, 11) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "steps", "constant"])
def test_the_warm_up_joins_the_schedule_without_a_jump(schedule):
    config = TrainingConfig(epochs=10, lr=0.2, schedule=schedule, warmup_epochs=2)
    assert learning_rate(config, 2 - 1e-9) == pytest.approx(learning_rate(config, 2), rel=1e-6)
    assert learning_rate(config, 0) == pytest.approx(0.2 * config.warmup_start)


def test_cycles_run_through_the_whole_schedule_again():
    once = TrainingConfig(epochs=4, lr=0.2, warmup_epochs=1)
    thrice = TrainingConfig(epochs=12, lr=0.2, warmup_epochs=1, cycles=3)
    for epoch in (0, 0.5, 1, 2.25, 3.99):
        for cycle in range(3):
            assert learning_rate(thrice, epoch + 4 * cycle) == pytest.approx(learning_rate(once, epoch))
    assert learning_rate(thrice, 12) == pytest.approx(0, abs=1e-12)
