"""Every method that trains, in two processes of which now one and now the other has nobody in its clips."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from gloo_pair import run_pair

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import TrainingMethod, methods_of

C = 5
PEOPLE = {
    # For each process and step: the people in the source clips and in the target clips.
    0: [((2, 1), (1, 1)), ((0, 0), (0, 0)), ((1, 0), (0, 0))],
    1: [((0, 0), (0, 0)), ((1, 1), (2, 1)), ((0, 0), (1, 0))],
}
TRAINED = [name for name in methods_of(TrainingMethod) if ADAPTATIONS.load(name).has_epochs]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What both processes say of each method. They are started once: starting is what takes long."""
    folder = tmp_path_factory.mktemp("two_processes")
    return run_pair(train_with_each, folder, folder, limit=280)


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_leave_one_detector(outcomes, name):
    first, second = (outcome[name] for outcome in outcomes)
    assert first["steps"] == second["steps"] == len(PEOPLE[0])
    assert first["trained"] == second["trained"]
    assert first["trained"] != first["untrained"]
    assert first["handed_over"] == second["handed_over"]
    assert first["kept"] == second["kept"]


# --------------------------------------------------------------------------------------- in each of the two processes


def train_with_each(rank: int, folder: Path) -> dict[str, dict[str, Any]]:
    """What came of every method; the last name said is the one that failed, or that waited for ever."""
    outcomes = {}
    for name in TRAINED:
        print(name, flush=True)
        outcomes[name] = train(name, rank, folder)
    return outcomes


def train(name: str, rank: int, folder: Path) -> dict[str, Any]:
    """Digests of the detector before and after training, and of what the finished method keeps."""
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader

    from microg_da.adaptation.base import create_adaptation
    from microg_da.config import AugmentConfig, TrainingConfig
    from microg_da.models import create_detector
    from microg_da.training.module import DetectorModule

    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", num_classes=C)
    method = create_adaptation(name, feature_dim=detector.feature_dim, num_classes=C)
    everyone = [batch((2, 1), labelled=False, seed=9)]
    with method.rehearsing():
        method.before_training(detector.eval(), [batch((1, 2), labelled=True, seed=8)], everyone)
    untrained = digest(detector.named_parameters())
    steps = []
    for step, (source, target) in enumerate(PEOPLE[rank]):
        clips = {"target": batch(target, labelled=method.uses_target_labels, seed=step)}
        if method.uses_source:
            clips["source"] = batch(source, labelled=True, seed=10 + step)
        steps.append(clips)
    module = DetectorModule(
        detector.train(),
        method,
        TrainingConfig(epochs=1, lr=1e-2),
        AugmentConfig(),
        target_clips=[clips["target"].without_labels() for clips in steps],
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    trainer.fit(module, DataLoader(steps, batch_size=None))  # type: ignore[arg-type]
    trained = digest(detector.named_parameters())
    method.after_training(detector)
    # Batch statistics are each process's own until the next step; the first one's are saved.
    return {
        "steps": trainer.global_step,
        "untrained": untrained,
        "trained": trained,
        "handed_over": digest(detector.named_parameters()),
        "kept": digest(method.named_parameters()),
    }


def batch(people: tuple[int, ...], *, labelled: bool, seed: int) -> Any:
    """Clips of noise with so many people in each."""
    import torch

    from microg_da.data.batches import collate_clips
    from microg_da.types import Clip, ClipKey

    generator = torch.Generator().manual_seed(seed)
    clips = []
    for index, count in enumerate(people):
        frames = torch.randint(0, 256, (3, 8, 48, 48), dtype=torch.uint8, generator=generator)
        boxes = torch.tensor([[4.0, 4, 40, 44]]).repeat(count, 1)
        labels = (torch.rand(count, C, generator=generator) > 0.5).float() if labelled else None
        clip = Clip(frames, boxes, boxes / 48, ClipKey(f"v{seed}_{index}", 1))
        clips.append(clip if labels is None else clip.with_labels(labels))
    return collate_clips(clips, "source" if labelled else "target")


def digest(named: Any) -> str:
    """One word for all values."""
    values = hashlib.sha256()
    for name, value in named:
        values.update(name.encode())
        values.update(value.detach().cpu().numpy().tobytes())
    return values.hexdigest()
