"""What the page says of label-free validators: whom each prefers, and whether the guard was content."""

from __future__ import annotations

import json

from microg_da.reporting import write_report
from microg_da.reporting.tables import finding_of
from microg_da.reporting.validators import validators_content
from microg_da.validation import VALIDATORS


def test_values_preferences_and_the_truth(results):
    found = validators_content(results, finding_of(results))
    assert found["rows"] == ["source_only", "adapted", "target_supervised"]
    assert [line["name"] for line in found["lines"]] == ["entropy", "mmd"]
    entropy, mmd = found["lines"]
    assert entropy["values"] == {row["name"]: row["validators"]["entropy"] for row in results["rows"]}
    assert (entropy["prefers"], mmd["prefers"]) == ("source_only", "adapted")
    assert entropy["summary"] == VALIDATORS.entry("entropy").summary
    maps = {row["name"]: row["target"]["map"] for row in results["rows"]}
    assert found["maps"] == maps
    assert found["better"] == ("adapted" if maps["adapted"] > maps["source_only"] else "source_only")
    assert found["guards"][0]["flagged"] == ["stand", "walk"]


def test_a_collapsed_detector_is_preferred_by_nobody(results):
    adapted = results["rows"][1]
    adapted["validators"] = dict.fromkeys(adapted["validators"])  # minus infinity, as JSON holds it
    adapted["collapse"] |= {"verdict": "collapsed", "collapsed": True, "reason": "everybody gets one answer"}
    found = validators_content(results, finding_of(results))
    assert {line["prefers"] for line in found["lines"]} == {"source_only"}
    assert {line["values"]["adapted"] for line in found["lines"]} == {float("-inf")}
    assert found["guards"][1]["verdict"] == "collapsed"


def test_what_cannot_be_compared_is_not(results):
    results["rows"][0]["validators"]["mmd"] = None
    results["rows"][0]["validators"]["entropy"] = results["rows"][1]["validators"]["entropy"]
    assert [line["prefers"] for line in validators_content(results, finding_of(results))["lines"]] == [None, None]
    results["rows"] = results["rows"][:1]
    assert validators_content(results, finding_of(results))["better"] is None
    del results["rows"][0]["validators"]
    assert validators_content(results, finding_of(results)) is None


def test_a_validator_that_is_not_known_here_is_shown_all_the_same(results):
    for row in results["rows"]:
        row["validators"]["of_tomorrow"] = 1.5
    assert validators_content(results, finding_of(results))["lines"][-1]["summary"] == ""


def test_the_page_shows_collapse_and_infinity(make_run):
    folder = make_run(examples=0)
    results = json.loads((folder / "results.json").read_text())
    results["rows"][1]["validators"]["mmd"] = None
    results["rows"][1]["collapse"] |= {"verdict": "collapsed", "collapsed": True, "reason": "everybody gets one answer"}
    results["rows"][2] |= {"collapse": None}
    (folder / "results.json").write_text(json.dumps(results))
    text = write_report(folder).read_text()
    assert "✗ collapsed: everybody gets one answer" in text
    assert "−∞" in text


def test_without_a_measurable_change_target_map_prefers_nobody(results, with_finding):
    same = with_finding(results, width=1.0)
    found = validators_content(same, finding_of(same))
    assert found["better"] is None
    assert found["change"] == "no_measurable_change"


def test_of_a_few_people_the_page_says_so_and_not_that_all_is_sound(make_run):
    folder = make_run(examples=0)
    results = json.loads((folder / "results.json").read_text())
    for row in results["rows"]:
        row["collapse"] |= {"verdict": "too_few_people", "reason": "4 target people, at least 10 are needed"}
    (folder / "results.json").write_text(json.dumps(results))
    text = write_report(folder).read_text()
    assert text.count("too few people to say: 4 target people") == 3
    assert "✓ sound" not in text


def test_a_run_of_an_older_version_has_no_verdict_unless_it_collapsed(results):
    for row in results["rows"]:
        del row["collapse"]["verdict"]
    results["rows"][1]["collapse"]["collapsed"] = True
    found = validators_content(results, finding_of(results))
    assert [guard["verdict"] for guard in found["guards"]] == [None, "collapsed", None]
