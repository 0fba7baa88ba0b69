"""A trained detector tested on clips that are rolled by one angle after another."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from rich.progress import Progress

from microg_da.config import Config
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.errors import InputError
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.evaluation.protocols import Scores
from microg_da.evaluation.roll_response import RollResponse
from microg_da.files import write_json
from microg_da.inference.sinks import ScoreSink
from microg_da.runs.detectors import TrainedDetector
from microg_da.training.stage import make_trainer
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Domain, Prediction


def even_angles(count: int) -> list[float]:
    """``count`` angles in degrees, evenly over the whole turn, from 0.

    Raises:
        InputError: for less than one.
    """
    if count < 1:
        raise InputError(f"--angles {count} cannot be: expected a whole number of at least 1.")
    return [360 * number / count for number in range(count)]


def measure_roll_response(
    trained: TrainedDetector,
    angles: Sequence[float],
    file: str | Path,
    *,
    domain: Domain = "source",
    data: str | None = None,
    progress: Progress | None = None,
) -> tuple[RollResponse, dict[str, Any]]:
    """Score a detector on a test split at every angle, 0 among them.

    Corners are filled by reflection. A detection is written with the box that the table has, so that no rolled ground
    truth is needed. Each angle is kept in ``file`` as soon as it is measured; the next call measures what is missing.

    Args:
        trained: the detector and the method through which it is tested.
        angles: degrees, clockwise.
        file: JSON, written anew after each angle.
        domain: whose test split.
        data: a SOURCE to test on in place of the domain's.
        progress: where to show a bar.

    Returns:
        The response, and what was measured: run, row, data, protocol, and which weights.

    Raises:
        InputError: if ``file`` holds something else.
    """
    config = _with_data(trained.run.config, domain, data)
    facts = {
        "run": "/".join(trained.run.path.resolve().parts[-2:]),
        "row": trained.row,
        "data": getattr(config.data, domain),
        "domain": None if data else domain,
        "protocol": config.evaluation.protocol,
        "weights": hashlib.sha256(trained.file.read_bytes()).hexdigest()[:16],
    }
    file = Path(file)
    measured = _read(file, facts)
    missing = [angle for angle in angles if angle not in measured]
    datasets = DomainDatasets(config)
    with _bar(progress, f"{facts['run']} {trained.row}", len(angles), len(angles) - len(missing)) as advance:
        for angle in missing:
            measured[angle] = _test(trained, datasets, domain, angle)
            write_json(file, {**facts, "complete": False, "angles": _plain(measured)})
            advance()
    response = RollResponse.of({angle: measured[angle] for angle in angles})
    write_json(file, {**facts, "complete": True, **response.as_dict(), "angles": _plain(measured)})
    return response, facts


def _test(trained: TrainedDetector, datasets: DomainDatasets, domain: Domain, degrees: float) -> Scores:
    """One pass over a test split, every clip rolled."""
    config = datasets.config
    pl.seed_everything(config.seed, workers=True, verbose=False)  # for methods that draw at test time
    truth = datasets.get(domain, "test", labelled=False).annotations()
    metrics = DetectionMetrics(truth, taxonomy=config.data.taxonomy, protocol=config.evaluation.protocol)
    device = make_trainer(trained.run).strategy.root_device
    scores = ScoreSink(metrics, domain)
    with torch.no_grad(), trained.predictor.to(device).testing() as predictor:
        for batch in StageData(datasets).test_loader(domain):
            prediction = predictor(roll_batch(batch.to(device), degrees))
            scores.update(batch, Prediction(*(part.float().cpu() for part in prediction)))
    return metrics.scores()


def _with_data(config: Config, domain: Domain, data: str | None) -> Config:
    if data is None:
        return config
    replaced = replace(config.data, source=data) if domain == "source" else replace(config.data, target=data)
    return replace(config, data=replaced)


def _plain(measured: dict[float, Scores]) -> list[dict[str, Any]]:
    return [{"degrees": angle, "scores": measured[angle].as_dict()} for angle in sorted(measured)]


def _read(file: Path, facts: dict[str, Any]) -> dict[float, Scores]:
    """What an earlier call has measured, if it measured the same."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {error}. Delete it to measure anew.") from error
    different = [name for name, value in facts.items() if not isinstance(content, dict) or content.get(name) != value]
    if different:
        raise InputError(
            f"{file} was measured with other {', '.join(different)}. Delete it to measure anew, or choose another "
            "--output."
        )
    return {float(entry["degrees"]): _scores(entry["scores"]) for entry in content["angles"]}


def _scores(plain: dict[str, Any]) -> Scores:
    numbers = {name: float("nan") if value is None else value for name, value in plain.items()}
    # A column without a number comes back as None, not as NaN.
    per_class = pd.DataFrame(plain["per_class"]).astype(dict.fromkeys(("ap", "f1", "recall", "auroc"), float))
    return Scores(**{**numbers, "per_class": per_class})


@contextlib.contextmanager
def _bar(progress: Progress | None, title: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    if progress is None:
        yield lambda: None
        return
    task = progress.add_task(title, total=total, completed=done)
    yield lambda: progress.advance(task)
