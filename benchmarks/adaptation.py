"""Compare all adaptation methods with the same data, the same budget and several seeds.

    python benchmarks/adaptation.py [--pairs ava2microg sim2real] [--seeds 0 1 2 3 4] [--workers 2]
                                    [--rows dann 'mean_*'] [--runs runs/comparison] [--storage URL]
                                    [--page docs/adaptation.md] [--table-only] [KEY=VALUE …]

adaptation.yaml in this folder lists the rows. Each row is a run of `fit` in a separate process, so seconds and memory
are measured per run. All rows of a seed start from the same source model. Finished runs are not repeated, so the
command can be interrupted and repeated. It prints a table and the choices of the label-free validators, and writes both
to RUNS/PAIR.md, RUNS/PAIR.json and, with --page, into a page of the documentation. Seconds are comparable only between
runs on an otherwise idle machine.

Several machines can share a comparison: start the same command on each with the same folder RUNS and the same
--storage, a URL as in `sweep`: journal:////shared/comparison.log, postgresql+psycopg://me@db/sweeps.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from adaptation_tables import ORACLE_ROWS, SOURCE_ONLY, as_table, choices, markdown, summarise, write_into
from comparison import chosen_labels, exit_status, finished
from omegaconf import OmegaConf
from rich.console import Console

from microg_da.adaptation import ADAPTATIONS, knowledge
from microg_da.adaptation.base import TrainingMethod
from microg_da.errors import InputError
from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.paired import Draws
from microg_da.runs.folder import Run
from microg_da.sweeps.jobs import SharedJobs
from microg_da.terminal import progress_bar
from microg_da.types import DOMAINS

ROWS = Path(__file__).with_suffix(".yaml")


Works = dict[str, Callable[[], str | None]]
"""Runs by name; each returns an error message or None."""


@dataclass(frozen=True)
class Row:
    """Settings of one row of the comparison.

    Attributes:
        after: Label of the row whose adapted detector is the start of this row.
        control: Label of the control row; None for the result of :func:`control_of`.
    """

    method: str
    after: str | None = None
    rotation: float | None = None
    test_time: str | None = None
    epochs: int | None = None
    cycles: int | None = None
    lr: float | None = None
    control: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    test_time_args: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name of the row in tables."""
        rotation = f"rotation {self.rotation:g}°" if self.rotation else None
        test_time = with_settings(self.test_time, self.test_time_args) if self.test_time else None
        method = with_settings(self.method, self.args)
        parts = [f"{self.after.split(' ')[0]}, then {method}" if self.after else method, rotation, test_time]
        stage = [f"{self.epochs} epochs" if self.epochs else None, f"lr {self.lr:g}" if self.lr else None]
        return ", ".join([" + ".join(part for part in parts if part), *(part for part in stage if part)])

    @property
    def family(self) -> str:
        """Label without settings, length and learning rate: a sweep chooses among the rows of one family."""
        return Row(self.method, self.after, self.rotation, self.test_time).label

    @property
    def is_default(self) -> bool:
        """Whether the row has the default settings of its family."""
        return self.label == self.family

    @property
    def folder(self) -> str:
        """Label as a folder name."""
        return "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in self.label).strip("-")

    def overrides(self) -> list[str]:
        """Return the overrides of the row, as arguments of the command line."""
        words = [f"adaptation.name={self.method}", f"adaptation.rotation={self.rotation or 'null'}"]
        words += [f"adaptation.args.{key}={value}" for key, value in self.args.items()]
        words += [f"adaptation.test_time={self.test_time or 'null'}"]
        words += [f"adaptation.test_time_args.{key}={value}" for key, value in self.test_time_args.items()]
        stage = {"epochs": self.epochs, "cycles": self.cycles, "lr": self.lr}
        return words + [f"adaptation.{key}={value}" for key, value in stage.items() if value]


def with_settings(method: str, settings: dict[str, Any]) -> str:
    written = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{method} ({written})" if written else method


def control_of(row: Row, rows: list[Row]) -> str:
    """Return the label of the control of a row.

    Raises:
        InputError: The comparison does not contain the control.
    """
    method = ADAPTATIONS.load(row.method)
    trains_with_source = issubclass(method, TrainingMethod) and method.has_epochs and method.uses_source
    plain = Row(
        "source_finetune", None, row.rotation, row.test_time, row.epochs, row.cycles, test_time_args=row.test_time_args
    )
    label = row.control or (plain.label if trains_with_source and row.label != plain.label else SOURCE_ONLY)
    if label not in {SOURCE_ONLY, *(other.label for other in rows)}:
        raise InputError(f"{ROWS}: {row.label!r} needs the row {label!r} as its control. Add it, or name a control.")
    return label


@dataclass(frozen=True)
class Pair:
    """A pair of domains and the rows that are compared on it.

    Attributes:
        name: name of the folder of the runs, and of the table.
        experiment: the experiment that all runs start from.
        overrides: keys of the configuration that select the domains.
        rows: all rows.
    """

    name: str
    experiment: str
    overrides: list[str]
    rows: list[Row]


def read_pairs() -> dict[str, Pair]:
    """All pairs of ``adaptation.yaml``, by name."""
    described = OmegaConf.to_container(OmegaConf.load(ROWS))["pairs"]
    return {
        name: Pair(name, pair.get("experiment", name), pair.get("overrides", []), [Row(**row) for row in pair["rows"]])
        for name, pair in described.items()
    }


@dataclass(frozen=True)
class Comparison:
    """The runs of one pair of domains."""

    pair: Pair
    rows: list[Row]
    seeds: list[int]
    root: Path
    overrides: list[str]

    def phases(self) -> list[Works]:
        """Return all runs by folder name: source models, then rows, then rows that start from another row."""
        phases: list[Works] = [{self.source(seed).name: partial(self.prepare, seed) for seed in self.seeds}]
        for after in (False, True):
            chosen = [(row, seed) for seed in self.seeds for row in self.rows if bool(row.after) == after]
            phases.append({self.run_folder(row, seed).name: partial(self.run, row, seed) for row, seed in chosen})
        return phases

    @property
    def folder(self) -> Path:
        """The folder of all runs."""
        return self.root / self.pair.name

    def source(self, seed: int) -> Path:
        """Return the folder of the run that trains the source model and the bound."""
        return self.folder / f"source-seed{seed}"

    def run_folder(self, row: Row, seed: int) -> Path:
        """Return the folder of the run of a row."""
        return self.folder / f"{row.folder}-seed{seed}"

    def prepare(self, seed: int) -> str | None:
        """Train the source model and the bound of a seed."""
        return fit(self, self.source(seed), seed, ["adaptation.name=source_only", "bounds=true"])

    def run(self, row: Row, seed: int) -> str | None:
        """Adapt the source model of a seed or the detector of another row."""
        checkpoint = self.source(seed) / "checkpoints" / "source" / "detector.pt"
        if row.after:
            before = next(other for other in self.rows if other.label == row.after)
            checkpoint = self.run_folder(before, seed) / "checkpoints" / "adapt" / "detector.pt"
        return fit(self, self.run_folder(row, seed), seed, [f"checkpoint={checkpoint}", *row.overrides()])


def fit(comparison: Comparison, folder: Path, seed: int, overrides: list[str]) -> str | None:
    """Start or continue one run; return an error message or None."""
    if finished(folder):
        return None
    command = [sys.executable, "-m", "microg_da", "fit"]
    if (folder / "config.yaml").exists():
        command += ["--resume", str(folder)]
    else:
        pair = comparison.pair
        place = ["--experiment", pair.experiment, "--runs", str(comparison.root), "--name", folder.name]
        place += [f"experiment={pair.name}", *pair.overrides]
        # The last epoch is selected, so the other epochs are not validated.
        seeds = [f"seed={seed}", f"synthetic.seed={seed}"]
        command += [*place, *seeds, "training.validate_every=1000", *comparison.overrides, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{' '.join(command)}\n{done.stderr.strip()[-600:]}"


# -------------------------------------------------------------------------------------------------------- table


def collect(comparison: Comparison) -> pd.DataFrame:
    """Return one line per row and seed: scores, seconds, memory, validators."""
    lines = []
    for seed in comparison.seeds:
        for name, label in ORACLE_ROWS.items():
            lines.append(read_line(comparison.source(seed), name, label, seed))
        lines += [row_line(comparison, row, seed) for row in comparison.rows]
    if len(comparison.seeds) == 1:
        add_video_intervals(comparison, [line for line in lines if line and line["control"]])
    table = pd.DataFrame([line for line in lines if line])
    if table.empty:
        return table
    scores = table.pivot_table(index="seed", columns="method", values="target_map")
    lower, upper = (table["seed"].map(scores[name]) for name in ORACLE_ROWS.values())
    return table.assign(gain=table["target_map"] - lower, gap=(table["target_map"] - lower) / (upper - lower))


def row_line(comparison: Comparison, row: Row, seed: int) -> dict[str, Any] | None:
    line = read_line(comparison.run_folder(row, seed), "adapted", row.label, seed)
    if line is None:
        return None
    return line | {"family": row.family, "default": row.is_default, "control": control_of(row, comparison.pair.rows)}


def add_video_intervals(comparison: Comparison, lines: list[dict[str, Any]]) -> None:
    """Add the 95 % interval of the difference to the control over source videos of the test clips, in points.

    One seed has no interval over seeds. This interval does not contain the variation of training.
    """
    draws, rows = Draws(), {row.label: row for row in comparison.rows}
    for line in lines:
        mine, control = (
            RunAnalysis.read(comparison.run_folder(rows[label], line["seed"])) if label in rows else None
            for label in (line["method"], line["control"])
        )
        found = draws.within([mine]) if control is None else draws.between([mine], [control])
        if found is not None:
            line["video_low"], line["video_high"] = (100 * bound for bound in found.change)


def read_line(folder: Path, name: str, label: str, seed: int) -> dict[str, Any] | None:
    if not finished(folder):
        return None
    run = Run(folder)
    result = next(result for result in run.results.variants if result.variant == name)
    maps = {f"{domain}_map": 100 * result.score(domain, "map") for domain in DOMAINS}
    collapsed = result.collapse is not None and result.collapse.collapsed
    known = sorted(knowledge(run.config)) if name == "adapted" else []
    facts = {"seconds": result.seconds, "memory": run.record.peak_memory_mib, "collapsed": collapsed}
    facts["control"] = None
    facts["knows"] = ", ".join(known).replace("_", " ")
    validators = {f"validator/{key}": value for key, value in result.validators.items()}
    return {"method": label, "seed": seed, **maps, **facts, **validators}


# ------------------------------------------------------------------------------------------------------------ main


def run_all(comparison: Comparison, workers: int, storage: str | None, console: Console) -> list[str]:
    """Run all unfinished runs, several in parallel; return the error messages."""
    failures: list[str] = []
    phases = comparison.phases()
    total = sum(map(len, phases))
    with progress_bar(console) as progress:
        task = progress.add_task(comparison.pair.name, total=total)

        def advance(count: int = 1) -> None:
            progress.advance(task, count)
            done = progress.tasks[task].completed
            progress.update(task, description=f"{comparison.pair.name}, {done:.0f} of {total}")

        for number, works in enumerate(phases):

            def one(name: str, works: Works = works) -> None:
                if failure := works[name]():
                    failures.append(failure)
                    console.print(f"[red]failed[/red] {failure}", highlight=False, soft_wrap=True)
                advance()

            jobs = [name for name in works if not finished(comparison.folder / name)]
            advance(len(works) - len(jobs))
            with ThreadPoolExecutor(workers) as pool:
                if storage is None:
                    list(pool.map(one, jobs))
                else:
                    queue = SharedJobs(storage, f"{comparison.pair.name}, {comparison.root.name}, phase {number}")
                    list(pool.map(partial(queue.work_through, jobs), [one] * workers))
    return failures


def chosen_rows(every: list[Row], patterns: list[str]) -> list[Row]:
    """Return the rows that match a pattern, the rows that they start from, and their controls.

    Raises:
        InputError: A pattern matches no label.
    """
    matched = chosen_labels((row.label for row in every), patterns)
    chosen = [row for row in every if row.label in matched]
    needed: set[str] = set()
    for row in chosen:
        needed |= {row.label, control_of(row, every), *([row.after] if row.after else [])}
    return [row for row in every if row.label in needed]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    pairs = read_pairs()
    embedded = [name for name in pairs if name != "weightless"]
    parser.add_argument("--pairs", nargs="+", choices=list(pairs), default=embedded, help="all on embedded data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the network and of the clips")
    parser.add_argument("--workers", type=int, default=1, help="number of parallel runs, which share the cores")
    parser.add_argument("--rows", nargs="+", default=["*"], help="shell-style patterns of labels")
    parser.add_argument("--runs", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--storage", help="shares the runs with other machines; a URL as in the command sweep")
    parser.add_argument("--page", type=Path, help="a page of the documentation that contains the tables")
    parser.add_argument(
        "--table-only", action="store_true", help="print the table of finished runs without starting runs"
    )
    parser.add_argument("overrides", nargs="*", help="configuration keys for all rows, for example adaptation.epochs=3")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // args.workers)))
    console, failed = Console(), False
    for pair in args.pairs:
        rows = chosen_rows(pairs[pair].rows, args.rows)
        comparison = Comparison(pairs[pair], rows, args.seeds, args.runs.absolute(), args.overrides)
        failed |= not args.table_only and bool(run_all(comparison, args.workers, args.storage, console))
        table = collect(comparison)
        if table.empty:
            console.print(f"{pair}: no run is finished.")
            continue
        summary, chosen = summarise(table), choices(table)
        console.print(as_table(summary, f"{pair}: target mAP, mean ± standard deviation over seeds"))
        if not chosen.empty:
            console.print(chosen.round(2).to_string(index=False), highlight=False, soft_wrap=True)
        text = markdown(summary, chosen)
        (args.runs / f"{pair}.md").write_text(text, encoding="utf-8")
        if args.page:
            write_into(args.page, pair, text)
        (args.runs / f"{pair}.json").write_text(table.to_json(orient="records", indent=1), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(exit_status(main, "adaptation"))
