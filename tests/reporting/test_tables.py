"""Figures as people read them, and the tables made of them."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from microg_da.errors import InputError
from microg_da.reporting import results_table, write_results_csv
from microg_da.reporting.tables import duration, finding_of, is_negative_transfer, per_class, per_group, percent
from microg_da.runs.results import RunResults, parse_results


def typed(results: dict) -> RunResults:
    return parse_results(results, "results.json")


def printed(results: dict) -> list[str]:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(results_table(typed(results)))
    return console.export_text().splitlines()


@given(st.floats(-2, 2))
def test_percent_is_the_value_to_a_tenth(value):
    text = percent(value)
    assert float(text.replace("−", "-")) == pytest.approx(100 * value, abs=0.0500001)
    assert "-" not in text
    assert text not in ("−0.0", "-0.0")


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(0.4567, False, "45.7"), (0.1, True, "+10.0"), (-0.1, True, "−10.0"), (-0.0001, True, "±0.0"),
     (-0.0001, False, "0.0"), (1.0, False, "100.0"), (None, False, "–"), (math.nan, True, "–")],
)  # fmt: skip
def test_percent_at_the_edges(value, signed, text):
    assert percent(value, signed=signed) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.6, "1 h 00 min"),
     (7500, "2 h 05 min"), (None, "–"), (math.nan, "–")],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_results_table_fits_a_terminal_and_shows_every_figure(results):
    lines = printed(results)
    assert "…" not in "".join(lines)
    for row, line in zip(results["variants"].values(), lines[3:6], strict=True):
        figures = line.split("  ", 1)[1]
        for key in ("map", "f1_macro", "recall_macro", "auroc_macro"):
            assert percent(row["target"][key]) in figures
    assert f"{percent(results['gap_recovered'])} %" in lines[4]
    assert "adapted (dann)" in lines[4]
    change = results["finding"]["change"]
    assert " to ".join(percent(change[bound], signed=True) for bound in ("low", "high")) in " ".join(lines[6:])


def test_the_table_gives_no_gap_recovered_of_a_gap_within_its_interval(results, with_finding):
    noise = with_finding(results, width=1.0)
    text = " ".join(" ".join(printed(noise)).split())
    assert noise["finding"]["absent"] == "gap_not_measurable"
    assert " %" not in text.split("change:")[0]
    assert "no measurable change" in text
    assert "gap recovered is not given" in text


def test_the_table_says_how_few_boxes_there_are(results, with_finding):
    assert "boxes" not in " ".join(printed(results))
    for row in results["variants"].values():
        row["target"]["num_boxes"] = 12
    assert "only 12 boxes" in " ".join(printed(with_finding(results)))


def test_results_table_of_one_row(results):
    lines = printed({"format": 2, "variants": {"source_only": results["variants"]["source_only"]}})
    assert lines[-1].startswith("source-only")


def test_negative_transfer_only_marks_an_adaptation_below_source_only(results, with_finding):
    assert not is_negative_transfer(finding_of(typed(results)))
    results["variants"]["adapted"]["target"]["map"] = results["variants"]["source_only"]["target"]["map"] - 0.01
    assert not is_negative_transfer(finding_of(typed(with_finding(results))))  # within its interval
    assert is_negative_transfer(finding_of(typed(with_finding(results, width=0.005))))
    results["finding"] = None
    assert not is_negative_transfer(finding_of(typed(results)))  # without an interval nothing is said


def test_per_class_puts_rows_side_by_side(results):
    table = per_class(typed(results))
    for name, row in results["variants"].items():
        for entry in row["target"]["per_class"]:
            value = table.loc[entry["action_id"], name]
            assert math.isnan(value) if entry["ap"] is None else value == entry["ap"]
    assert table["change"].dropna().is_monotonic_decreasing
    assert table["change"].isna().sum() == 1  # the class without ground truth, last
    assert table.index[-1] == 80


def test_per_class_without_adaptation_is_sorted_by_ap(results):
    results["variants"] = {"source_only": results["variants"]["source_only"]}
    table = per_class(typed(results))
    assert table["source_only"].dropna().is_monotonic_decreasing
    assert table["change"].isna().all()


def test_per_group_skips_classes_without_ground_truth(results):
    groups = per_group(per_class(typed(results)))
    assert list(groups.index) == ["PM", "OM", "PI"]
    flat = pd.DataFrame(results["variants"]["source_only"]["target"]["per_class"])
    wanted = flat[flat["support"] > 0].groupby("group")["ap"].agg(lambda ap: ap.astype(float).mean())
    np.testing.assert_allclose(groups["source_only"], wanted.loc[groups.index])
    assert groups["classes"].sum() == 11


def test_results_csv_into_an_impossible_folder(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/results\.csv"):
        write_results_csv(typed(results), tmp_path / "file" / "results.csv")


def with_top1(results: dict) -> dict:
    """The results, as if every target clip had one label."""
    for place, result in enumerate(results["variants"].values()):
        result["target"] |= {"top1": 0.4125 + place / 10, "num_clips": 101}
    return results


def test_top1_stands_beside_map_where_clips_have_one_label(results, tmp_path):
    assert not any("top-1" in line for line in printed(results))
    lines = printed(with_top1(results))
    assert any("top-1" in line for line in lines)
    assert any("51.2" in line or "51.3" in line for line in lines if "adapted" in line)
    table = pd.read_csv(write_results_csv(typed(results), tmp_path / "results.csv"))
    target = table[table.domain == "target"].set_index("variant")
    assert target.top1["source_only"] == 0.4125
    assert table[table.domain == "source"].top1.isna().all()


def test_other_data_have_no_column_of_top1(results, tmp_path):
    assert "top1" not in pd.read_csv(write_results_csv(typed(results), tmp_path / "results.csv"))
