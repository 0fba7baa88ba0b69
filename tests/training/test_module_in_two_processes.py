"""A stage in two gloo processes: everybody counts once, whatever share of the clips a process has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from gloo_pair import run_pair

from microg_da.adaptation.base import create_adaptation
from microg_da.adaptation.predictor import Predictor
from microg_da.config import AugmentConfig, TrainerConfig, TrainingConfig, load_config
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.inference.feature_sample import FeatureSample
from microg_da.inference.passes import run_split_pass
from microg_da.inference.sinks import ScoreSink
from microg_da.inference.trainer import make_trainer, quiet
from microg_da.models import create_detector
from microg_da.taxonomy import get_taxonomy
from microg_da.training.module import DetectorModule
from microg_da.types import DOMAINS, Clip, ClipKey
from microg_da.validation.observations import Observations

IDS = get_taxonomy("microg50").ids
# The people in each clip of the source and of the target; of two processes the second has the clips 1, 3, 5 ….
CASES = {
    "odd numbers of clips": {"source": [2, 1, 1, 3, 1, 2, 1], "target": [1, 2, 0, 1, 1]},
    "fewer clips than processes": {"source": [2], "target": [1]},
    "nobody in one process": {"source": [2, 0, 1, 0, 3, 0], "target": [1, 0, 1, 0, 2, 0]},
    "nobody in a domain": {"source": [2, 0, 1, 0], "target": [0, 0, 0]},
    "frames of many widths": {"source": [1, 2, 1, 1, 0, 1, 1, 2, 1], "target": [1, 2, 1]},
}
WIDTHS = {"frames of many widths": [16, 24, 16, 32, 16, 40, 16, 48, 16]}
"""Of every other clip two make a batch; the rest, which a sampler would give to the second process, stay alone."""
TRAINING_BATCH, TEST_BATCH = 4, 2
"""The training clips of a domain fill a batch, and a process's share of them does not."""
EPOCHS = 2

pytestmark = pytest.mark.slow


class Clips:
    """Clips of noise, in a table that has a row for each person and none for a clip without any."""

    def __init__(self, domain: str, people: list[int], widths: list[int] | None, *, labelled: bool) -> None:
        self.domain = domain
        self.people = people
        self.labelled = labelled
        self.widths = (widths or [16] * len(people))[: len(people)]
        self.of_one_size = not widths

    def frame_sizes(self) -> np.ndarray | None:
        return None if self.of_one_size else np.array([(16, width) for width in self.widths])

    def set_epoch(self, epoch: int) -> None:
        pass

    def in_test_views(self) -> Clips:
        return self

    def __len__(self) -> int:
        return len(self.people)

    def __getitem__(self, index: int) -> Clip:
        generator = torch.Generator().manual_seed(2 * index + (self.domain == "target"))
        frames = torch.randint(0, 256, (3, 2, 16, self.widths[index]), dtype=torch.uint8, generator=generator)
        rows = self._rows(index)
        boxes = torch.tensor([row[2:6] for row in rows]).reshape(-1, 4)
        labels = torch.tensor([[row[6] == action for action in IDS] for row in rows]).reshape(-1, len(IDS))
        clip = Clip(frames, 16 * boxes, boxes, ClipKey(*self._key(index)))
        return clip.with_labels(labels.float()) if self.labelled else clip

    def annotations(self) -> pd.DataFrame:
        columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id"]
        return pd.DataFrame([row for index in range(len(self)) for row in self._rows(index)], columns=columns)

    def _key(self, index: int) -> tuple[str, int]:
        return f"{self.domain}_{index}", 5

    def _rows(self, index: int) -> list[tuple[Any, ...]]:
        return [
            (*self._key(index), 0.1 * person, 0.1, 0.5 + 0.1 * person, 0.9, IDS[(index + 3 * person) % 4], person)
            for person in range(self.people[index])
        ]


class Datasets(DomainDatasets):
    """All splits of a domain have the same clips."""

    def __init__(self, case: str) -> None:
        super().__init__(load_config("ava2microg", [f"evaluation.batch_size={TEST_BATCH}"]))
        self.people = CASES[case]
        self.widths = WIDTHS.get(case)

    def get(self, domain: str, split: str, *, labelled: bool) -> Clips:
        return Clips(domain, self.people[domain], None if split == "train" else self.widths, labelled=labelled)


def new_module(datasets: Datasets, scored: str, method: str = "source_finetune") -> DetectorModule:
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=len(IDS))
    truth = datasets.get(scored, "test", labelled=False).annotations()
    return DetectorModule(
        detector,
        create_adaptation(method, feature_dim=detector.feature_dim, num_classes=len(IDS)),
        TrainingConfig(epochs=EPOCHS, lr=1e-2),
        AugmentConfig(),
        scores=ScoreSink(DetectionMetrics(truth), scored),
        observations=Observations(len(IDS), detector.feature_dim),
    )


def hardware(processes: int) -> TrainerConfig:
    return TrainerConfig(accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto")


def new_trainer(processes: int) -> pl.Trainer:
    return make_trainer(hardware(processes), max_epochs=EPOCHS)


def logged(trainer: pl.Trainer) -> dict[str, float]:
    """What is said of the validation splits: scores of the source, label-free validators of both domains."""
    metrics = trainer.callback_metrics
    return {name: value.item() for name, value in metrics.items() if not name.startswith("train/")}


def evaluate(case: str, processes: int) -> dict[str, Any]:
    """A pass over both test splits and one over the validation splits."""
    datasets, trainer = Datasets(case), new_trainer(processes)
    data = StageData(datasets, observe=True)
    data.trainer = trainer
    found: dict[str, Any] = {}
    for domain in DOMAINS:
        detector = new_module(datasets, domain).detector
        truth = datasets.get(domain, "test", labelled=False).annotations()
        metrics, sample = DetectionMetrics(truth), FeatureSample(truth, detector.feature_dim)
        sinks = [ScoreSink(metrics, domain), sample]
        run_split_pass(Predictor(detector), datasets, domain, "test", sinks, hardware=hardware(processes))
        found[domain] = metrics.scores(), metrics.detections(), sample.compute()
        trainer.test(new_module(datasets, domain), data.test_loader(domain), verbose=False)
        assert logged(trainer)["test/map"] == pytest.approx(found[domain][0].map, nan_ok=True)
    trainer.validate(new_module(datasets, "source"), data.val_dataloader(), verbose=False)
    return found | {"validation": logged(trainer)}


def train(case: str, processes: int) -> dict[str, Any]:
    """What a method that reads both domains leaves."""
    datasets, trainer = Datasets(case), new_trainer(processes)
    data = StageData(datasets, unlabelled="target", observe=True, batch_size=TRAINING_BATCH)
    module = new_module(datasets, "source", "dann")
    trainer.fit(module, datamodule=data)
    return {"steps": trainer.global_step, "validation": logged(trainer), "state": module.state_dict()}


def validate(case: str, state: dict[str, Any]) -> dict[str, float]:
    """One process's opinion of a trained module."""
    datasets, trainer = Datasets(case), new_trainer(1)
    module = new_module(datasets, "source", "dann")
    module.load_state_dict(state)
    trainer.validate(module, StageData(datasets, observe=True).val_dataloader(), verbose=False)
    return logged(trainer)


def do_everything(rank: int) -> dict[str, Any]:
    """In each of the two processes; what it says shows where it stopped."""
    found: dict[str, Any] = {}
    with quiet():
        for case in CASES:
            print(case, flush=True)
            found[case] = {"evaluated": evaluate(case, 2), "trained": train(case, 2)}
    return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return run_pair(do_everything, tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize("case", CASES)
def test_everybody_is_tested_once(pair, case):
    alone = evaluate(case, 1)
    for found in pair:
        together = found[case]["evaluated"]
        for domain in DOMAINS:
            (scores, detections, sample), expected = together[domain], alone[domain]
            assert len(detections) == sum(CASES[case][domain]) * len(IDS)
            pd.testing.assert_frame_equal(detections, expected[1], atol=1e-6)
            pd.testing.assert_frame_equal(scores.per_class, expected[0].per_class, atol=1e-6)
            assert scores.map == pytest.approx(expected[0].map, nan_ok=True)
            for mine, all_of_them in zip(sample, expected[2], strict=True):
                torch.testing.assert_close(mine.flatten(), all_of_them.flatten())
        assert together["validation"] == pytest.approx(alone["validation"], abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("case", CASES)
def test_what_two_processes_trained_is_one_detector_with_the_scores_that_one_gives_it(pair, case):
    first, second = (found[case]["trained"] for found in pair)
    longest = max(map(len, CASES[case].values()))
    assert first["steps"] == second["steps"] == EPOCHS * max(-(-longest // 2) // TRAINING_BATCH, 1)
    assert first["validation"] == pytest.approx(second["validation"], nan_ok=True)
    parameters = dict(new_module(Datasets(case), "source", "dann").named_parameters())
    for name in parameters:
        assert torch.equal(first["state"][name], second["state"][name]), name
        assert torch.isfinite(first["state"][name]).all(), name
    assert any(not torch.equal(first["state"][name], value) for name, value in parameters.items())
    assert first["validation"] == pytest.approx(validate(case, first["state"]), abs=1e-4, nan_ok=True)
