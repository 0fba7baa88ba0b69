"""The model card: the run's honest numbers, in words and in the hub's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from microg_da.config import Config
from microg_da.export.onnx_file import OnnxFile
from microg_da.files import write_text
from microg_da.reporting.finding_text import ABSENT, finding_lines
from microg_da.reporting.tables import METRICS, ROW_TITLES, finding_of, percent
from microg_da.runs.detectors import TrainedDetector

_ORACLE = "target labels took part in training or choosing this model; it is an oracle, and no adaptation"


def write_model_card(path: Path, trained: TrainedDetector, test_time_method: str | None, onnx: OnnxFile | None) -> None:
    """Write ``README.md`` for an exported detector.

    Args:
        path: the file.
        trained: the detector and its run.
        test_time_method: what the row was tested through, where that is not in the weights.
        onnx: the ONNX file beside it.
    """
    run = trained.run
    finding = finding_of(run.results)
    environment = Environment(
        loader=PackageLoader("microg_da.export"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    body = environment.get_template("model_card.md.j2").render(
        name=_name(trained),
        row=trained.row,
        row_title=ROW_TITLES[trained.row],
        row_titles=ROW_TITLES,
        rows=run.results["rows"],
        metrics=METRICS,
        gap_recovered=finding.gap_recovered,
        no_gap_recovered=ABSENT[finding.absent] if finding.absent else None,
        finding=finding_lines(finding),
        percent=percent,
        record=run.record,
        config=run.config,
        cautions=_cautions(trained, test_time_method),
        test_time_method=test_time_method,
        onnx=onnx,
    )
    matter = yaml.safe_dump(_front_matter(trained, test_time_method), sort_keys=False, allow_unicode=True, width=1000)
    write_text(path, f"---\n{matter}---\n\n{body}")


def _name(trained: TrainedDetector) -> str:
    return f"{trained.run.config.experiment}/{trained.run.path.name}, {trained.row}"


def _cautions(trained: TrainedDetector, test_time_method: str | None) -> list[str]:
    """What a reader must know before a number is believed, most serious first."""
    record = trained.run.record
    cautions = []
    # The source-only detector has seen no target label, whatever was done with them afterwards.
    if record["oracle"] and trained.row == "adapted":
        cautions.append(f"**Oracle**: {_ORACLE}.")
    if trained.row == "target_supervised":
        cautions.append("**Bound**: trained on labelled target clips, to show what target labels could give.")
    if test_time_method:
        cautions.append(
            f"**Not in the weights**: the scores of this row were measured through `{test_time_method}`, which acts at "
            f"test time. The weights and the ONNX file alone predict without it, and that was not measured."
        )
    if record.get("notice"):
        cautions.append(f"**Embedded data**: {record['notice']}.")
    if record.get("status") != "finished":
        cautions.append(f"**Unfinished run**: {record.get('status')}.")
    return cautions + [f"**Warning of the run**: {warning}." for warning in record.get("warnings", [])]


def _front_matter(trained: TrainedDetector, test_time_method: str | None) -> dict[str, Any]:
    config = trained.run.config
    tags = ["action-detection", "domain-adaptation", "microgravity", config.model.name]
    if trained.run.record["oracle"] and trained.row == "adapted":
        tags.append("oracle")
    return {
        "library_name": "microg_da",
        "pipeline_tag": "video-classification",
        "tags": tags,
        "model-index": [{"name": _name(trained), "results": _results(trained, test_time_method)}],
    }


def _results(trained: TrainedDetector, test_time_method: str | None) -> list[dict[str, Any]]:
    """One entry for each domain: the exported row with all its scores, the others' mAP to compare it with."""
    rows = trained.run.results["rows"]
    own = trained.run.row(trained.row) or {}
    through = f", through {test_time_method} at test time (not in the weights)" if test_time_method else ""
    results = []
    for domain in ("target", "source"):
        metrics = [
            {"type": kind, "name": f"{title}{through}", "value": own[domain][kind]}
            for kind, title in METRICS.items()
            if (own.get(domain) or {}).get(kind) is not None
        ]
        metrics += [
            {"type": "map", "name": f"mAP of {ROW_TITLES[row['name']]} (other weights)", "value": row[domain]["map"]}
            for row in rows
            if row["name"] != trained.row and (row.get(domain) or {}).get("map") is not None
        ]
        if metrics:
            task = {"type": "video-classification", "name": "spatio-temporal action detection"}
            results.append({"task": task, "dataset": _dataset(trained.run.config, domain), "metrics": metrics})
    return results


def _dataset(config: Config, domain: str) -> dict[str, str]:
    """The data of a domain as the hub names it; a folder on somebody's disk is nobody else's business."""
    source = config.data.source if domain == "source" else config.data.target
    kind = source if source.startswith("synthetic:") else source.partition(":")[0]
    split = {"split": "test", "config": f"{domain} domain, protocol {config.evaluation.protocol}"}
    return {"type": kind.replace(":", "-"), "name": kind, **split}
