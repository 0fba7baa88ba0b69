"""Every adaptation method beside the others: same data, same budget, several seeds.

    python benchmarks/adaptation.py [--pairs ava2microg sim2real] [--seeds 3] [--workers 2] [--rows 'mean_*']
                                    [--runs runs/comparison] [--table-only] [KEY=VALUE …]

What is compared stands in adaptation.yaml beside this file. Each row is an ordinary run of `fit`, in a process of its
own so that seconds and memory are its own, and all rows of a seed start from one source model. A run that is finished
is not run again: stop and start as you like. Prints a table and writes it, with what each label-free validator would
have chosen, to RUNS/PAIR.md and RUNS/PAIR.json. Seconds compare only among runs on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from microg_da.adaptation import knowledge
from microg_da.runs.folder import Run
from microg_da.types import DOMAINS
from microg_da.validation.ranking import advantage_over_default, mean_within

ROWS = Path(__file__).with_suffix(".yaml")
HEADINGS = ("method", "seeds", "source mAP", "target mAP", "gain", "gap recovered", "seconds", "MiB", "verdict")
ORACLE_ROWS = {"source_only": "source_only", "target_supervised": "target_supervised (oracle)"}


@dataclass(frozen=True)
class Row:
    """One method as it is run; ``after`` is the label of the row whose adapted detector it starts from."""

    method: str
    after: str | None = None
    rotation: float | None = None
    test_time: str | None = None
    epochs: int | None = None
    cycles: int | None = None
    lr: float | None = None
    args: dict[str, Any] = field(default_factory=dict)
    test_time_args: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The row's name in tables."""
        rotation = f"rotation {self.rotation:g}°" if self.rotation else None
        test_time = with_settings(self.test_time, self.test_time_args) if self.test_time else None
        method = with_settings(self.method, self.args)
        parts = [f"{self.after.split(' ')[0]}, then {method}" if self.after else method, rotation, test_time]
        stage = [f"{self.epochs} epochs" if self.epochs else None, f"lr {self.lr:g}" if self.lr else None]
        return ", ".join([" + ".join(part for part in parts if part), *(part for part in stage if part)])

    @property
    def family(self) -> str:
        """Rows that differ in settings, length and learning rate alone have one family: what a sweep chooses among."""
        return Row(self.method, self.after, self.rotation, self.test_time).label

    @property
    def is_default(self) -> bool:
        """Whether the row is its family as it comes, nothing chosen."""
        return self.label == self.family

    @property
    def folder(self) -> str:
        """The label as a file name."""
        return "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in self.label).strip("-")

    def overrides(self) -> list[str]:
        """What the row changes in the experiment, as words of the command line."""
        words = [f"adaptation.name={self.method}", f"adaptation.rotation={self.rotation or 'null'}"]
        words += [f"adaptation.args.{key}={value}" for key, value in self.args.items()]
        words += [f"adaptation.test_time={self.test_time or 'null'}"]
        words += [f"adaptation.test_time_args.{key}={value}" for key, value in self.test_time_args.items()]
        stage = {"epochs": self.epochs, "cycles": self.cycles, "lr": self.lr}
        return words + [f"adaptation.{key}={value}" for key, value in stage.items() if value]


def with_settings(method: str, settings: dict[str, Any]) -> str:
    written = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{method} ({written})" if written else method


@dataclass(frozen=True)
class Comparison:
    """The runs of one pair of domains."""

    experiment: str
    rows: list[Row]
    seeds: range
    root: Path
    overrides: list[str]

    def source(self, seed: int) -> Path:
        """The run that trains the source model and the bound."""
        return self.root / self.experiment / f"source-seed{seed}"

    def run_folder(self, row: Row, seed: int) -> Path:
        """The run of one row."""
        return self.root / self.experiment / f"{row.folder}-seed{seed}"

    def prepare(self, seed: int) -> str | None:
        """Train the source model and the bound of a seed."""
        return fit(self, self.source(seed), seed, ["adaptation.name=source_only", "bounds=true"])

    def run(self, row: Row, seed: int) -> str | None:
        """Adapt the source model of a seed, or what another row has made of it."""
        checkpoint = self.source(seed) / "checkpoints" / "source" / "detector.pt"
        if row.after:
            before = next(other for other in self.rows if other.label == row.after)
            checkpoint = self.run_folder(before, seed) / "checkpoints" / "adapt" / "detector.pt"
        return fit(self, self.run_folder(row, seed), seed, [f"checkpoint={checkpoint}", *row.overrides()])


def fit(comparison: Comparison, folder: Path, seed: int, overrides: list[str]) -> str | None:
    """Start or continue one run; returns what went wrong, if anything."""
    if finished(folder):
        return None
    command = [sys.executable, "-m", "microg_da", "fit"]
    if (folder / "config.yaml").exists():
        command += ["--resume", str(folder)]
    else:
        place = ["--experiment", comparison.experiment, "--runs", str(comparison.root), "--name", folder.name]
        command += [*place, f"seed={seed}", *comparison.overrides, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{' '.join(command)}\n{done.stderr.strip()[-600:]}"


def finished(folder: Path) -> bool:
    try:
        return json.loads((folder / "run.json").read_text())["status"] == "finished"
    except FileNotFoundError:
        return False


# ------------------------------------------------------------------------------------------------------- the table


def collect(comparison: Comparison) -> pd.DataFrame:
    """One line a row and seed: scores, seconds, memory, validators."""
    lines = []
    for seed in comparison.seeds:
        for name, label in ORACLE_ROWS.items():
            lines.append(read_line(comparison.source(seed), name, label, seed))
        lines += [row_line(comparison, row, seed) for row in comparison.rows]
    table = pd.DataFrame([line for line in lines if line])
    if table.empty:
        return table
    scores = table.pivot_table(index="seed", columns="method", values="target_map")
    lower, upper = (table["seed"].map(scores[name]) for name in ORACLE_ROWS.values())
    return table.assign(gain=table["target_map"] - lower, gap=(table["target_map"] - lower) / (upper - lower))


def row_line(comparison: Comparison, row: Row, seed: int) -> dict[str, Any] | None:
    line = read_line(comparison.run_folder(row, seed), "adapted", row.label, seed)
    return None if line is None else line | {"family": row.family, "default": row.is_default}


def read_line(folder: Path, name: str, label: str, seed: int) -> dict[str, Any] | None:
    if not finished(folder):
        return None
    run = Run(folder)
    result = next(result for result in run.results.variants if result.variant == name)
    maps = {f"{domain}_map": 100 * result.score(domain, "map") for domain in DOMAINS}
    collapsed = result.collapse is not None and result.collapse.collapsed
    known = sorted(knowledge(run.config)) if name == "adapted" else []
    facts = {"seconds": result.seconds, "memory": run.record.peak_memory_mib, "collapsed": collapsed}
    facts["knows"] = ", ".join(known).replace("_", " ")
    validators = {f"validator/{key}": value for key, value in result.validators.items()}
    return {"method": label, "seed": seed, **maps, **facts, **validators}


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One line a method, in the order of adaptation.yaml."""
    groups = table.groupby("method", sort=False)
    spread = groups[["target_map", "gain"]].std().rename(columns={"target_map": "sd", "gain": "gain_sd"})
    means = groups[["source_map", "target_map", "gain", "gap", "seconds", "memory"]].mean()
    counts = groups.size().rename("seeds")
    marks = groups.agg(collapsed=("collapsed", "sum"), knows=("knows", "first"))
    return means.join(spread).join(counts).join(marks)


def choices(table: pd.DataFrame) -> pd.DataFrame:
    """What each validator would have chosen, seed by seed, among all rows that are no oracle."""
    candidates = table[table["method"] != ORACLE_ROWS["target_supervised"]]
    best = candidates.groupby("seed")["target_map"].max()
    lines = []
    for column in [name for name in table.columns if name.startswith("validator/")]:
        scored = candidates.dropna(subset=[column])
        for guard in (False, True):
            admitted = scored[~scored["collapsed"]] if guard else scored
            if admitted.empty:
                continue
            chosen = admitted.loc[admitted.groupby("seed")[column].idxmax()].set_index("seed")
            between, _ = mean_within(admitted, ["seed"], column, "target_map")
            rows = admitted.dropna(subset=["family"]) if "family" in admitted else admitted.head(0)
            within, families = (
                mean_within(rows, ["seed", "family"], column, "target_map") if len(rows) else (math.nan, 0)
            )
            lines.append(
                {
                    "validator": column.removeprefix("validator/") + (" + guard" if guard else ""),
                    "chosen": ", ".join(dict.fromkeys(chosen["method"])),
                    "target_map": chosen["target_map"].mean(),
                    "regret": (best - chosen["target_map"]).mean(),
                    "rank_correlation": between,
                    "within": within,
                    "families": families,
                    "over_default": over_default(rows, column),
                }
            )
    return pd.DataFrame(lines)


def over_default(rows: pd.DataFrame, column: str) -> float:
    """Points of target mAP that choosing settings by a validator gains over each method's own, at the last epoch."""
    if rows.empty:
        return math.nan
    return advantage_over_default(
        rows, ["seed", "family"], column, "target_map", lambda part: part["default"].astype(bool)
    )[0]


def verdict(line: Any) -> str:
    """Whether a gain is larger than twice its spread over seeds."""
    if line.Index in ORACLE_ROWS.values() or math.isnan(line.gain_sd):
        return ""
    if abs(line.gain) <= 2 * line.gain_sd:
        return "within noise"
    return "gain" if line.gain > 0 else "negative transfer"


def as_table(summary: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in (
        "method",
        "seeds",
        "source mAP",
        "target mAP",
        "gain",
        "gap recovered",
        "seconds",
        "MiB",
        "verdict",
    ):
        table.add_column(heading, justify="left" if heading in ("method", "verdict") else "right")
    for line in summary.itertuples():
        style = "red" if line.gain < 0 else "dim" if line.Index in ORACLE_ROWS.values() else ""
        table.add_row(*cells(line), style=style)
    return table


def cells(line: Any) -> list[str]:
    spread = "" if math.isnan(line.sd) else f" ± {line.sd:.1f}"
    collapsed = f" ({line.collapsed} of {line.seeds} collapsed)" if line.collapsed else ""
    knows = f" (knows {line.knows})" if line.knows else ""
    figures = [f"{line.source_map:.1f}", f"{line.target_map:.1f}{spread}", f"{line.gain:+.1f}", f"{line.gap:.0%}"]
    return [
        f"{line.Index}{knows}{collapsed}",
        str(line.seeds),
        *figures,
        f"{line.seconds:.0f}",
        f"{line.memory:.0f}",
        verdict(line),
    ]


def markdown(summary: pd.DataFrame, chosen: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 2) + "---|"]
    lines += ["| " + " | ".join(cells(line)) + " |" for line in summary.itertuples()]
    headings = "validator | would choose | target mAP | regret | weighted τ | within settings | over default"
    lines += ["", f"| {headings} |", "|---|---|---:|---:|---:|---:|---:|"]
    for line in chosen.itertuples():
        figures = " | ".join(
            [f"{line.target_map:.1f}", f"{line.regret:.1f}"]
            + [
                "–" if math.isnan(value) else f"{value:{form}}"
                for value, form in ((line.rank_correlation, "+.2f"), (line.within, "+.2f"), (line.over_default, "+.1f"))
            ]
        )
        lines.append(f"| {line.validator} | {line.chosen} | {figures} |")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------------------ main


def run_all(comparison: Comparison, workers: int, console: Console) -> list[str]:
    """Every run that is not finished, several at a time; returns the failures."""
    failures: list[str] = []
    total = len(comparison.seeds) * (len(comparison.rows) + 1)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task(comparison.experiment, total=total)

        def one(work: Any) -> None:
            if failure := work():
                failures.append(failure)
                console.print(f"[red]failed[/red] {failure}", highlight=False, soft_wrap=True)
            progress.advance(task)

        list(pool.map(one, [lambda seed=seed: comparison.prepare(seed) for seed in comparison.seeds]))
        for after in (False, True):  # rows that start from another row wait for it
            jobs = [(row, seed) for seed in comparison.seeds for row in comparison.rows if bool(row.after) == after]
            list(pool.map(one, [lambda row=row, seed=seed: comparison.run(row, seed) for row, seed in jobs]))
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    described = OmegaConf.to_container(OmegaConf.load(ROWS))["pairs"]
    parser.add_argument("--pairs", nargs="+", choices=list(described), default=list(described))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each with its share of the cores")
    parser.add_argument("--rows", default="*", help="shell-style pattern of labels")
    parser.add_argument("--runs", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--table-only", action="store_true", help="print what is finished, run nothing")
    parser.add_argument("overrides", nargs="*", help="keys of the configuration for all rows: adaptation.epochs=3")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // args.workers)))
    console, failed = Console(), False
    for pair in args.pairs:
        every = [Row(**line) for line in described[pair]]
        needed = {row.after for row in every if fnmatch.fnmatch(row.label, args.rows)}
        rows = [row for row in every if fnmatch.fnmatch(row.label, args.rows) or row.label in needed]
        comparison = Comparison(pair, rows, range(args.seeds), args.runs.absolute(), args.overrides)
        failed |= not args.table_only and bool(run_all(comparison, args.workers, console))
        table = collect(comparison)
        if table.empty:
            console.print(f"{pair}: nothing is finished yet.")
            continue
        summary, chosen = summarise(table), choices(table)
        console.print(as_table(summary, f"{pair}: target mAP, mean ± standard deviation over seeds"))
        if not chosen.empty:
            console.print(chosen.round(2).to_string(index=False), highlight=False, soft_wrap=True)
        (args.runs / f"{pair}.md").write_text(markdown(summary, chosen), encoding="utf-8")
        (args.runs / f"{pair}.json").write_text(table.to_json(orient="records", indent=1), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
