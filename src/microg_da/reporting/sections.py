"""What each part of a run's page shows.

A section is one function here, one template in ``templates/`` and one line in :data:`SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from microg_da.evaluation.protocols import MIN_SUPPORT
from microg_da.reporting import tables
from microg_da.reporting.confusion import confusion_content
from microg_da.reporting.domains import domains_content
from microg_da.reporting.figures import LineChart, line_chart
from microg_da.reporting.finding_text import ABSENT, change_text, few_boxes_text, gap_text, same_data_text
from microg_da.reporting.gallery import OUTCOMES, THRESHOLD, gallery
from microg_da.reporting.roll import roll_responses
from microg_da.reporting.ups import read_arrows
from microg_da.reporting.validators import validators_content
from microg_da.runs.reader import ADAPTED, ROWS, SOURCE_ONLY, RunFolder, flatten

STAGE_TITLES = {
    "source": "Source training",
    "adapt": "Adaptation",
    "target_supervised": "Target-supervised training",
}


@dataclass(frozen=True)
class Section:
    """One part of the page; ``build`` returns what its template shows, or None to leave the section out."""

    key: str
    title: str
    build: Callable[[RunFolder], dict[str, Any] | None]


def headline(run: RunFolder) -> dict[str, Any]:
    """Title, the finding in one sentence's figures, the stamps, and the facts of the run."""
    facts = run.run
    before, after, bound = (_target_map(run, row) for row in ROWS)
    # The row says with which test-time method and under which rolls; a run that is not finished has no row yet.
    method = (run.row(ADAPTED) or {}).get("method") or _name(facts.get("adaptation"))
    shown = {
        "Source": facts.get("source"),
        "Target": facts.get("target"),
        "Model": _model(facts.get("model") or run.settings.get("model")),
        "Adaptation": method,
        "Protocol": facts.get("protocol"),
        "Model selection": facts.get("selection"),
        "Seed": facts.get("seed"),
        "Split": facts.get("split_hash"),
        "Status": facts.get("status"),
        "Peak memory": _counted(facts.get("peak_memory_mib"), "MiB"),
        "Created": _moment(facts.get("created")),
    }
    return {
        "experiment": facts.get("experiment") or "experiment",
        "name": facts.get("name") or run.path.name,
        "embedded": bool(facts.get("embedded_data")),
        "description": facts.get("description"),
        "notice": facts.get("notice"),
        "oracle": bool(facts.get("oracle")),
        "method": method or "adaptation",
        "before": before,
        "after": after,
        "bound": bound,
        "finding": run.finding,
        "change": change_text(run.finding),
        "gap": gap_text(run.finding),
        "absent": ABSENT[run.finding.absent] if run.finding.absent else None,
        "remarks": [text for text in (same_data_text(run.finding), few_boxes_text(run.finding)) if text],
        "source_map": tables.score(run.row(SOURCE_ONLY) or {}, "source", "map"),
        "facts": {key: value for key, value in shown.items() if value not in (None, "")},
        "warnings": facts.get("warnings") or [],
    }


def scores(run: RunFolder) -> dict[str, Any] | None:
    """The table of the rows, and the distance between the domains for each."""
    rows = [
        {
            "name": row["name"],
            "title": tables.ROW_TITLES[row["name"]],
            "method": row.get("method") if row["name"] == ADAPTED else None,
            "source": tables.score(row, "source", "map"),
            "target": {metric: tables.score(row, "target", metric) for metric in tables.METRICS},
            "gap": run.finding.gap_recovered if row["name"] == ADAPTED else None,
            "absent": ABSENT[run.finding.absent] if row["name"] == ADAPTED and run.finding.absent else None,
            "interval": run.intervals.map[row["name"]] if run.intervals else None,
            "verdict": run.finding.change.verdict if row["name"] == ADAPTED and run.finding.change else "unknown",
            "seconds": row.get("seconds"),
        }
        for row in run.results["rows"]
    ]
    target = run.results["rows"][0]["target"] if run.results["rows"] else {}
    counts = {key: target.get(f"num_{key}") for key in ("keyframes", "boxes", "classes_with_ground_truth")}
    if not rows:
        return None
    return {"rows": rows, "metrics": tables.METRICS, "counts": counts, "intervals": run.intervals}


def classes(run: RunFolder) -> dict[str, Any] | None:
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
        "columns": [row for row in ROWS if row in table],
        "intervals": run.intervals.class_change if run.intervals else {},
        "group_intervals": run.intervals.group_change if run.intervals else {},
        "changed": bool(scored["change"].notna().any()),
    }


def curves(run: RunFolder) -> dict[str, Any] | None:
    """Loss and validation curves of each training stage."""
    stages = [(STAGE_TITLES.get(stage, stage), _charts(frame)) for stage, frame in run.curves.items()]
    stages = [(title, charts) for title, charts in stages if charts]
    return {"stages": stages} if stages else None


def examples(run: RunFolder) -> dict[str, Any] | None:
    """The gallery of keyframes."""
    if not run.examples:
        return None
    classes = tables.per_class(run.results)["name"]
    names = dict(zip(classes.index.astype(int), classes.astype(str), strict=True))
    rows, shown = gallery(run.examples, run.path / "examples", names)
    labels = [label for example in shown for person in example.people for label in person.labels]
    seen = [label.outcome for label in labels]
    return {
        "rows": rows,
        "examples": shown,
        "arrows": read_arrows(run.path / "examples", shown),
        "threshold": THRESHOLD,
        "actions": sorted({label.action: label.name for label in labels}.items(), key=lambda item: item[1]),
        "outcomes": [outcome for outcome in OUTCOMES if outcome in seen],
        "domains": list(dict.fromkeys(example.domain for example in shown)),
    }


def confusion(run: RunFolder) -> dict[str, Any] | None:
    """What each label is taken for, before and after adaptation."""
    return None if run.target_test is None else confusion_content(run.target_test)


def domains(run: RunFolder) -> dict[str, Any] | None:
    """RoI features of both domains, drawn and told apart."""
    return domains_content(run.path)


def validators(run: RunFolder) -> dict[str, Any] | None:
    """What could have been said of the detectors without target labels."""
    return validators_content(run.results, run.finding)


def roll(run: RunFolder) -> dict[str, Any] | None:
    """What `roll-response` measured and drew, if it was asked."""
    responses = roll_responses(run.path / "roll_response")
    return {"responses": responses} if responses else None


def details(run: RunFolder) -> dict[str, Any]:
    """The data, the resolved configuration and the environment."""
    data = run.run.get("data")
    return {
        "data": data if isinstance(data, dict) else {},
        "config": run.config,
        "environment": flatten(run.environment),
    }


SECTIONS = (
    Section("scores", "Scores", scores),
    Section("classes", "Classes", classes),
    Section("confusion", "What labels are taken for", confusion),
    Section("roll", "Camera roll", roll),
    Section("domains", "Domains in feature space", domains),
    Section("validators", "Without target labels", validators),
    Section("curves", "Curves", curves),
    Section("examples", "Examples", examples),
    Section("details", "Data, configuration and environment", details),
)


def _charts(frame: pd.DataFrame) -> list[LineChart]:
    """Losses in one chart, validation scores (fractions, shown ×100) in another."""
    values = _by_time(frame)
    train = [name for name in values if name.startswith("train/")]
    train.sort(key=lambda name: name != "train/loss")
    losses = {_prose(name.removeprefix("train/")): values[name] for name in train}
    if "val/loss" in values:
        losses["validation loss"] = values.pop("val/loss")
    titles = {f"val/{metric}": title for metric, title in tables.METRICS.items()}
    titles |= {
        name: _prose(name.removeprefix("val/")) for name in values if name.startswith("val/") and name not in titles
    }
    scored = {title: values[name] for name, title in titles.items() if name in values}
    charts = [line_chart("Loss", losses), line_chart("Validation, ×100", scored, scale=100)]
    return [chart for chart in charts if chart is not None]


def _by_time(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The logged columns as numbers, indexed by epochs done, or by step where an epoch logs more than once."""
    values = frame.apply(pd.to_numeric, errors="coerce")
    if "epoch" in values and values.groupby("epoch").count().drop(columns="step", errors="ignore").le(1).all(axis=None):
        values = values.set_index(values.pop("epoch") + 1)
    elif axis := next((name for name in ("step", "epoch") if name in values), None):
        values = values.set_index(axis)
    else:
        return {}
    return {str(name): column for name, column in values.items()}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.reset_index().to_dict("records")]


def _target_map(run: RunFolder, row: str) -> float:
    return tables.score(run.row(row) or {}, "target", "map")


def _moment(created: Any) -> str | None:
    """A time stamp without fractions of a second; what is no ISO time is shown as it stands."""
    try:
        return datetime.fromisoformat(str(created)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return None if created is None else str(created)


def _name(value: Any) -> str | None:
    return value.get("name") if isinstance(value, dict) else value


def _counted(number: Any, unit: str) -> str | None:
    return f"{number:,} {unit}" if isinstance(number, int) else None


def _model(model: Any) -> str | None:
    if not isinstance(model, dict):
        return model
    parts = [str(model["name"])] if model.get("name") else []
    if parameters := _counted(model.get("parameters"), "parameters"):
        parts.append(parameters)
    if model.get("num_frames") and model.get("sampling_rate"):
        parts.append(f"window {model['num_frames']}×{model['sampling_rate']}")
    return ", ".join(parts) or None


def _prose(name: str) -> str:
    """A key as words: ``target/domain_loss`` → ``target domain loss``."""
    return str(name).replace("/", " ").replace("_", " ")
