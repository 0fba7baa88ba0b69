"""Head-level methods on a frozen encoder: scores, and processor time with and without a feature store.

    python benchmarks/feature_store.py --jhmdb data/jhmdb --store features [--methods source_finetune cdan mcc …]
                                       [--without cdan] [--seeds 0] [--runs runs/feature_store] [-- KEY=VALUE …]

The experiment is earth2weightless with `model.freeze=all` and no temporal module. Each line of the table is a complete
run: training on the source, adaptation, tests of both detectors. `--without` repeats the first seed of some methods
without the store. "Entries" is the number of entries that the run adds to the store; the time of the run includes their
encoding. Finished runs are not repeated. The program prints a table and writes it to RUNS/feature_store.md and .json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd

from microg_da.config import load_config
from microg_da.training.runner import run_experiment

METHODS = [
    *("source_finetune", "cdan", "sdat", "mcd", "dda_mlic", "mcc", "aad", "self_training", "roll_tta"),
    *("joint", "target_supervised"),
]
"""Controls and methods that act on the head; the last two are oracles."""


def words(args: argparse.Namespace, method: str, seed: int, store: Path | None) -> list[str]:
    """Return the configuration keys of one run."""
    data = f"jhmdb:{args.jhmdb}"
    return [
        *(f"data.source={data}", f"data.target={data}?gravity=rolled", "model.freeze=all"),
        *("model.options.temporal=none", f"adaptation={method}", f"seed={seed}"),
        *([] if store is None else [f"data.feature_store={store}"]),
        *args.overrides,
    ]


def measure(args: argparse.Namespace, method: str, seed: int, store: Path | None) -> dict[str, object]:
    """Run one setting, or read its stored result."""
    name = f"{method}-seed{seed}-{'frames' if store is None else 'store'}"
    known = args.runs / f"{name}.json"
    if known.exists():
        return json.loads(known.read_text())
    before, cpu, wall = entries(store), time.process_time(), time.perf_counter()
    run = run_experiment(load_config("earth2weightless", words(args, method, seed, store)), root=args.runs, name=name)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    results = run.results
    scores = {
        f"{variant} {domain}": getattr(result, domain).map
        for variant in ("source_only", "adapted")
        if (result := results.get(variant)) is not None
        for domain in ("source", "target")
    }
    line = {
        **{"method": method, "seed": seed, "reads": "frames" if store is None else "store"},
        **{key: round(100 * value, 2) for key, value in scores.items()},
        **{"entries": entries(store) - before, "CPU s": round(cpu, 1), "wall s": round(wall, 1)},
    }
    known.write_text(json.dumps(line))
    return line


def entries(store: Path | None) -> int:
    """Return the number of entries of a store."""
    return 0 if store is None else len(list(store.rglob("entry.json")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jhmdb", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/feature_store"))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_intermixed_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    asked = [(method, seed, args.store) for seed in args.seeds for method in args.methods]
    asked += [(method, args.seeds[0], None) for method in args.without]
    lines = []
    for each in asked:
        lines.append(measure(args, *each))
        table = pd.DataFrame(lines)
        (args.runs / "feature_store.md").write_text(table.to_markdown(index=False) + "\n")
        table.to_json(args.runs / "feature_store.json", orient="records", indent=1)
    print(table.to_markdown(index=False))


if __name__ == "__main__":
    main()
