"""The model card: the scores of the run and their limitations, as text and in the format of the Hugging Face Hub."""

from __future__ import annotations

import math
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from microg_da.config import Config
from microg_da.export.onnx_file import OnnxFile
from microg_da.files import write_text
from microg_da.reporting.finding_text import ABSENT, finding_lines
from microg_da.reporting.numbers import percent
from microg_da.reporting.tables import METRICS, VARIANT_TITLES, finding_of
from microg_da.runs.detectors import RunDetector
from microg_da.types import DOMAINS, Domain

_ORACLE = "target labels took part in training or selection of this model, so it is not an unsupervised adaptation"


def write_model_card(path: Path, loaded: RunDetector, test_time_method: str | None, onnx: OnnxFile | None) -> None:
    """Write ``README.md`` for an exported detector.

    Args:
        path: the file.
        loaded: the detector and its run.
        test_time_method: the test-time method with which the variant was tested, or None.
        onnx: the ONNX file in the same folder, or None.
    """
    run = loaded.run
    results = run.results
    finding = finding_of(results)
    environment = Environment(
        loader=PackageLoader("microg_da.export"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    body = environment.get_template("model_card.md.j2").render(
        name=_name(loaded),
        variant=loaded.variant,
        titles=VARIANT_TITLES,
        results=results.variants,
        metrics=METRICS,
        gap_recovered=finding.gap_recovered,
        no_gap_recovered=ABSENT[finding.absent] if finding.absent else None,
        finding=finding_lines(finding),
        percent=percent,
        record=run.record,
        config=run.config,
        cautions=_cautions(loaded, test_time_method),
        test_time_method=test_time_method,
        onnx=onnx,
    )
    matter = yaml.safe_dump(_front_matter(loaded, test_time_method), sort_keys=False, allow_unicode=True, width=1000)
    write_text(path, f"---\n{matter}---\n\n{body}")


def _name(loaded: RunDetector) -> str:
    return f"{loaded.run.config.experiment}/{loaded.run.path.name}, {loaded.variant}"


def _cautions(loaded: RunDetector, test_time_method: str | None) -> list[str]:
    """Return the limitations of the scores, most serious first."""
    record = loaded.run.record
    cautions = []
    # The source-only detector has no access to target labels, even in oracle runs.
    if record.oracle and loaded.variant == "adapted":
        cautions.append(f"**Oracle**: {_ORACLE}.")
    if loaded.variant == "target_supervised":
        cautions.append("**Bound**: this model was trained on labelled target clips, as an upper bound for adaptation.")
    if test_time_method:
        cautions.append(
            f"**Not in the weights**: the scores of this variant were measured with the test-time method "
            f"`{test_time_method}`. The exported weights and the ONNX file do not contain the method, and their scores "
            f"were not measured."
        )
    if record.notice:
        cautions.append(f"**Embedded data**: {record.notice}.")
    if record.status != "finished":
        cautions.append(f"**Unfinished run**: {record.status}.")
    return cautions + [f"**Warning of the run**: {warning}." for warning in record.warnings]


def _front_matter(loaded: RunDetector, test_time_method: str | None) -> dict[str, object]:
    config = loaded.run.config
    tags = ["action-detection", "domain-adaptation", "microgravity", config.model.name]
    if loaded.run.record.oracle and loaded.variant == "adapted":
        tags.append("oracle")
    return {
        "library_name": "microg_da",
        "pipeline_tag": "video-classification",
        "tags": tags,
        "model-index": [{"name": _name(loaded), "results": _results(loaded, test_time_method)}],
    }


def _results(loaded: RunDetector, test_time_method: str | None) -> list[dict[str, object]]:
    """Return one entry for each domain: all scores of the exported variant, and the mAP of the other variants."""
    results = loaded.run.results
    through = f", with {test_time_method} at test time (not in the weights)" if test_time_method else ""
    entries: list[dict[str, object]] = []
    for domain in reversed(DOMAINS):
        own = {kind: results.score(loaded.variant, domain, kind) for kind in METRICS}
        others = {r.variant: r.score(domain, "map") for r in results.variants if r.variant != loaded.variant}
        metrics: list[dict[str, object]] = [
            {"type": kind, "name": f"{METRICS[kind]}{through}", "value": value}
            for kind, value in own.items()
            if not math.isnan(value)
        ]
        metrics += [
            {"type": "map", "name": f"mAP of {VARIANT_TITLES[variant]} (other weights)", "value": value}
            for variant, value in others.items()
            if not math.isnan(value)
        ]
        if metrics:
            task = {"type": "video-classification", "name": "spatio-temporal action detection"}
            entries.append({"task": task, "dataset": _dataset(loaded.run.config, domain), "metrics": metrics})
    return entries


def _dataset(config: Config, domain: Domain) -> dict[str, str]:
    """Return the data of a domain in the format of the Hugging Face Hub, without names of folders."""
    source = config.data.source if domain == "source" else config.data.target
    kind = source if source.startswith("synthetic:") else source.partition(":")[0]
    split = {"split": "test", "config": f"{domain} domain, protocol {config.evaluation.protocol}"}
    return {"type": kind.replace(":", "-"), "name": kind, **split}
