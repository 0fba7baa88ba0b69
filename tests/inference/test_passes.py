"""One pass over clips: device, precision and folding are those of the configuration, whoever makes the pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from microg_da.adaptation import predictor as predictor_module
from microg_da.adaptation.base import NoArguments, Task, TestTimeMethod
from microg_da.adaptation.predictor import Predictor
from microg_da.config import Config, TrainerConfig, load_config
from microg_da.data.batches import collate_clips
from microg_da.data.datamodule import DomainDatasets
from microg_da.errors import InputError
from microg_da.inference.passes import run_pass
from microg_da.inference.roll_response import measure_roll_response
from microg_da.inference.scoring import score_detector, validate_detector
from microg_da.inference.sinks import ProbabilitySink
from microg_da.inference.trainer import make_trainer, on_device, one_process, resolve_device
from microg_da.models import create_detector
from microg_da.models.detector import ActionDetector
from microg_da.taxonomy import get_taxonomy
from microg_da.types import Clip, ClipBatch, ClipKey, Prediction
from microg_da.video.action_scorer import ActionScorer, Window

TINY = [
    *("adaptation=source_only", "data.image_size=32", "model.num_frames=2", "synthetic.train_clips=4"),
    *("synthetic.val_clips=4", "synthetic.test_clips=4", "synthetic.workers=0", "trainer.accelerator=cpu"),
]


def new_config(**trainer: str) -> Config:
    config = load_config("ava2microg", TINY)
    return replace(config, trainer=replace(config.trainer, **trainer))


def new_detector(config: Config) -> ActionDetector:
    torch.manual_seed(0)
    detector = create_detector(config.model.name, num_classes=50)
    nn.init.normal_(detector.head.projection.weight)
    return detector.eval()


class Probe(nn.Module):
    """Notes the type in which a convolution computes, and predicts nothing."""

    feature_dim, num_classes = 1, 50

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.head = nn.Module()
        self.head.projection = nn.Linear(1, 50)
        self.types: set[torch.dtype] = set()

    def forward(self, frames: torch.Tensor, boxes: torch.Tensor, clip_index: torch.Tensor) -> Prediction:
        self.types.add(self.layer(frames.new_zeros(1, 1, dtype=torch.float32)).dtype)
        return Prediction(boxes.new_zeros(len(boxes), 50), boxes.new_zeros(len(boxes), 1))


def score(config: Config, predictor: Predictor, folder: Path) -> None:
    score_detector(predictor, DomainDatasets(config), "target")


def validate(config: Config, predictor: Predictor, folder: Path) -> None:
    validate_detector(predictor, DomainDatasets(config))


def roll(config: Config, predictor: Predictor, folder: Path) -> None:
    measure_roll_response(predictor, config, [0.0, 90.0], folder / "roll.json")


def predict(config: Config, predictor: Predictor, folder: Path) -> None:
    scorer = ActionScorer(predictor, get_taxonomy("microg50"), 2, 2, 32, "probe", hardware=config.trainer)
    frames, boxes = np.zeros((2, 32, 32, 3), np.uint8), np.array([[0.1, 0.1, 0.9, 0.9]])
    assert scorer.score([Window(frames, boxes, ClipKey("v", 1))]).probabilities.shape == (1, 50)


@pytest.mark.parametrize("make", [score, validate, roll, predict])
@pytest.mark.parametrize(("precision", "expected"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_precision_is_that_of_the_configuration(tmp_path, make, precision, expected):
    probe = Probe()
    make(new_config(precision=precision), Predictor(probe), tmp_path)
    assert probe.types == {expected}


def test_a_roll_response_is_measured_with_the_folded_network(tmp_path, monkeypatch):
    config = new_config()
    predictor = Predictor(new_detector(config))
    plain, _ = measure_roll_response(predictor, config, [0.0, 90.0], tmp_path / "plain.json")
    folded, fold = [], predictor_module.fold_batch_norm
    monkeypatch.setattr(predictor_module, "fold_batch_norm", lambda *args: folded.append(fold(*args)) or folded[-1])
    tested, test = [], Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", lambda self, batch: tested.append(self.detector) or test(self, batch))
    config = replace(config, evaluation=replace(config.evaluation, fold_batch_norm=True))
    found, _ = measure_roll_response(predictor, config, [0.0, 90.0], tmp_path / "folded.json")
    assert len(folded) == 1
    assert len(tested) >= 2
    assert all(detector is folded[0] for detector in tested)
    np.testing.assert_allclose(found.curves["all"], plain.curves["all"], atol=1e-3)


def test_angles_of_two_precisions_are_not_mixed(tmp_path):
    predictor = Predictor(Probe())
    measure_roll_response(predictor, new_config(), [0.0], tmp_path / "roll.json")
    with pytest.raises(InputError, match="precision"):
        measure_roll_response(predictor, new_config(precision="bf16-mixed"), [0.0], tmp_path / "roll.json")


def test_scoring_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = new_config()
    metrics = score_detector(Predictor(new_detector(config)), DomainDatasets(config), "source")
    assert len(metrics.detections())
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------ devices


def test_a_device_is_known_without_a_trainer(monkeypatch):
    for hardware in (TrainerConfig(accelerator="cpu"), TrainerConfig()):
        expected = make_trainer(hardware).strategy.root_device
        with monkeypatch.context() as patch:
            patch.setattr(pl, "Trainer", None)
            assert resolve_device(hardware) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("function", [resolve_device, make_trainer])
def test_a_device_that_is_not_there_is_refused(function):
    with pytest.raises(InputError, match="trainer"):
        function(TrainerConfig(accelerator="gpu", devices=1))


@pytest.mark.parametrize(
    ("devices", "first"), [("auto", 1), (4, 1), (-1, 1), ("3", 1), ([2, 3], [2]), ("2,3", [2]), ("2,", [2])]
)
def test_one_process_has_the_first_device(devices, first):
    several = TrainerConfig(devices=devices, num_nodes=2, strategy="ddp", precision="16-mixed")
    assert one_process(several) == TrainerConfig(devices=first, precision="16-mixed")


def test_a_device_by_name():
    hardware = TrainerConfig(accelerator="gpu", devices=[3], precision="bf16-mixed")
    assert on_device(hardware, "auto") == hardware
    assert on_device(hardware, "cpu") == replace(hardware, accelerator="cpu", devices=1)
    assert on_device(hardware, "cuda:1") == replace(hardware, accelerator="cuda", devices=[1])
    with pytest.raises(InputError, match="abacus"):
        on_device(hardware, "abacus")


# ------------------------------------------------------------------------------------------------------------- passes


def batch(level: int) -> ClipBatch:
    boxes = torch.tensor([[1.0, 1, 7, 7]])
    frames = torch.full((3, 2, 8, 8), level, dtype=torch.uint8)
    return collate_clips([Clip(frames, boxes, boxes / 8, ClipKey(f"clip_{level}", 1))], domain="target")


class Level(Probe):
    """The logit of every class is the level of the frames."""

    def forward(self, frames: torch.Tensor, boxes: torch.Tensor, clip_index: torch.Tensor) -> Prediction:
        level = frames.float().mean(dim=(1, 2, 3, 4))[clip_index, None]
        return Prediction(level.expand(-1, 50), level)


class Told(TestTimeMethod):
    """Notes what it is asked for, and whether gradients are possible."""

    def __init__(self) -> None:
        super().__init__(NoArguments(), Task(feature_dim=1, num_classes=50, class_groups=(0,) * 50))
        self.calls: list[str] = []

    def start_test(self, detector: ActionDetector) -> None:
        self.calls.append("start")

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        with torch.enable_grad():
            prediction = super().predict(detector, batch)
            (prediction.logits.sum() * torch.ones(1, requires_grad=True)).sum().backward()
        self.calls.append(batch.keys[0].video_id)
        return prediction

    def end_test(self, detector: ActionDetector) -> None:
        self.calls.append("end")


HERE = TrainerConfig(accelerator="cpu", devices=1)


def test_batches_are_read_in_order_and_transformed():
    sink = ProbabilitySink(50)
    halved = lambda batch: replace(batch, frames=batch.frames // 2)  # noqa: E731
    run_pass(Predictor(Level()), (batch(level) for level in (2, 4, 6)), [sink], HERE, transform=halved)
    expected = torch.tensor([1.0, 2.0, 3.0]).sigmoid().numpy()
    np.testing.assert_allclose(sink.probabilities()[:, 7], expected, rtol=1e-6)


def test_a_pass_without_clips():
    sink, method = ProbabilitySink(50), Told()
    run_pass(Predictor(Level(), method), iter(()), [sink], HERE)
    assert sink.probabilities().shape == (0, 50)
    assert method.calls == ["start", "end"]


@pytest.mark.parametrize("error", [InputError("a video ends early"), KeyboardInterrupt()])
def test_a_pass_that_is_broken_off_restores_the_detector(error):
    method = Told()

    def batches() -> Iterator[ClipBatch]:
        yield batch(1)
        yield batch(2)
        raise error

    with pytest.raises(type(error)):
        run_pass(Predictor(Level(), method), batches(), [], HERE)
    assert (method.calls[0], method.calls[-1]) == ("start", "end")
