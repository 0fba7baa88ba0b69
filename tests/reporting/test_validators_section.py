"""What the page says of label-free validators: whom each prefers, and whether the guard was content."""

from __future__ import annotations

import json

from microg_da.reporting import write_report
from microg_da.reporting.tables import finding_of
from microg_da.reporting.validators import validators_content
from microg_da.runs.results import parse_results
from microg_da.validation import VALIDATORS


def content(results):
    typed = parse_results(results, "results.json")
    return validators_content(typed, finding_of(typed))


def test_values_preferences_and_the_truth(results):
    found = content(results)
    assert found["variants"] == ["source_only", "adapted", "target_supervised"]
    assert [line["name"] for line in found["lines"]] == ["entropy", "mmd"]
    entropy, mmd = found["lines"]
    assert entropy["values"] == {name: row["validators"]["entropy"] for name, row in results["variants"].items()}
    assert (entropy["prefers"], mmd["prefers"]) == ("source_only", "adapted")
    assert entropy["summary"] == VALIDATORS.entry("entropy").summary
    maps = {name: row["target"]["map"] for name, row in results["variants"].items()}
    assert found["maps"] == maps
    assert found["better"] == ("adapted" if maps["adapted"] > maps["source_only"] else "source_only")
    assert found["guards"][0]["flagged"] == ["stand", "walk"]


def test_a_collapsed_detector_is_preferred_by_nobody(results):
    adapted = results["variants"]["adapted"]
    adapted["validators"] = dict.fromkeys(adapted["validators"])  # minus infinity, as JSON holds it
    adapted["collapse"] |= {"verdict": "collapsed", "collapsed": True, "reason": "everybody gets one answer"}
    found = content(results)
    assert {line["prefers"] for line in found["lines"]} == {"source_only"}
    assert {line["values"]["adapted"] for line in found["lines"]} == {float("-inf")}
    assert found["guards"][1]["report"].verdict == "collapsed"


def test_what_cannot_be_compared_is_not(results):
    results["variants"]["source_only"]["validators"]["mmd"] = None
    results["variants"]["source_only"]["validators"]["entropy"] = results["variants"]["adapted"]["validators"][
        "entropy"
    ]
    assert [line["prefers"] for line in content(results)["lines"]] == [None, None]
    results["variants"] = {"source_only": results["variants"]["source_only"]}
    assert content(results)["better"] is None
    del results["variants"]["source_only"]["validators"]
    assert content(results) is None


def test_a_validator_that_is_not_known_here_is_shown_all_the_same(results):
    for row in results["variants"].values():
        row["validators"]["of_tomorrow"] = 1.5
    assert content(results)["lines"][-1]["summary"] == ""


def test_the_page_shows_collapse_and_infinity(make_run):
    folder = make_run(examples=0)
    results = json.loads((folder / "results.json").read_text())
    results["variants"]["adapted"]["validators"]["mmd"] = None
    results["variants"]["adapted"]["collapse"] |= {
        "verdict": "collapsed",
        "collapsed": True,
        "reason": "everybody gets one answer",
    }
    results["variants"]["target_supervised"] |= {"collapse": None}
    (folder / "results.json").write_text(json.dumps(results))
    text = write_report(folder).read_text()
    assert "✗ collapsed: everybody gets one answer" in text
    assert "−∞" in text


def test_without_a_measurable_change_target_map_prefers_nobody(results, with_finding):
    same = with_finding(results, width=1.0)
    found = content(same)
    assert found["better"] is None
    assert found["change"] == "no_measurable_change"


def test_of_a_few_people_the_page_says_so_and_not_that_all_is_sound(make_run):
    folder = make_run(examples=0)
    results = json.loads((folder / "results.json").read_text())
    for row in results["variants"].values():
        row["collapse"] |= {"verdict": "too_few_people", "reason": "4 target people, at least 10 are needed"}
    (folder / "results.json").write_text(json.dumps(results))
    text = write_report(folder).read_text()
    assert text.count("too few people: 4 target people") == 3
    assert "✓ sound" not in text


def test_a_run_of_an_older_version_has_no_verdict_unless_it_collapsed(results):
    for row in results["variants"].values():
        del row["collapse"]["verdict"]
    results["variants"]["adapted"]["collapse"]["collapsed"] = True
    found = content(results)
    assert [guard["report"].verdict for guard in found["guards"]] == ["unknown", "collapsed", "unknown"]
