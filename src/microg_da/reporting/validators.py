"""What every label-free validator says of a run's detectors, beside what target labels say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from microg_da.evaluation.finding import Finding
from microg_da.reporting.tables import brief, per_class, score
from microg_da.runs.reader import ADAPTED, SOURCE_ONLY
from microg_da.validation import VALIDATORS, CollapseVerdict


def validators_content(results: dict[str, Any], finding: Finding) -> dict[str, Any] | None:
    """A line per validator, which detector it prefers, and what the collapse guard saw.

    Args:
        results: what ``results.json`` holds. A collapsed detector's scores are minus infinity there, written as null.
        finding: what the run found. Without a measurable change, target mAP prefers no detector.
    """
    rows = [row for row in results["rows"] if row.get("validators")]
    if not rows:
        return None
    maps = {row["name"]: score(row, "target", "map") for row in rows}
    measurable = finding.change is not None and finding.change.measurable
    better = _preferred(maps) if measurable else None
    lines = []
    for name in dict.fromkeys(name for row in rows for name in row["validators"]):
        values = {row["name"]: _value(row, name) for row in rows}
        prefers = _preferred(values)
        summary = VALIDATORS.entry(name).summary if name in VALIDATORS else ""
        lines.append({"name": name, "summary": summary, "values": values, "prefers": prefers})
    names = per_class(results)["name"].to_dict()
    return {
        "rows": [row["name"] for row in rows],
        "lines": lines,
        "maps": maps,
        "better": better,
        "change": finding.change.verdict if finding.change else None,
        "guards": [{"row": row["name"], **_guard(row["collapse"], names)} for row in rows if row.get("collapse")],
    }


def _value(row: dict[str, Any], name: str) -> float | None:
    value = row["validators"].get(name)
    if value is None and (row.get("collapse") or {}).get("collapsed"):
        return float("-inf")
    return value


def _preferred(values: Mapping[str, float | None]) -> str | None:
    """Which of the source-only and the adapted detector has the higher value; None if they cannot be compared."""
    before, after = values.get(SOURCE_ONLY), values.get(ADAPTED)
    if before is None or after is None or before != before or after != after or before == after:
        return None
    return ADAPTED if after > before else SOURCE_ONLY


def _verdict(report: dict[str, Any]) -> CollapseVerdict | None:
    """The guard's verdict; None where it is not known.

    Runs of older versions hold ``collapsed`` alone, which was false of few people too.
    """
    verdict = report.get("verdict")
    if verdict is None and report.get("collapsed"):
        return "collapsed"
    return verdict if verdict in get_args(CollapseVerdict) else None


def _guard(report: dict[str, Any], names: Mapping[Any, str]) -> dict[str, Any]:
    return {
        "verdict": _verdict(report),
        "reason": report.get("reason") or "",
        "source_rate": report.get("source_rate"),
        "target_rate": report.get("target_rate"),
        "agreement": report.get("agreement"),
        "flagged": [brief(names.get(action, f"action {action}")) for action in report.get("flagged") or []],
    }
