"""``results.json``: the scores of each variant of a run, and the finding of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar, get_args

import pandas as pd

from microg_da.errors import InputError
from microg_da.evaluation.finding import Absence, Difference, Finding, Verdict
from microg_da.evaluation.protocols import Scores
from microg_da.evaluation.up_errors import AngleErrors, UpErrors
from microg_da.files import write_json
from microg_da.runs.fields import FORMAT, Fields, read_json
from microg_da.types import DOMAINS, VARIANTS, Domain, Variant
from microg_da.validation.collapse_report import CollapseReport, CollapseVerdict

_REMEDY = "Restore the file, or remove it and continue the run with `fit --resume`, which tests the detectors again."
T = TypeVar("T", bound=str)


@dataclass(frozen=True)
class VariantResult:
    """Scores of one variant of a run.

    Attributes:
        variant: the variant of the detector.
        method: the method of the variant, e.g. ``dann + rotation 180°``.
        seconds: training time of its stage.
        source: scores on the source test split; None if not tested there.
        target: scores on the target test split.
        validators: score of each label-free validator; −inf for a collapsed detector, NaN if undefined.
        collapse: result of the collapse detection, with the action ids of flagged classes; None if not run.
        up: errors of the estimated up of people by set of clips; empty if the method does not estimate up.
    """

    variant: Variant
    method: str
    seconds: float
    source: Scores | None
    target: Scores
    validators: Mapping[str, float] = field(default_factory=dict)
    collapse: CollapseReport | None = None
    up: Mapping[str, UpErrors] = field(default_factory=dict)

    def scores(self, domain: Domain) -> Scores | None:
        """Return the scores on a domain's test split."""
        return self.source if domain == "source" else self.target

    def score(self, domain: Domain, metric: str) -> float:
        """Return one score, such as ``map``; NaN if the variant was not tested on that domain."""
        scores = self.scores(domain)
        return math.nan if scores is None else float(getattr(scores, metric))


@dataclass(frozen=True)
class RunResults:
    """The results of a run.

    Attributes:
        source_only: result of the source-only variant; None before its test.
        adapted: result of the adapted variant; None before its test, or if the run has no adaptation.
        target_supervised: result of the target-supervised variant; None before its test, or if the run has no bound.
        finding: the finding of the run; None until the run is finished.
    """

    source_only: VariantResult | None = None
    adapted: VariantResult | None = None
    target_supervised: VariantResult | None = None
    finding: Finding | None = None

    @property
    def variants(self) -> tuple[VariantResult, ...]:
        """The tested variants, in the order of :data:`~microg_da.types.VARIANTS`."""
        return tuple(result for result in (self.source_only, self.adapted, self.target_supervised) if result)

    @property
    def final(self) -> VariantResult | None:
        """The final variant of the run: the adapted detector, or the source-only detector without adaptation."""
        return self.adapted or self.source_only

    @property
    def gap_recovered(self) -> float | None:
        """The share of the gap that the adaptation recovers; None if it is not given, for a reason in the finding."""
        return None if self.finding is None else self.finding.gap_recovered

    @property
    def target_maps(self) -> dict[Variant, float]:
        """Target mAP of each variant."""
        return {result.variant: result.target.map for result in self.variants}

    @property
    def boxes(self) -> int | None:
        """Number of boxes in the target test set; None before the first test."""
        return self.variants[0].target.num_boxes if self.variants else None

    def get(self, variant: Variant) -> VariantResult | None:
        """Return the result of one variant."""
        return {result.variant: result for result in self.variants}.get(variant)

    def score(self, variant: Variant, domain: Domain, metric: str) -> float:
        """Return one score of one variant; NaN if there is none."""
        result = self.get(variant)
        return math.nan if result is None else result.score(domain, metric)

    def with_result(self, result: VariantResult) -> RunResults:
        """Return the results with a result added or replaced, and without the finding."""
        return replace(self, **{result.variant: result}, finding=None)

    def as_table(self) -> pd.DataFrame:
        """Return one row per variant and domain, with every scalar score as a fraction."""
        return pd.DataFrame(
            [
                {"variant": result.variant, "method": result.method, "domain": domain}
                | scores.as_dict(per_class=False)
                | {"seconds": result.seconds}
                for result in self.variants
                for domain in DOMAINS
                if (scores := result.scores(domain)) is not None
            ]
        )

    def per_class_table(self) -> pd.DataFrame:
        """Return one row per variant, domain and class: ``ap``, ``f1``, ``recall``, ``auroc``, ``support``."""
        tables = []
        for result in self.variants:
            for domain in DOMAINS:
                if (scores := result.scores(domain)) is not None:
                    table = scores.per_class.copy()
                    table.insert(0, "variant", result.variant)
                    table.insert(1, "domain", domain)
                    tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


# ---------------------------------------------------------------------------------------------------------- writing


def write_results(results: RunResults, path: Path) -> None:
    """Write ``results.json``."""
    variants = {result.variant: _plain(result) for result in results.variants}
    finding = asdict(results.finding) if results.finding else None
    plain = {"format": FORMAT, "variants": variants, "gap_recovered": results.gap_recovered, "finding": finding}
    write_json(path, plain)


def _plain(result: VariantResult) -> dict[str, object]:
    collapse = result.collapse
    return {
        "method": result.method,
        "seconds": result.seconds,
        "source": result.source.as_dict() if result.source else None,
        "target": result.target.as_dict(),
        "validators": dict(result.validators),
        "collapse": asdict(collapse) | {"collapsed": collapse.collapsed} if collapse else None,
        "up": {name: asdict(errors) for name, errors in result.up.items()},
    }


# ---------------------------------------------------------------------------------------------------------- reading


def read_results(path: Path) -> RunResults:
    """Read ``results.json`` in the current format or the first format, which has a list of ``rows``.

    Raises:
        InputError: if the file is missing, damaged, or written by a newer version.
    """
    value = read_json(path)
    if value is None:
        raise InputError(f"{path} not found. Give the folder of a run, runs/<experiment>/<name>.")
    return parse_results(value, str(path))


def parse_results(value: object, where: str) -> RunResults:
    """Parse a JSON value of either format; ``where`` names the file in error messages.

    Raises:
        InputError: if the value is damaged, or written by a newer version.
    """
    fields = Fields(value, where, _REMEDY)
    found = _variants_of_format_1(fields) if fields.format() == 1 else _variants(fields.fields("variants"))
    results = {variant: _variant(variant, one) for variant, one in found.items()}
    finding = _finding(fields.fields("finding")) if fields.has("finding") else None
    source_only, adapted, target_supervised = (results.get(variant) for variant in VARIANTS)
    return RunResults(source_only, adapted, target_supervised, finding)


def _variants(fields: Fields) -> dict[Variant, Fields]:
    unknown = [name for name in fields.values if name not in VARIANTS]
    if unknown:
        raise fields.error(f"{unknown[0]!r} is not a variant; expected {', '.join(VARIANTS)}")
    return {variant: fields.fields(variant) for variant in VARIANTS if variant in fields.values}


def _variants_of_format_1(fields: Fields) -> dict[Variant, Fields]:
    return {_one_of(VARIANTS, row, "name"): row for row in fields.objects("rows")}


def _variant(variant: Variant, fields: Fields) -> VariantResult:
    collapse = _collapse(fields.fields("collapse")) if fields.has("collapse") else None
    validators = fields.fields("validators") if fields.has("validators") else None
    validator_scores = {name: validators.number(name) for name in validators.values} if validators else {}
    if collapse is not None and collapse.collapsed:
        # JSON has no infinity.
        validator_scores = {name: -math.inf if math.isnan(value) else value for name, value in validator_scores.items()}
    return VariantResult(
        variant=variant,
        method=fields.text("method"),
        seconds=fields.number("seconds"),
        source=_scores(fields.fields("source")) if fields.has("source") else None,
        target=_scores(fields.fields("target")),
        validators=validator_scores,
        collapse=collapse,
        up=_up_errors(fields.fields("up")) if fields.has("up") else {},
    )


def _up_errors(fields: Fields) -> dict[str, UpErrors]:
    return {
        name: UpErrors(
            people=int(one.number("people")),
            passes=one.number("passes"),
            estimator=_angle_errors(one.fields("estimator")),
            decided=_angle_errors(one.fields("decided")),
        )
        for name in fields.values
        for one in (fields.fields(name),)
    }


def _angle_errors(fields: Fields) -> AngleErrors:
    return AngleErrors(fields.number("median_error"), fields.number("flips"))


def _scores(fields: Fields) -> Scores:
    try:
        return Scores.from_dict(fields.values)
    except KeyError as error:
        raise fields.error(f"the key {error} is missing") from error
    except TypeError as error:
        raise fields.error(str(error)) from error


def _collapse(fields: Fields) -> CollapseReport:
    if fields.has("verdict"):
        verdict = _one_of(_VERDICTS, fields, "verdict")
    else:  # Older versions wrote only "collapsed", which was also false for too few people.
        verdict = "collapsed" if fields.has("collapsed") and fields.flag("collapsed") else "unknown"
    return CollapseReport(
        verdict=verdict,
        reason=fields.optional(fields.text, "reason") or "",
        source_rate=fields.number("source_rate"),
        target_rate=fields.number("target_rate"),
        agreement=fields.number("agreement"),
        source_rates=fields.optional(fields.numbers, "source_rates") or (),
        target_rates=fields.optional(fields.numbers, "target_rates") or (),
        flagged=fields.optional(fields.integers, "flagged") or (),
    )


_VERDICTS: tuple[CollapseVerdict, ...] = get_args(CollapseVerdict)
_CHANGES: tuple[Verdict, ...] = get_args(Verdict)
_ABSENCES: tuple[Absence, ...] = get_args(Absence)


def _finding(fields: Fields) -> Finding:
    return Finding(
        change=_difference(fields.fields("change")) if fields.has("change") else None,
        gap=_difference(fields.fields("gap")) if fields.has("gap") else None,
        gap_recovered=fields.optional(fields.number, "gap_recovered"),
        absent=_one_of(_ABSENCES, fields, "absent") if fields.has("absent") else None,
        boxes=fields.optional(fields.integer, "boxes"),
        few_boxes=fields.flag("few_boxes"),
        source_videos=fields.optional(fields.integer, "source_videos"),
        shared_boxes=fields.optional(fields.integer, "shared_boxes"),
        same_data=fields.flag("same_data"),
    )


def _difference(fields: Fields) -> Difference:
    low, high = (fields.optional(fields.number, bound) for bound in ("low", "high"))
    return Difference(fields.number("value"), low, high, _one_of(_CHANGES, fields, "verdict"))


def _one_of(names: tuple[T, ...], fields: Fields, key: str) -> T:
    given = fields.text(key)
    for name in names:
        if name == given:
            return name
    raise fields.error(f"{key!r} is {given!r}, not one of {', '.join(names)}")
