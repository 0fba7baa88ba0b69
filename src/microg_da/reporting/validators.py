"""Values of every label-free validator for a run's detectors, next to the scores with target labels."""

from __future__ import annotations

import math
from collections.abc import Mapping

from microg_da.evaluation.finding import Finding
from microg_da.reporting.content import Content
from microg_da.reporting.tables import brief, per_class
from microg_da.runs.results import RunResults
from microg_da.types import Variant
from microg_da.validation import VALIDATORS
from microg_da.validation.collapse_report import CollapseReport


def validators_content(results: RunResults, finding: Finding) -> Content | None:
    """Return a row per validator, the detector that it prefers, and the result of the detection of collapse.

    Args:
        results: the scores of every variant.
        finding: the finding of the run. Without a measurable change, target mAP prefers no detector.
    """
    asked = [result for result in results.variants if result.validators]
    if not asked:
        return None
    maps = {result.variant: result.target.map for result in asked}
    measurable = finding.change is not None and finding.change.measurable
    lines = []
    for name in dict.fromkeys(name for result in asked for name in result.validators):
        values = {result.variant: result.validators.get(name, math.nan) for result in asked}
        summary = VALIDATORS.entry(name).summary if name in VALIDATORS else ""
        lines.append({"name": name, "summary": summary, "values": values, "prefers": _preferred(values)})
    names = {int(str(action)): str(name) for action, name in per_class(results)["name"].items()}
    return {
        "variants": [result.variant for result in asked],
        "lines": lines,
        "maps": maps,
        "better": _preferred(maps) if measurable else None,
        "change": finding.change.verdict if finding.change else None,
        "guards": [
            {"variant": result.variant, "report": result.collapse, "flagged": _flagged(result.collapse, names)}
            for result in asked
            if result.collapse
        ],
    }


def _preferred(values: Mapping[Variant, float]) -> Variant | None:
    """Return the detector with the higher value, source-only or adapted; None if values are not comparable."""
    before, after = values.get("source_only", math.nan), values.get("adapted", math.nan)
    if math.isnan(before) or math.isnan(after) or before == after:
        return None
    return "adapted" if after > before else "source_only"


def _flagged(report: CollapseReport, names: Mapping[int, str]) -> list[str]:
    return [brief(names.get(action, f"action {action}")) for action in report.flagged]
