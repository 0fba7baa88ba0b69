"""Time of the parts of a complete run.

    python benchmarks/end_to_end.py [--experiment ava2microg] [--repeats 1] [--cached] [--json FILE] [key=value …]

Runs `fit` with its report in this process and sums the time of each part. The time of a part does not include its
nested parts: rendering during a test counts as rendering. Clips are rendered again, unless `--cached`. The table shows
wall-clock seconds and processor seconds of all processes. On a shared machine, processor seconds are more reliable.
With --repeats, the table shows medians.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

PARTS = (
    ("microg_da.data.datamodule:open_source", "render clips"),
    ("microg_da.training.experiment:train_stage", "train: {1.name}"),
    ("microg_da.training.experiment:Experiment._show_clips", "adapt: clips that methods read"),
    ("microg_da.training.module:augment_training_batch", "augment"),
    ("microg_da.training.module:DetectorModule.validation_step", "validate"),
    ("microg_da.training.module:DetectorModule.on_validation_epoch_end", "validate"),
    ("microg_da.training.experiment:score_detector", "test"),
    ("microg_da.training.experiment:validate_detector", "test: label-free validators"),
    ("microg_da.training.experiment:write_examples", "examples"),
    ("microg_da.workflow:write_report", "report"),
)
"""Functions and the names of their parts; ``{1}`` is the second argument of the call."""

IMPORT, REST = "import", "everything else"


class Stopwatch:
    """Sum of the seconds of nested parts. Time counts for the innermost part only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self._open = [REST]
        self._since = self._now()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the context to the part ``name``."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        now = self._now()
        for sums, before, after in zip((self.seconds, self.processor), self._since, now, strict=True):
            sums[self._open[-1]] = sums.get(self._open[-1], 0.0) + after - before
        self._since = now

    @staticmethod
    def _now() -> tuple[float, float]:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter(), time.process_time() + ended.ru_utime + ended.ru_stime

    def wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return the function as a timed part."""

        @functools.wraps(function)
        def counted(*args: Any, **options: Any) -> Any:
            with self.part(name.format(*args) if "{" in name else name):
                return function(*args, **options)

        return counted


def run(experiment: str, overrides: list[str], cached: bool) -> Stopwatch:
    """Run the experiment in a temporary folder."""
    watch = Stopwatch()
    with watch.part(IMPORT):
        targets = [(*resolve(target), name) for target, name in PARTS]
        from microg_da import fit
        from microg_da.config import load_config
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not cached:
            stack.enter_context(mock.patch.dict(os.environ, {"MICROG_DA_CACHE": str(folder / "cache")}))
        for owner, attribute, name in targets:
            stack.enter_context(mock.patch.object(owner, attribute, watch.wrap(getattr(owner, attribute), name)))
        fit(load_config(experiment, overrides), root=folder / "runs", console=Console(stderr=True))
        with watch.part(REST):
            pass
    return watch


def resolve(target: str) -> tuple[Any, str]:
    """Return the object that contains ``module:dotted.name``, and the name of the attribute."""
    module, _, path = target.partition(":")
    *owners, attribute = path.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(module)), attribute


def main(words: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--experiment", default="ava2microg")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--cached", action="store_true", help="use clips from the cache of an earlier run")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    watches = [run(args.experiment, args.overrides, args.cached) for _ in range(args.repeats)]
    names = sorted(watches[0].seconds, key=lambda name: -watches[0].seconds[name])
    parts = {
        name: {
            "seconds": statistics.median(watch.seconds.get(name, 0.0) for watch in watches),
            "processor_seconds": statistics.median(watch.processor.get(name, 0.0) for watch in watches),
        }
        for name in names
    }
    whole = {key: sum(part[key] for part in parts.values()) for key in ("seconds", "processor_seconds")}
    table = Table("part", title=f"fit --experiment {args.experiment} {' '.join(args.overrides)}", title_justify="left")
    for heading in ("s", "processor s", "share of processor"):
        table.add_column(heading, justify="right")
    for name, part in [*parts.items(), ("all", whole)]:
        share = part["processor_seconds"] / whole["processor_seconds"]
        table.add_row(name, f"{part['seconds']:.1f}", f"{part['processor_seconds']:.1f}", f"{share:.0%}")
    Console().print(table)
    content = {"experiment": args.experiment, "overrides": args.overrides, "parts": parts, "all": whole}
    if args.json:
        args.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return content


if __name__ == "__main__":
    main()
