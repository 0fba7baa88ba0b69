"""`text-eval`: score captions or answers with the benchmark's metrics, next to blind baselines."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from microg_da.text.items import References
    from microg_da.text.scoring import TextScores

MODEL = "predictions"
WARNING = (
    "A baseline that reads references reproduces their style; do not rank it against a zero-shot model. "
    "It shows how far the benchmark can be answered without the video."
)


@dataclass(frozen=True)
class _Scored:
    """A system, its inputs and its scores."""

    name: str
    saw: str
    scores: TextScores


@dataclass(frozen=True)
class _About:
    """Inputs and settings of the scores, with the keys of the JSON output."""

    task: str
    protocol: str
    items: int
    notes: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `text-eval`."""
    parser.add_argument(
        "--predictions", metavar="JSON", help="predictions: {video_id: caption}, or records with qa_pairs of Q and A"
    )
    parser.add_argument("--references", required=True, metavar="JSON", help="MicroG-4M's vqa_and_captioning.json")
    parser.add_argument("--task", required=True, help="task: caption or vqa")
    parser.add_argument(
        "--protocol", default="ptb", help="tokens: released (raw words, as in the paper) or ptb (default)"
    )
    parser.add_argument(
        "--metrics", help="any of cider,bleu4,rougeL,meteor,sbert,bertscore (default: all that are available)"
    )
    parser.add_argument("--bertscore-model", metavar="DIR", help="local model folder for BERTScore")
    parser.add_argument("--missing", default="error", help="treatment of missing predictions: error (default) or empty")
    parser.add_argument(
        "--by", default="", help="also score by source, answerable or qtype (separate several by commas)"
    )
    parser.add_argument(
        "--baselines", action="store_true", help="also score baselines that do not see the video; needs no predictions"
    )
    parser.add_argument("--ci", action="store_true", help="95%% intervals by bootstrap over source videos")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(args: argparse.Namespace) -> int:
    """Score, then print tables or JSON."""
    from microg_da.errors import InputError
    from microg_da.text.items import match, read_references, read_texts
    from microg_da.text.scoring import DEFAULT_METRICS, Scorer

    if not args.predictions and not args.baselines:
        raise InputError("text-eval: nothing to score: give --predictions JSON, --baselines, or both.")
    metrics = _listed(args.metrics) or [*DEFAULT_METRICS, *(["bertscore"] if args.bertscore_model else [])]
    references = read_references(args.references, args.task)
    notes = [f"references: {note}" for note in references.notes]
    submissions: list[tuple[str, str, list[str]]] = []
    scorer = Scorer(references.table, metrics, args.protocol, args.bertscore_model)
    if args.predictions:
        predictions, repeated = read_texts(args.predictions, args.task)
        texts, coverage = match(predictions, references, args.missing, args.predictions)
        notes += [*(f"predictions: {note}" for note in repeated), f"coverage: {coverage}"]
        submissions.append((MODEL, "the model's inputs", texts))
    if args.baselines:
        submissions += _baselines(references, "sbert" in metrics)
        notes.append(WARNING)
    systems = [_Scored(name, saw, scorer.score(texts, _listed(args.by), args.ci)) for name, saw, texts in submissions]
    absent = {} if "bertscore" in metrics else {"bertscore": "not computed: needs --bertscore-model DIR"}
    about = _About(args.task, args.protocol, len(references.table), notes)
    (_print_json if args.json else _print_tables)(about, systems, absent)
    return 0


def _baselines(references: References, embeddings: bool) -> Iterator[tuple[str, str, list[str]]]:
    """Return the name, the inputs and the texts of each blind baseline."""
    from microg_da.text.baselines import baselines
    from microg_da.text.sbert import shared_embedder

    for baseline in baselines(references.table, references.task, shared_embedder() if embeddings else None):
        yield baseline.name, baseline.saw, baseline.texts


def _listed(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _print_json(about: _About, systems: list[_Scored], absent: dict[str, str]) -> None:
    from microg_da.files import to_json
    from microg_da.text.scoring import as_dict

    rows = [{"name": one.name, "saw": one.saw, **as_dict(one.scores)} for one in systems]
    print(to_json({**asdict(about), "not_computed": absent, "systems": rows}))


def _print_tables(about: _About, systems: list[_Scored], absent: dict[str, str]) -> None:
    from microg_da.terminal import output_console

    console = output_console()
    sets = {"overall": f"all {about.items:,} items", "headline": "mean over source videos"}
    if about.task == "vqa":
        sets["headline"] += ", answerable items"
        sets = {"overall": sets["overall"], "answerable": "answerable items", "headline": sets["headline"]}
    for attribute, title in sets.items():
        _print_set(console, f"{about.task}, protocol {about.protocol}: {title}", attribute, systems)
    for system in systems:
        for by, parts in system.scores.parts.items():
            _print_parts(console, f"{system.name}, by {by}", parts)
    for note in [*about.notes, *(f"{name}: {reason}" for name, reason in absent.items())]:
        console.print(note, highlight=False, markup=False)


def _print_set(console: Console, title: str, attribute: str, systems: list[_Scored]) -> None:
    from rich.table import Table

    from microg_da.terminal import print_table

    metrics = list(systems[0].scores.overall)
    table = Table("system", "saw", *metrics, title=title, title_justify="left")
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    for system in systems:
        scores = system.scores
        values, intervals = getattr(scores, attribute), scores.intervals.get(attribute, {})
        table.add_row(system.name, system.saw, *(_cell(values[name], intervals.get(name)) for name in metrics))
    print_table(table, console)


def _print_parts(console: Console, title: str, parts: dict[str, dict[str, float]]) -> None:
    from rich.table import Table

    from microg_da.terminal import print_table

    columns = list(next(iter(parts.values())))
    table = Table("part", *columns, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for part, values in parts.items():
        table.add_row(part, f"{values['items']:,}", *(_cell(values[name]) for name in columns[1:]))
    print_table(table, console)


def _cell(value: float, interval: tuple[float, float] | None = None) -> str:
    text = "–" if value != value else f"{value:.1f}"
    return f"{text} [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else text
