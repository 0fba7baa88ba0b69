"""Tests of a detector on clips that are rolled by a series of angles."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from rich.progress import Progress

from microg_da.adaptation.predictor import Predictor
from microg_da.config import Config, TrainerConfig
from microg_da.data.datamodule import DomainDatasets
from microg_da.errors import InputError
from microg_da.evaluation.protocols import Scores
from microg_da.evaluation.roll_response import RollResponse
from microg_da.files import write_json
from microg_da.inference.passes import as_configured, run_split_pass
from microg_da.inference.scoring import split_metrics
from microg_da.inference.sinks import ScoreSink
from microg_da.inference.trainer import one_process
from microg_da.transforms.rotation import roll_batch
from microg_da.types import Domain

Facts = dict[str, str | None]
"""Keys of the detector, the data and the protocol in a file of responses."""


def even_angles(count: int) -> list[float]:
    """Return ``count`` evenly spaced angles in degrees over the whole turn, starting at 0.

    Raises:
        InputError: if ``count`` is below 1.
    """
    if count < 1:
        raise InputError(f"--angles {count} is invalid: expected a whole number of at least 1.")
    return [360 * number / count for number in range(count)]


def measure_roll_response(
    predictor: Predictor,
    config: Config,
    angles: Sequence[float],
    file: str | Path,
    *,
    facts: Mapping[str, str] | None = None,
    domain: Domain = "source",
    data: str | None = None,
    progress: Progress | None = None,
) -> tuple[RollResponse, Facts]:
    """Score a detector on a test split at all angles, including 0, in one process.

    Corners are filled by reflection. Detections have the original boxes of the table, so that no rolled ground truth is
    needed. Each angle is saved in ``file`` after its measurement. The next call measures only missing angles.

    Args:
        predictor: the detector and its test-time method.
        config: settings of the test: data, protocol, device, precision, folding.
        angles: angles in degrees clockwise.
        file: a JSON file, which is written after each angle.
        facts: facts about the detector for ``file``, e.g. ``RunDetector.facts()``; ``run`` and ``variant`` identify the
            detector. A file with other facts is an error.
        domain: the domain of the test split.
        data: a SOURCE to test on instead of the data of the domain.
        progress: the progress display.

    Returns:
        The response, and a description: ``facts``, data, domain and protocol, and the precision if it is not
        Lightning's default.

    Raises:
        InputError: if ``file`` contains other measurements.
    """
    config = _with_data(config, domain, data)
    known: Facts = {
        **(facts or {}),
        "data": getattr(config.data, domain),
        "domain": None if data else domain,
        "protocol": config.evaluation.protocol,
    }
    if config.trainer.precision != TrainerConfig().precision:
        known["precision"] = config.trainer.precision
    file = Path(file)
    measured = _read(file, known)
    missing = [angle for angle in angles if angle not in measured]
    datasets = DomainDatasets(config)
    predictor = as_configured(predictor, config)
    title = " ".join(str(known[name]) for name in ("run", "variant") if name in known)
    with _bar(progress, title, len(angles), len(angles) - len(missing)) as advance:
        for angle in missing:
            measured[angle] = _test(predictor, datasets, domain, angle)
            write_json(file, {**known, "complete": False, "angles": _plain(measured)})
            advance()
    response = RollResponse.of({angle: measured[angle] for angle in angles})
    write_json(file, {**known, "complete": True, **response.as_dict(), "angles": _plain(measured)})
    return response, known


def _test(predictor: Predictor, datasets: DomainDatasets, domain: Domain, degrees: float) -> Scores:
    """Score one pass over a test split with all clips rolled."""
    config = datasets.config
    pl.seed_everything(config.seed, workers=True, verbose=False)  # for methods that use random numbers at test time
    metrics = split_metrics(datasets, domain, "test")
    run_split_pass(
        predictor,
        datasets,
        domain,
        "test",
        [ScoreSink(metrics, domain)],
        hardware=one_process(config.trainer),
        transform=partial(roll_batch, degrees=degrees),
    )
    return metrics.scores()


def _with_data(config: Config, domain: Domain, data: str | None) -> Config:
    if data is None:
        return config
    replaced = replace(config.data, source=data) if domain == "source" else replace(config.data, target=data)
    return replace(config, data=replaced)


def _plain(measured: dict[float, Scores]) -> list[dict[str, object]]:
    return [{"degrees": angle, "scores": measured[angle].as_dict()} for angle in sorted(measured)]


def _read(file: Path, facts: Facts) -> dict[float, Scores]:
    """Read the responses of an earlier call with the same detector and settings."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {error}. Delete it to measure again.") from error
    if isinstance(content, dict) and "row" in content:  # older versions used this key for the variant
        content = {"variant": content["row"], **content}
    different = [name for name, value in facts.items() if not isinstance(content, dict) or content.get(name) != value]
    if different:
        raise InputError(
            f"{file} was measured with other {', '.join(different)}. Delete it to measure again, or choose another "
            "--output."
        )
    return {float(entry["degrees"]): Scores.from_dict(entry["scores"]) for entry in content["angles"]}


@contextlib.contextmanager
def _bar(progress: Progress | None, title: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    if progress is None:
        yield lambda: None
        return
    task = progress.add_task(title, total=total, completed=done)
    yield lambda: progress.advance(task)
