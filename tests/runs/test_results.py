"""The results of a run: written, read back, read from the first format, and refused when damaged."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pandas as pd
import pytest
from score_cases import some_scores

from microg_da.errors import InputError
from microg_da.evaluation.finding import Difference, Finding
from microg_da.runs.fields import FORMAT
from microg_da.runs.results import RunResults, VariantResult, parse_results, read_results, write_results
from microg_da.types import VARIANTS
from microg_da.validation.collapse_report import CollapseReport

GUARD = CollapseReport("sound", "", 0.1, 0.2, 0.3, (0.1, 0.0), (0.2, 0.4), (12,))
CHANGE = Difference(0.125, -0.1, 0.2, "no_measurable_change")
FINDING = Finding(CHANGE, Difference(0.25, 0.1, 0.3, "better"), 0.5, None, 400, False, 12, 0, False)


@pytest.fixture
def results() -> RunResults:
    """Of a finished run."""
    source_only, adapted, bound = (
        VariantResult(variant, variant, 1.5, some_scores(0.75), some_scores(value), {"entropy": -value}, GUARD)
        for variant, value in zip(VARIANTS, (0.25, 0.375, 0.5), strict=True)
    )
    return RunResults(source_only, adapted, bound, FINDING)


def plain(results, tmp_path):
    write_results(results, tmp_path / "results.json")
    return json.loads((tmp_path / "results.json").read_text())


def as_values(results):
    """Everything in the results, with tables as lists and NaN as None, so that equal ones compare equal."""
    values = asdict(results)
    for variant in VARIANTS:
        for domain in ("source", "target"):
            table = (values[variant] or {}).get(domain, {}).get("per_class")
            if isinstance(table, pd.DataFrame):
                values[variant][domain]["per_class"] = table.to_dict("list")
    return json.loads(json.dumps(values).replace("NaN", "null"))


def first_format(written):
    """A file as versions without a format number wrote it."""
    rows = [{"name": variant, **result} for variant, result in written["variants"].items()]
    return {"rows": rows, "gap_recovered": written["gap_recovered"], "finding": written["finding"]}


def test_what_is_written_is_read_back(results, tmp_path):
    written = plain(results, tmp_path)
    assert written["format"] == FORMAT
    assert list(written["variants"]) == list(VARIANTS)
    again = read_results(tmp_path / "results.json")
    assert as_values(again) == as_values(results)
    assert again.adapted.target.map == 0.375
    assert again.gap_recovered == 0.5
    assert math.isnan(again.adapted.target.auroc_macro)


def test_files_of_the_first_format_are_read(results, tmp_path):
    old = first_format(plain(results, tmp_path))
    assert as_values(parse_results(old, "results.json")) == as_values(results)


def test_a_file_of_a_newer_version_is_refused_by_name(results, tmp_path):
    newer = plain(results, tmp_path) | {"format": FORMAT + 1}
    with pytest.raises(InputError, match=rf"results\.json.*{FORMAT + 1}.*newer version"):
        parse_results(newer, "results.json")


def test_the_scores_of_a_collapsed_detector_stay_minus_infinity(results, tmp_path):
    collapsed = replace(
        results.adapted, validators={"entropy": -math.inf}, collapse=replace(GUARD, verdict="collapsed", reason="same")
    )
    written = plain(results.with_result(collapsed), tmp_path)
    assert written["variants"]["adapted"]["validators"] == {"entropy": None}
    again = parse_results(written, "results.json")
    assert again.adapted.validators == {"entropy": -math.inf}
    assert again.adapted.collapse.collapsed


def test_another_result_takes_the_place_of_the_first_and_the_finding_goes(results):
    changed = results.with_result(replace(results.adapted, target=some_scores(0.5)))
    assert changed.adapted.target.map == 0.5
    assert (changed.finding, changed.gap_recovered) == (None, None)
    assert changed.source_only is results.source_only


def test_the_final_variant_is_the_adapted_one_if_there_is_one(results):
    assert results.final is results.adapted
    assert replace(results, adapted=None).final is results.source_only
    assert RunResults().final is None
    assert math.isnan(RunResults().score("adapted", "target", "map"))


def test_tables_have_a_line_for_each_test(results):
    table = results.as_table()
    assert list(zip(table["variant"], table["domain"], strict=True)) == [
        (variant, domain) for variant in VARIANTS for domain in ("source", "target")
    ]
    assert table["map"].tolist() == [0.75, 0.25, 0.75, 0.375, 0.75, 0.5]
    classes = results.per_class_table()
    assert len(classes) == 6 * len(results.adapted.target.per_class)
    assert classes.groupby(["variant", "domain"])["ap"].max()["adapted", "target"] == 0.375
    assert RunResults().per_class_table().empty


DAMAGE = [
    ((), {"variants": {"best": {}}}, "best"),
    ((), {"variants": None}, "variants"),
    ((), {"format": "two"}, "format"),
    (("variants", "adapted"), {"target": None}, "adapted.*target"),
    (("variants", "adapted"), {"method": 3}, "method"),
    (("variants", "adapted"), {"seconds": "long"}, "seconds"),
    (("variants", "adapted"), {"validators": {"entropy": "low"}}, "entropy"),
    (("variants", "adapted", "target"), {"map": "high"}, "adapted.*high"),
    (("variants", "adapted", "target"), {"num_boxes": 1.5}, "adapted.*1.5"),
    (("variants", "adapted", "target"), {"per_class": [{"action_id": 1}]}, "ap"),
    (("variants", "adapted", "collapse"), {"verdict": "fine"}, "verdict"),
    (("variants", "adapted", "collapse"), {"flagged": ["a"]}, "flagged"),
    (("finding",), {"absent": "because"}, "absent"),
    (("finding",), {"gap_recovered": "much"}, "gap_recovered"),
    (("finding",), {"few_boxes": 1}, "few_boxes"),
    (("finding", "change"), {"verdict": "superb"}, "change.*verdict"),
    (("finding", "change"), {"low": "a"}, "change.*low"),
    (("finding",), {"gap": []}, "gap"),
]


@pytest.mark.parametrize(("place", "damage", "named"), DAMAGE)
def test_a_damaged_file_names_the_key_and_the_remedy(results, tmp_path, place, damage, named):
    content = plain(results, tmp_path)
    inside = content
    for key in place:
        inside = inside[key]
    inside.update(damage)
    with pytest.raises(InputError, match=rf"(?s)results\.json.*{named}.*--resume"):
        parse_results(content, "results.json")


@pytest.mark.parametrize("key", ["map", "num_boxes", "per_class", "protocol"])
def test_scores_without_a_value_are_refused(results, tmp_path, key):
    content = plain(results, tmp_path)
    del content["variants"]["adapted"]["target"][key]
    with pytest.raises(InputError, match=f"adapted.*{key}"):
        parse_results(content, "results.json")
