"""What the page says of label-free validators: whom each prefers, and whether the guard was content."""

from __future__ import annotations

import json

from microg_da.reporting import write_report
from microg_da.reporting.validators import validators_content
from microg_da.validation import VALIDATORS


def test_values_preferences_and_the_truth(results):
    found = validators_content(results)
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
    adapted["collapse"] |= {"collapsed": True, "reason": "everybody gets one answer"}
    found = validators_content(results)
    assert {line["prefers"] for line in found["lines"]} == {"source_only"}
    assert {line["values"]["adapted"] for line in found["lines"]} == {float("-inf")}
    assert found["guards"][1]["collapsed"]


def test_what_cannot_be_compared_is_not(results):
    results["rows"][0]["validators"]["mmd"] = None
    results["rows"][0]["validators"]["entropy"] = results["rows"][1]["validators"]["entropy"]
    assert [line["prefers"] for line in validators_content(results)["lines"]] == [None, None]
    results["rows"] = results["rows"][:1]
    assert validators_content(results)["better"] is None
    del results["rows"][0]["validators"]
    assert validators_content(results) is None


def test_a_validator_that_is_not_known_here_is_shown_all_the_same(results):
    for row in results["rows"]:
        row["validators"]["of_tomorrow"] = 1.5
    assert validators_content(results)["lines"][-1]["summary"] == ""


def test_the_page_shows_collapse_and_infinity(make_run):
    folder = make_run(examples=0)
    results = json.loads((folder / "results.json").read_text())
    results["rows"][1]["validators"]["mmd"] = None
    results["rows"][1]["collapse"] |= {"collapsed": True, "reason": "everybody gets one answer"}
    results["rows"][2] |= {"collapse": None}
    (folder / "results.json").write_text(json.dumps(results))
    text = write_report(folder).read_text()
    assert "✗ collapsed: everybody gets one answer" in text
    assert "−∞" in text
