"""Contents of each part of a run's page.

A section is one function here, one template in ``templates/`` and one line in :data:`SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from microg_da.evaluation.protocols import MIN_SUPPORT
from microg_da.reporting import tables
from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.confusion import confusion_content
from microg_da.reporting.content import Content
from microg_da.reporting.domains import domains_content
from microg_da.reporting.figures import LineChart, line_chart
from microg_da.reporting.finding_text import ABSENT, change_text, few_boxes_text, gap_text, same_data_text
from microg_da.reporting.gallery import OUTCOMES, THRESHOLD, gallery
from microg_da.reporting.roll import roll_responses
from microg_da.reporting.ups import arrows_of
from microg_da.reporting.validators import validators_content
from microg_da.runs.example_ups import read_ups
from microg_da.runs.record import ModelFacts
from microg_da.runs.results import VariantResult
from microg_da.types import VARIANTS

STAGE_TITLES = {
    "source": "Source training",
    "adapt": "Adaptation",
    "target_supervised": "Target-supervised training",
}


@dataclass(frozen=True)
class Section:
    """One part of the page; ``build`` returns the content of its template, or None to omit the section."""

    key: str
    title: str
    build: Callable[[RunAnalysis], Content | None]


def headline(run: RunAnalysis) -> Content:
    """Return the title, the finding, the marks, and the facts of the run."""
    record, results, finding = run.record, run.results, run.finding
    before, after, bound = (results.score(variant, "target", "map") for variant in VARIANTS)
    # The result also names the test-time method and the rolls; an unfinished run has no result.
    method = results.adapted.method if results.adapted else record.adaptation
    shown = {
        "Source": record.source,
        "Target": record.target,
        "Model": _model(record.model) if record.model else run.run.settings.get("model.name"),
        "Adaptation": method,
        "Protocol": record.protocol,
        "Model selection": record.selection,
        "Seed": record.seed,
        "Split": record.split_hash,
        "Status": record.status,
        "Peak memory": None if record.peak_memory_mib is None else _counted(record.peak_memory_mib, "MiB"),
        "Created": _moment(record.created),
    }
    return {
        "experiment": record.experiment or "experiment",
        "name": record.name or run.run.path.name,
        "embedded": record.embedded_data,
        "description": record.description,
        "notice": record.notice,
        "oracle": record.oracle,
        "method": method or "adaptation",
        "before": before,
        "after": after,
        "bound": bound,
        "finding": finding,
        "change": change_text(finding),
        "gap": gap_text(finding),
        "absent": ABSENT[finding.absent] if finding.absent else None,
        "remarks": [text for text in (same_data_text(finding), few_boxes_text(finding)) if text],
        "source_map": results.score("source_only", "source", "map"),
        "facts": {key: value for key, value in shown.items() if value not in (None, "")},
        "warnings": record.warnings,
    }


def scores(run: RunAnalysis) -> Content | None:
    """The table of the variants, and the distance between the domains for each."""
    results = run.results.variants
    if not results:
        return None
    target = results[0].target
    counts = {
        "keyframes": target.num_keyframes,
        "boxes": target.num_boxes,
        "classes_with_ground_truth": target.num_classes_with_ground_truth,
    }
    lines = [_score_line(run, result) for result in results]
    return {"lines": lines, "metrics": _metrics(run), "counts": counts, "intervals": run.intervals}


def _metrics(run: RunAnalysis) -> dict[str, str]:
    return tables.metrics_of(*(result.target for result in run.results.variants))


def _score_line(run: RunAnalysis, result: VariantResult) -> Content:
    finding = run.finding
    line: dict[str, object] = {
        "variant": result.variant,
        "title": tables.VARIANT_TITLES[result.variant],
        "source": result.score("source", "map"),
        "target": {metric: result.score("target", metric) for metric in _metrics(run)},
        "interval": run.intervals.map[result.variant] if run.intervals else None,
        "seconds": result.seconds,
    }
    if result.variant != "adapted":
        return line | {"method": None, "gap": None, "absent": None, "verdict": "unknown"}
    return line | {
        "method": result.method,
        "gap": finding.gap_recovered,
        "absent": ABSENT[finding.absent] if finding.absent else None,
        "verdict": finding.change.verdict if finding.change else "unknown",
    }


def classes(run: RunAnalysis) -> Content | None:
    """AP of every class on the target, with its group and support, sorted by change."""
    table = tables.per_class(run.results)
    if table.empty:
        return None
    scored = table[table["support"] > 0]
    groups = tables.per_group(table)
    return {
        "classes": _records(scored),
        "groups": _records(groups),
        "unscored": sorted(str(name) for name in table.loc[table["support"] == 0, "name"]),
        "few": MIN_SUPPORT,
        "columns": [variant for variant in VARIANTS if variant in table],
        "intervals": run.intervals.class_change if run.intervals else {},
        "group_intervals": run.intervals.group_change if run.intervals else {},
        "changed": bool(scored["change"].notna().any()),
    }


def curves(run: RunAnalysis) -> Content | None:
    """Loss and validation curves of each training stage."""
    stages = [(STAGE_TITLES.get(stage, stage), _charts(frame)) for stage, frame in run.curves.items()]
    stages = [(title, charts) for title, charts in stages if charts]
    return {"stages": stages} if stages else None


def examples(run: RunAnalysis) -> Content | None:
    """The gallery of keyframes."""
    if not run.examples:
        return None
    classes = tables.per_class(run.results)["name"]
    names = dict(zip(classes.index.astype(int), classes.astype(str), strict=True))
    variants, shown = gallery(run.examples, run.run.examples_file.parent, names)
    labels = [label for example in shown for person in example.people for label in person.labels]
    seen = [label.outcome for label in labels]
    return {
        "variants": variants,
        "examples": shown,
        "arrows": arrows_of(read_ups(run.run.example_ups_file), shown),
        "threshold": THRESHOLD,
        "actions": sorted({label.action: label.name for label in labels}.items(), key=lambda item: item[1]),
        "outcomes": [outcome for outcome in OUTCOMES if outcome in seen],
        "domains": list(dict.fromkeys(example.domain for example in shown)),
    }


def confusion(run: RunAnalysis) -> Content | None:
    """Confusion of each label, before and after adaptation."""
    return None if run.target_test is None else confusion_content(run.target_test)


def domains(run: RunAnalysis) -> Content | None:
    """Return pictures and separability of RoI features of both domains."""
    return domains_content(run.run, run.taxonomy)


def validators(run: RunAnalysis) -> Content | None:
    """Values of the label-free validators for the detectors."""
    return validators_content(run.results, run.finding)


def roll(run: RunAnalysis) -> Content | None:
    """Return the results of `roll-response`, if any."""
    responses = roll_responses(run.run.roll_response_folder)
    return {"responses": responses} if responses else None


def details(run: RunAnalysis) -> Content:
    """The data, the resolved configuration and the environment."""
    return {"data": run.record.data, "config": run.run.config_text, "environment": run.environment}


SECTIONS = (
    Section("scores", "Scores", scores),
    Section("classes", "Classes", classes),
    Section("confusion", "Confusion", confusion),
    Section("roll", "Camera roll", roll),
    Section("domains", "Domains in feature space", domains),
    Section("validators", "Without target labels", validators),
    Section("curves", "Curves", curves),
    Section("examples", "Examples", examples),
    Section("details", "Data, configuration and environment", details),
)


def _charts(frame: pd.DataFrame) -> list[LineChart]:
    """Return a chart of losses and a chart of validation scores (fractions, shown ×100)."""
    values = _by_time(frame)
    train = [name for name in values if name.startswith("train/")]
    train.sort(key=lambda name: name != "train/loss")
    losses = {_prose(name.removeprefix("train/")): values[name] for name in train}
    if "val/loss" in values:
        losses["validation loss"] = values.pop("val/loss")
    titles = {f"val/{metric}": title for metric, title in (tables.METRICS | tables.TOP1).items()}
    titles |= {
        name: _prose(name.removeprefix("val/")) for name in values if name.startswith("val/") and name not in titles
    }
    scored = {title: values[name] for name, title in titles.items() if name in values}
    charts = [line_chart("Loss", losses), line_chart("Validation, ×100", scored, scale=100)]
    return [chart for chart in charts if chart is not None]


def _by_time(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Return logged columns as numbers, indexed by completed epochs, or by step for several logs per epoch."""
    values = frame.apply(pd.to_numeric, errors="coerce")
    if "epoch" in values and values.groupby("epoch").count().drop(columns="step", errors="ignore").le(1).all(axis=None):
        values = values.set_index(values.pop("epoch") + 1)
    elif axis := next((name for name in ("step", "epoch") if name in values), None):
        values = values.set_index(axis)
    else:
        return {}
    return {str(name): column for name, column in values.items()}


def _records(table: pd.DataFrame) -> list[Content]:
    return [{str(key): value for key, value in line.items()} for line in table.reset_index().to_dict("records")]


def _moment(created: str) -> str:
    """Format a time stamp without fractions of a second; return other text unchanged."""
    try:
        return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return created


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}"


def _model(model: ModelFacts) -> str:
    return f"{model.name}, {_counted(model.parameters, 'parameters')}, window {model.num_frames}×{model.sampling_rate}"


def _prose(name: str) -> str:
    """Return a key as words: ``target/domain_loss`` → ``target domain loss``."""
    return str(name).replace("/", " ").replace("_", " ")
