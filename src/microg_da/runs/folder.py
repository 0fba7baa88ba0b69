"""A run's folder while it is being written: where each file goes, and what is known about the run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from microg_da.config import Config, load_config, save_config
from microg_da.data.annotations import read_annotations, read_detections
from microg_da.errors import InputError
from microg_da.evaluation.finding import Finding, find
from microg_da.evaluation.intervals import VARIANTS, paired_intervals
from microg_da.files import write_json
from microg_da.runs.code_state import code_state
from microg_da.taxonomy import get_taxonomy

_FOLDER = "MICROG_DA_RUN_FOLDER"
"""Tells the processes that Lightning starts beside the first one which folder that one has made."""

EMBEDDED_NOTICE = "embedded synthetic data: scores say how methods compare here, not how they do on AVA or MicroG-4M"


class Run:
    """One folder, ``runs/<experiment>/<name>/``, that a command fills step by step.

    Whatever a step makes is written under its final name only when whole, so that the folder itself says which
    steps are done; resuming a run is doing the steps that are not.

    Args:
        path: the folder.
        config: what is run.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.config = config

    @classmethod
    def plan(cls, config: Config, root: str | Path = "runs", name: str | None = None) -> Run:
        """A run that is to be; nothing is written yet. Without a name it is called after method, seed and time.

        Raises:
            InputError: if a run of that name exists, or its folder could not be written.
        """
        if name is None and _FOLDER not in os.environ and _processes_from_outside() > 1:
            raise InputError("several processes run this together: give --name, by which they find the same folder.")
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        name = name or f"{config.adaptation.name}-seed{config.seed}-{stamp}"
        path = Path(root) / config.experiment / name
        if not is_leader():
            return cls(Path(os.environ.get(_FOLDER, path)), config)
        os.environ[_FOLDER] = str(path.absolute())
        if (path / "config.yaml").exists():
            raise InputError(f"{path} holds a run. Continue it with `fit --resume {path}` or choose another --name.")
        above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise InputError(f"cannot write {path}: {above} is no folder you may write to. Choose another --runs.")
        return cls(path, config)

    def create(self) -> None:
        """Start the folder."""
        if not is_leader():
            return
        save_config(self.config, self.path / "config.yaml")
        write_json(self.path / "environment.json", describe_environment())
        self.update(created=datetime.now(timezone.utc).isoformat(timespec="seconds"), warnings=[])

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a folder to continue its run, with the configuration that it was started with."""
        path = Path(path)
        if not (path / "config.yaml").is_file():
            raise InputError(f"{path} is no run folder: it has no config.yaml. Give a folder under runs/.")
        return cls(path, load_config(config=path / "config.yaml"))

    # --------------------------------------------------------------------------------------------------- files

    def stage_folder(self, stage: str) -> Path:
        """Where the checkpoints of a stage are."""
        return self.path / "checkpoints" / stage

    def detector_file(self, stage: str) -> Path:
        """The finished detector of a stage; there only if the stage is done."""
        return self.stage_folder(stage) / "detector.pt"

    def method_file(self, stage: str) -> Path:
        """What the stage's method learnt besides the detector, e.g. statistics that it needs at test time."""
        return self.stage_folder(stage) / "method.pt"

    def stage_seconds(self, stage: str) -> float:
        """How long a finished stage trained."""
        return json.loads((self.stage_folder(stage) / "stage.json").read_text(encoding="utf-8"))["seconds"]

    def detections_file(self, row: str, domain: str) -> Path:
        """The detections of one result row on one domain's test split."""
        return self.path / "detections" / f"{row}_{domain}.csv.gz"

    def features_file(self, row: str, domain: str) -> Path:
        """RoI features of some people of one domain's test split, as the detector of one result row makes them."""
        return self.path / "features" / f"{row}_{domain}.npz"

    def ground_truth_file(self, domain: str) -> Path:
        """The annotations of one domain's test split."""
        return self.path / "ground_truth" / f"{domain}.csv"

    # ----------------------------------------------------------------------------------------------- the record

    @property
    def record(self) -> dict[str, Any]:
        """``run.json`` as it stands."""
        return _read_object(self.path / "run.json") or {}

    def update(self, **facts: Any) -> None:
        """Write facts into ``run.json``; the configuration's own are always there."""
        if not is_leader():
            return
        config = self.config
        known = {
            "experiment": config.experiment,
            "description": config.description,
            "name": self.path.name,
            "seed": config.seed,
            "embedded_data": embedded_notice(config) is not None,
            "notice": embedded_notice(config),
            "source": config.data.source,
            "target": config.data.target,
            "selection": config.selection,
            "oracle": config.uses_target_labels,
            "protocol": config.evaluation.protocol,
            "adaptation": config.adaptation.name,
        }
        write_json(self.path / "run.json", {**self.record, **known, **facts})

    @property
    def results(self) -> dict[str, Any]:
        """``results.json`` as it stands."""
        results = _read_object(self.path / "results.json")
        return results if results is not None and "rows" in results else _results([])

    def row(self, name: str) -> dict[str, Any] | None:
        """One finished row of the results."""
        return next((row for row in self.results["rows"] if row["name"] == name), None)

    def add_row(self, row: dict[str, Any]) -> None:
        """Add a finished row. What the rows say together is not known until :meth:`conclude`."""
        if not is_leader():
            return
        rows = [other for other in self.results["rows"] if other["name"] != row["name"]] + [row]
        rows.sort(key=lambda item: VARIANTS.index(item["name"]))
        write_json(self.path / "results.json", _results(rows))

    def conclude(self) -> None:
        """Work out what the finished rows say together, and write it into ``results.json``."""
        if not is_leader():
            return
        rows = self.results["rows"]
        truth = {domain: read_annotations(self.ground_truth_file(domain)) for domain in ("source", "target")}
        detections = {row["name"]: read_detections(self.detections_file(row["name"], "target")) for row in rows}
        taxonomy = get_taxonomy(self.config.data.taxonomy)
        intervals = paired_intervals(truth["target"], detections, taxonomy, self.config.evaluation.protocol)
        finding = find(rows, intervals, **truth)
        write_json(self.path / "results.json", _results(rows, finding))

    @contextlib.contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Note in ``run.json`` why a run stopped, if it stops inside the block."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(Exception):
                self.update(status=f"stopped: {error or type(error).__name__}")
            raise
        finally:
            # Other runs of this process, and what it starts, have folders of their own.
            os.environ.pop(_FOLDER, None)


def _read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object that a run has written; None if it is not there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}). Remove it: what it held is made again on resuming.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged, it holds no JSON object. Remove it: it is made again on resuming.")
    return value


def is_leader() -> bool:
    """Whether this process writes the run's files: the first of several that train together, or the only one."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def _processes_from_outside() -> int:
    """How many processes torchrun or Slurm has started for one run."""
    return max(int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def embedded_notice(config: Config) -> str | None:
    """What a reader must know about a run on the embedded data; None for other data."""
    if any(source.startswith("synthetic:") for source in (config.data.source, config.data.target)):
        return EMBEDDED_NOTICE
    return None


def _results(rows: list[dict[str, Any]], finding: Finding | None = None) -> dict[str, Any]:
    """What ``results.json`` holds; without a finding while the run is not finished."""
    return {
        "rows": rows,
        "gap_recovered": finding.gap_recovered if finding else None,
        "finding": finding.as_dict() if finding else None,
    }


def describe_environment() -> dict[str, Any]:
    """Versions, machine and command, enough to explain why two runs differ."""
    import torch

    packages = ("microg_da", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy", "pandas")
    return {
        "command": " ".join(["microg_da", *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: metadata.version(name) for name in packages},
        "code": code_state(),
    }
