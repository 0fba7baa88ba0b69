"""Classes that the source gives no mass take no part: 50 classes of which 36 never occur, and long tails."""

import copy

import pytest
import torch

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import Task, TestTimeMethod, TrainingMethod, create_adaptation, methods_of
from microg_da.adaptation.losses import multilabel_bce
from microg_da.adaptation.support import support_of_predictions, support_of_rates
from microg_da.data.batches import collate_clips
from microg_da.models import create_detector
from microg_da.types import Clip, ClipKey
from microg_da.validation import VALIDATORS
from microg_da.validation.observations import Observations, Observed

C, OCCURRING = 50, 14
ABSENT = torch.arange(C) % 4 != 0
ABSENT[torch.arange(C)[~ABSENT][OCCURRING:]] = True  # 1 in 4 gives 13 classes: one more, below
ABSENT[1] = False
RATES = torch.where(ABSENT, 0.0, 0.15)
TRAINED = [name for name in methods_of(TrainingMethod) if ADAPTATIONS.load(name).has_epochs]


@pytest.fixture(scope="module")
def detector():
    """A detector that has learnt that the absent classes are rare, and nothing else."""
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=C, dropout=0.0, width=[8, 8, 8, 8])
    torch.nn.init.normal_(detector.head.projection.weight, std=0.05)
    detector.head.projection.bias.data = torch.where(ABSENT, -8.0, -1.0)
    return detector


def clips(people, domain):
    made = []
    for index, count in enumerate(people):
        generator = torch.Generator().manual_seed(index)
        box = torch.tensor([[4.0, 4, 40, 44]]).repeat(count, 1)
        frames = torch.randint(0, 256, (3, 4, 48, 48), dtype=torch.uint8, generator=generator)
        clip = Clip(frames, box, box / 48, ClipKey(f"{domain}_{index}", 1))
        labels = (torch.rand(count, C, generator=generator) < RATES).float()
        made.append(clip.with_labels(labels) if domain == "source" else clip)
    return collate_clips(made, domain)


def test_there_are_as_many_classes_as_this_file_says():
    assert int((~ABSENT).sum()) == OCCURRING


@pytest.mark.parametrize("name", [name for name in TRAINED if not ADAPTATIONS.load(name).uses_target_labels])
def test_no_loss_but_the_supervised_one_moves_a_class_that_never_occurs(detector, name):
    detector = copy.deepcopy(detector)
    uses_source = ADAPTATIONS.load(name).uses_source
    rates = RATES.tolist() if uses_source else None
    few = {"steps": 10, "target_steps": 5} if name == "gravity_self_training" else {}
    method = create_adaptation(name, few, feature_dim=detector.feature_dim, num_classes=C, class_rates=rates)
    source, target = clips((3, 2, 2, 1), "source"), clips((2, 3, 1, 2), "target")
    with method.rehearsing():
        method.before_training(detector.eval(), [source], [target])
    assert torch.equal(method.support, ~ABSENT)
    method.before_epoch(detector.eval(), [target], 0)
    seen = []
    detector.head.projection.register_forward_hook(lambda *hooked: seen.append(hooked[2]))
    losses = method.step_losses(detector.train(), source if uses_source else None, target, 0.5)
    losses.pop("supervised", None)
    if not losses:
        assert name == "source_finetune"
        return
    logits = [output for output in seen if output.requires_grad]
    gradients = torch.autograd.grad(sum(losses.values()), logits, allow_unused=True)
    for gradient in (gradient for gradient in gradients if gradient is not None):
        assert not gradient[..., ABSENT].any()


@pytest.mark.parametrize("name", ["tent", "sar", "vitta"])
def test_what_learns_at_test_time_leaves_them_out_and_keeps_that_with_its_state(detector, name):
    method, other = (create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C) for _ in range(2))
    method.prepare(copy.deepcopy(detector).eval(), [clips((2, 1), "source")], [clips((2, 3), "target")])
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.support, ~ABSENT)
    # A file of a version that knew no support has every class.
    old = {key: value for key, value in method.state_dict().items() if key != "support"}
    other.load_state_dict(old)
    assert other.support.all()


def test_tent_is_the_same_whatever_is_said_of_absent_classes(detector):
    """Two detectors that differ in what they say of absent classes make the same step of all shared weights."""
    steps = []
    for shift in (0.0, 3.0):
        mine = copy.deepcopy(detector).eval()
        method = create_adaptation("tent", {"lr": 0.1}, feature_dim=mine.feature_dim, num_classes=C)
        method.prepare(mine, [], [clips((2, 3), "target")])
        mine.head.projection.bias.data[ABSENT] += shift
        method.start_test(mine)
        with torch.no_grad():
            method.predict(mine, clips((2, 3), "target"))
            steps.append(method.predict(mine, clips((2, 3), "target")).logits[:, ~ABSENT])
        method.end_test(mine)
    assert torch.equal(*steps)


def observed(shift=0.0, support=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(30, width, generator=generator) for width in (C, 8, C, 8)]
    mixed, classifier = torch.randn(20, 3, C, generator=generator), torch.randn(C, 8, generator=generator)
    for answers in (*values[::2], mixed):
        answers[..., ABSENT] += shift
    classifier[ABSENT] += shift
    return Observed(0.5, *values, support=~ABSENT if support else None, classifier=classifier, mixed=mixed)


@pytest.mark.parametrize("name", list(VALIDATORS))
def test_validators_say_of_fifty_classes_what_they_say_of_the_fourteen(name):
    score = VALIDATORS.load(name)
    found = score(observed())
    assert score(observed(shift=5.0)) == found
    every = observed(support=False)
    alone = Observed(
        0.5, every.source_logits[:, ~ABSENT], every.source_features, every.target_logits[:, ~ABSENT],
        every.target_features, classifier=every.classifier[~ABSENT], mixed=every.mixed[..., ~ABSENT],
    )  # fmt: skip
    assert score(alone) == pytest.approx(found, rel=1e-6)


def test_observations_take_the_support_from_the_rates_of_labels():
    assert torch.equal(Observations(C, 8, RATES.tolist()).observed().support, ~ABSENT)
    assert Observations(C, 8).observed().support.all()


def test_rates_of_nobody_and_unknown_ones_leave_every_class():
    assert support_of_rates(None, 3) == (True,) * 3
    assert support_of_rates([0.0, 0.0, 0.0], 3) == (True,) * 3
    assert support_of_rates([float("nan")] * 3, 3) == (True,) * 3
    assert support_of_rates([0.0, 1e-9, 0.5], 3) == (False, True, True)
    assert Task(4, 2, (0, 0), (0.0, 0.1)).support == (False, True)


def test_a_model_without_people_to_look_at_leaves_every_class():
    assert support_of_predictions(torch.zeros(0, 4)).all()


def long_tail(people=800, seed=0):
    """What a fair model says of 14 classes whose rates fall from 0.4 to 0.004, and of 36 that it never met."""
    generator = torch.Generator().manual_seed(seed)
    rates = 0.4 * 100.0 ** (-torch.arange(OCCURRING) / (OCCURRING - 1))
    labels = torch.rand(people, OCCURRING, generator=generator) < rates
    evidence = torch.where(labels, 4.0, -4.0) + 1.5 * torch.randn(people, OCCURRING, generator=generator)
    probabilities = torch.full((people, C), 0.0).normal_(generator=generator).sub(6.5).sigmoid()
    probabilities[:, ~ABSENT] = torch.sigmoid(evidence + torch.logit(rates) / 2)
    return probabilities


@pytest.mark.parametrize("seed", range(5))
def test_a_long_tail_is_kept_and_absent_classes_are_not(seed):
    assert torch.equal(support_of_predictions(long_tail(seed=seed)), ~ABSENT)


def test_a_support_does_not_change_how_much_a_pseudo_label_weighs():
    logits, labels = torch.randn(6, C), torch.rand(6, C)
    entries = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    expected = entries[:, ~ABSENT].sum() / entries.numel()
    torch.testing.assert_close(multilabel_bce(logits, labels, ~ABSENT), expected)
    assert multilabel_bce(logits[:0], labels[:0], ~ABSENT) == 0


def test_every_method_that_learns_has_a_support(detector):
    for name in (*TRAINED, *methods_of(TestTimeMethod)):
        method = create_adaptation(name, feature_dim=8, num_classes=C, class_rates=RATES.tolist())
        assert torch.equal(method.support, ~ABSENT)
        assert method.supported(torch.zeros(3, C)).shape == (3, OCCURRING)
