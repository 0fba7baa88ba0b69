"""A run: its configuration, its record and its results, stored in its folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import yaml

from microg_da.adaptation import uses_target_labels
from microg_da.config import Config, load_config, save_config
from microg_da.config.experiments import YAML_ERRORS
from microg_da.errors import InputError
from microg_da.files import write_json
from microg_da.processes import is_leader
from microg_da.registry import short_name
from microg_da.runs.environment import flatten, write_environment
from microg_da.runs.fields import Fields, read_json, read_text
from microg_da.runs.layout import RunFolder
from microg_da.runs.record import RunRecord, read_record, write_record
from microg_da.runs.results import RunResults, VariantResult, read_results, write_results
from microg_da.types import Stage

_FOLDER = "MICROG_DA_RUN_FOLDER"
"""Environment variable with the run folder of the first process, for the other processes that Lightning starts."""

EMBEDDED_NOTICE = "embedded synthetic data: scores compare methods and do not predict scores on AVA or MicroG-4M"


class Run(RunFolder):
    """The folder of one run, ``runs/<experiment>/<name>/``, with read and write access.

    A file gets its final name only when it is complete, so the folder shows which steps are finished. A resumed run
    does the remaining steps.

    Args:
        path: the folder.
        config: the configuration; None to read it from the folder at the first access.
    """

    def __init__(self, path: str | Path, config: Config | None = None) -> None:
        super().__init__(path)
        if config is not None:
            self.config = config

    @classmethod
    def plan(cls, config: Config, root: str | Path = "runs", name: str | None = None) -> Run:
        """Plan a new run without writing files. The default name consists of method, seed and time.

        Raises:
            InputError: if a run with this name exists, or its folder cannot be written.
        """
        check_name(name)
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        name = name or f"{short_name(config.adaptation.name)}-seed{config.seed}-{stamp}"
        path = Path(root) / config.experiment / name
        if not is_leader():
            return cls(Path(os.environ.get(_FOLDER, path)), config)
        os.environ[_FOLDER] = str(path.absolute())
        if RunFolder(path).config_file.exists():
            raise InputError(
                f"{path} contains a run. Continue it with `fit --resume {path}`, or choose another --name."
            )
        above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise InputError(f"cannot write {path}: {above} is not a writable folder. Choose another --runs.")
        return cls(path, config)

    def create(self) -> None:
        """Create the folder."""
        if not is_leader():
            return
        save_config(self.config, self.config_file)
        write_environment(self.environment_file)
        write_record(self._first_record(), self.record_file)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open the folder of a run with the configuration from its start, to continue the run."""
        run = cls(path)
        if not run.config_file.is_file():
            raise InputError(
                f"{run.path} is not a run folder: it has no config.yaml. Give a folder runs/<experiment>/<name>."
            )
        run.config = load_config(config=run.config_file)
        return run

    @cached_property
    def config(self) -> Config:
        """The configuration of the run.

        Raises:
            InputError: if ``config.yaml`` is missing or damaged.
        """
        return load_config(config=self.config_file)

    @property
    def config_text(self) -> str | None:
        """The text of ``config.yaml``; None if it is missing."""
        return read_text(self.config_file)

    @cached_property
    def settings(self) -> dict[str, str]:
        """``config.yaml`` as text, nested keys joined by dots; empty if it is missing or cannot be parsed.

        In contrast to :attr:`config`, this also reads configurations of other versions.
        """
        with contextlib.suppress(*YAML_ERRORS):
            return flatten(yaml.safe_load(self.config_text or ""))
        return {}

    # ----------------------------------------------------------------------------------------------- the record

    @property
    def record(self) -> RunRecord:
        """The current content of ``run.json``."""
        return read_record(self.record_file)

    def update(self, change: Callable[[RunRecord], RunRecord]) -> None:
        """Replace the record in ``run.json`` by the return value of ``change``."""
        if is_leader():
            write_record(change(self._record_so_far()), self.record_file)

    def _record_so_far(self) -> RunRecord:
        """Return the stored record, with the current facts of the configuration and the current folder name."""
        first = self._first_record()
        if not self.record_file.exists():
            return first
        written = self.record
        return replace(
            first,
            created=written.created,
            status=written.status,
            warnings=written.warnings,
            model=written.model,
            data=written.data,
            split_hash=written.split_hash,
            fps=written.fps,
            peak_memory_mib=written.peak_memory_mib,
        )

    def _first_record(self) -> RunRecord:
        config = self.config
        return RunRecord(
            experiment=config.experiment,
            description=config.description,
            name=self.path.name,
            seed=config.seed,
            embedded_data=embedded_notice(config) is not None,
            notice=embedded_notice(config),
            source=config.data.source,
            target=config.data.target,
            selection=config.selection,
            oracle=uses_target_labels(config),
            protocol=config.evaluation.protocol,
            adaptation=config.adaptation.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    # ---------------------------------------------------------------------------------------------- the results

    @property
    def results(self) -> RunResults:
        """The current content of ``results.json``, which is empty before the first test."""
        return read_results(self.results_file) if self.results_file.exists() else RunResults()

    def save_results(self, results: RunResults) -> None:
        """Replace ``results.json``."""
        if is_leader():
            write_results(results, self.results_file)

    def add_result(self, result: VariantResult) -> None:
        """Add the result of one variant and remove the finding, which is computed at the end of the run."""
        if is_leader():
            self.save_results(self.results.with_result(result))

    # ------------------------------------------------------------------------------------------------- a stage

    def finish_stage(self, stage: Stage, seconds: float) -> None:
        """Write the training time of a stage."""
        write_json(self.stage_file(stage), {"seconds": seconds, "selection": self.config.selection})

    def stage_seconds(self, stage: Stage) -> float:
        """Return the training time of a finished stage."""
        remedy = "Remove the folder of the stage and continue the run with `fit --resume`."
        return Fields(read_json(self.stage_file(stage)), str(self.stage_file(stage)), remedy).number("seconds")

    @contextlib.contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Write the reason into ``run.json`` if the run stops inside the block."""
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(Exception):
                status = f"stopped: {error or type(error).__name__}"
                self.update(lambda record: replace(record, status=status))
            raise
        finally:
            # Other runs of this process, and the processes that it starts, have their own folders.
            os.environ.pop(_FOLDER, None)


def check_name(name: str | None) -> None:
    """Check that a run in several processes of torchrun or Slurm has a name.

    Raises:
        InputError: if ``--name`` is missing.
    """
    if name is None and _FOLDER not in os.environ and _processes_from_outside() > 1:
        raise InputError("a run in several processes needs a name, so that all use one folder. Add --name NAME.")


def _processes_from_outside() -> int:
    """Return the number of processes that torchrun or Slurm has started for one run."""
    return max(int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def embedded_notice(config: Config) -> str | None:
    """Return the notice about a run on embedded data; None for other data."""
    if any(source.startswith("synthetic:") for source in (config.data.source, config.data.target)):
        return EMBEDDED_NOTICE
    return None
