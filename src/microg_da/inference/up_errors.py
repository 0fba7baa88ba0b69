"""Errors of estimated ups on clips with known up: simulated clips, and artificially rolled Earth clips."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.up_method import UpMethod
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.evaluation.up_errors import AngleErrors, UpErrors
from microg_da.models.up_estimator import angular_distance
from microg_da.transforms.rotation import roll_batch
from microg_da.types import ClipBatch


def up_errors(
    predictor: Predictor, datasets: DomainDatasets, device: torch.device | str = "cpu"
) -> dict[str, UpErrors]:
    """Return errors of the estimated up by set of clips; empty if the method does not estimate up.

    ``rolled_source`` is the source validation split, in which people are assumed to be upright, with each clip rolled
    by a known random angle. ``target`` is the target test split, if its data set knows up, as embedded data does.
    """
    if not isinstance(predictor.method, UpMethod):
        return {}
    predictor.to(device).detector.eval()
    data = StageData(datasets)
    errors = {"rolled_source": _errors(predictor, _rolled(data, datasets.config.seed), device)}
    ups = datasets.get("target", "test", labelled=False).ups()
    if ups is not None:
        known = ((batch, torch.tensor([ups[key] for key in batch.people])) for batch in data.test_loader("target"))
        errors["target"] = _errors(predictor, known, device)
    predictor.to("cpu").detector.train()
    return errors


def _rolled(data: StageData, seed: int) -> Iterator[tuple[ClipBatch, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for batch in data.test_loader("source", "val"):
        degrees = 360 * torch.rand(len(batch), generator=generator)
        yield roll_batch(batch, degrees, fill="circle"), degrees[batch.clip_index]


@torch.no_grad()
def _errors(predictor: Predictor, clips: Iterator[tuple[ClipBatch, Tensor]], device: torch.device | str) -> UpErrors:
    method = predictor.method
    assert isinstance(method, UpMethod)
    by_estimator, decided = [torch.zeros(0)], [torch.zeros(0)]
    passes = clips_seen = 0
    for batch, true in clips:
        found = method.find(predictor.detector, batch.to(device))
        modes = found.log_density.argmax(dim=1) * (360 / found.log_density.shape[1])
        passes, clips_seen = passes + found.passes, clips_seen + len(batch)
        by_estimator.append(angular_distance(modes.cpu(), true))
        decided.append(angular_distance(found.degrees.cpu(), true))
    angles = torch.cat(decided)
    return UpErrors(
        people=len(angles),
        passes=passes / clips_seen if clips_seen else float("nan"),
        estimator=AngleErrors.of(torch.cat(by_estimator).numpy()),
        decided=AngleErrors.of(angles.numpy()),
    )
