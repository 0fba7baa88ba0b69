"""``run.json``: the record of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from microg_da.errors import InputError
from microg_da.files import write_json
from microg_da.runs.fields import FORMAT, Fields, read_json

_REMEDY = "Restore the file, or remove it and continue the run with `fit --resume`."


@dataclass(frozen=True)
class ModelFacts:
    """The model of a run.

    Attributes:
        name: value of ``model.name``.
        parameters: number of parameters.
        trainable_parameters: number of parameters that training changes; None in runs of older versions.
        num_frames: T of the window.
        sampling_rate: τ of the window.
    """

    name: str
    parameters: int
    trainable_parameters: int | None
    num_frames: int
    sampling_rate: int


@dataclass(frozen=True)
class RunRecord:
    """The facts of a run.

    Attributes:
        experiment: the name of the experiment.
        description: a sentence about the experiment, or an empty text.
        name: the name of the folder.
        seed: the seed of the run.
        embedded_data: whether a domain is embedded data.
        notice: the notice about embedded data; None for other data.
        source: the SOURCE of the source domain.
        target: the SOURCE of the target domain.
        selection: the rule that selected checkpoints.
        oracle: whether target labels took part in training or selection.
        protocol: the protocol of the scores.
        adaptation: the name of the method.
        created: time of creation in ISO 8601.
        status: ``created``, ``running``, ``finished``, or ``stopped: REASON``.
        warnings: the warnings of the run.
        model: the facts of the model; None until the first stage is finished.
        data: a sentence about each data set, by ``domain/split``.
        split_hash: hash of the split; None if the data has none.
        fps: frames per second of each data set; None if unknown.
        peak_memory_mib: peak resident memory of the process; None until the run is finished.
    """

    experiment: str
    description: str
    name: str
    seed: int
    embedded_data: bool
    notice: str | None
    source: str
    target: str
    selection: str
    oracle: bool
    protocol: str
    adaptation: str
    created: str
    status: str = "created"
    warnings: tuple[str, ...] = ()
    model: ModelFacts | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    split_hash: str | None = None
    fps: Mapping[str, float | None] = field(default_factory=dict)
    peak_memory_mib: int | None = None


def write_record(record: RunRecord, path: Path) -> None:
    """Write ``run.json``."""
    write_json(path, {"format": FORMAT, **asdict(record)})


def read_record(path: Path) -> RunRecord:
    """Read ``run.json`` in the current or the first format.

    Raises:
        InputError: if the file is missing, damaged, or written by a newer version.
    """
    value = read_json(path)
    if value is None:
        raise InputError(f"{path} not found. Give the folder of a run, runs/<experiment>/<name>.")
    fields = Fields(value, str(path), _REMEDY)
    fields.format()
    return RunRecord(
        experiment=fields.text("experiment"),
        description=fields.optional(fields.text, "description") or "",
        name=fields.text("name"),
        seed=fields.integer("seed"),
        embedded_data=fields.flag("embedded_data"),
        notice=fields.optional(fields.text, "notice"),
        source=fields.text("source"),
        target=fields.text("target"),
        selection=fields.text("selection"),
        oracle=fields.flag("oracle"),
        protocol=fields.text("protocol"),
        adaptation=fields.text("adaptation"),
        created=fields.text("created"),
        status=fields.optional(fields.text, "status") or "created",
        warnings=fields.texts("warnings"),
        model=_model(fields.fields("model")) if fields.has("model") else None,
        data=_data(fields.fields("data")) if fields.has("data") else {},
        split_hash=fields.optional(fields.text, "split_hash"),
        fps=_fps(fields.fields("fps")) if fields.has("fps") else {},
        peak_memory_mib=fields.optional(fields.integer, "peak_memory_mib"),
    )


def _model(fields: Fields) -> ModelFacts:
    return ModelFacts(
        name=fields.text("name"),
        parameters=fields.integer("parameters"),
        trainable_parameters=fields.optional(fields.integer, "trainable_parameters"),
        num_frames=fields.integer("num_frames"),
        sampling_rate=fields.integer("sampling_rate"),
    )


def _data(fields: Fields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields.values}


def _fps(fields: Fields) -> dict[str, float | None]:
    return {name: fields.number(name) if fields.has(name) else None for name in fields.values}
