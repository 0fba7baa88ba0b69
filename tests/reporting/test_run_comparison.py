"""Runs side by side: means over seeds and paired differences against plain arithmetic."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from microg_da import reporting
from microg_da.cli import main
from microg_da.errors import InputError
from microg_da.evaluation.intervals import RESAMPLES
from microg_da.evaluation.uncertainty import Bootstrap, bootstrap, interval
from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.run_comparison import compare_runs, comparison_table, write_comparison


@pytest.fixture
def make_setting(make_run: Callable[..., Path]) -> Callable[..., list[Path]]:
    """Run folders of one method with the given final target mAP per seed."""

    def make(method: str, finals: dict[int, float], config: str = "", **facts: object) -> list[Path]:
        folders = []
        for seed, final in finals.items():
            folder = make_run(f"{len(facts)}{re.sub('[^a-z]', '', method + config)}-{seed}", seed=seed, examples=0)
            run = json.loads((folder / "run.json").read_text())
            (folder / "run.json").write_text(json.dumps(run | {"adaptation": method} | facts))
            (folder / "config.yaml").write_text(f"seed: {seed}\nadaptation: {{name: '{method}'}}\n{config}\n")
            results = json.loads((folder / "results.json").read_text())
            results["variants"]["adapted"]["target"]["map"] = final
            (folder / "results.json").write_text(json.dumps(results))
            folders.append(folder)
        return folders

    return make


def test_means_and_paired_differences(make_setting):
    adabn, dann = {0: 0.30, 1: 0.40, 2: 0.35}, {1: 0.46, 2: 0.34, 3: 0.5, 0: 0.37}
    found = compare_runs([*make_setting("adabn", adabn), *make_setting("dann", dann)])
    assert [setting.name for setting in found.settings] == ["adabn", "dann"]
    first, second = found.settings
    assert (first.seeds, second.seeds) == (3, 4)
    assert second.figures["final"].mean == pytest.approx(statistics.mean(dann.values()))
    assert second.figures["final"].deviation == pytest.approx(statistics.stdev(dann.values()))
    assert first.difference is None
    paired = [dann[seed] - adabn[seed] for seed in adabn]
    assert second.difference.mean == pytest.approx(statistics.mean(paired))
    assert second.difference.deviation == pytest.approx(statistics.stdev(paired))
    assert (second.difference.count, second.better) == (3, 2)


def test_baseline_is_chosen_by_name(make_setting):
    runs = [*make_setting("adabn", {0: 0.3}), *make_setting("dann", {0: 0.4})]
    found = compare_runs(runs, "dann")
    assert found.settings[0].difference.mean == pytest.approx(-0.1)
    assert math.isnan(found.settings[0].difference.deviation)
    with pytest.raises(InputError, match=r"'cdan'.*adabn, dann"):
        compare_runs(runs, "cdan")


def test_baseline_may_be_named_by_its_method_alone(make_setting):
    runs = [*make_setting("adabn", {0: 0.3}, "model: {dropout: 0.1}")]
    runs += make_setting("dann", {0: 0.4}, "model: {dropout: 0.2}")
    found = compare_runs(runs, "dann")
    assert found.baseline == "dann, model.dropout=0.2"
    assert found.settings[0].difference.mean == pytest.approx(-0.1)


def test_settings_are_named_by_the_keys_that_differ(make_setting):
    runs = make_setting("dann", {0: 0.3}, "augment: {rotation: 0}\nlogger: csv")
    runs += make_setting("dann", {0: 0.4}, "augment: {rotation: 180}\nlogger: wandb")
    assert [s.name for s in compare_runs(runs).settings] == ["dann, augment.rotation=0", "dann, augment.rotation=180"]


def test_keys_of_the_method_and_of_older_runs_name_no_setting(make_setting):
    # The label says that rotation was on, and a key that a configuration lacks has its default.
    runs = make_setting("dann", {0: 0.3}, "augment: {rotation: 0.0}")
    runs += make_setting("cdan", {0: 0.4}, "bounds: true")
    for folder, label in zip(runs, ("dann + rotation 180°", "cdan"), strict=True):
        results = json.loads((folder / "results.json").read_text())
        results["variants"]["adapted"]["method"] = label
        (folder / "results.json").write_text(json.dumps(results))
        config = (folder / "config.yaml").read_text().replace("'}", "', rotation: 180.0}" if "dann" in label else "'}")
        (folder / "config.yaml").write_text(config)
    assert [setting.name for setting in compare_runs(runs).settings] == ["dann + rotation 180°", "cdan"]


def test_no_seed_in_common(make_setting, tmp_path):
    found = compare_runs([*make_setting("adabn", {0: 0.3}), *make_setting("dann", {1: 0.4})])
    assert found.settings[1].difference.count == 0
    assert "no seed in common" in write_comparison(found, tmp_path / "page.html").read_text()


def test_what_is_not_comparable_is_said(make_setting):
    runs = make_setting("adabn", {0: 0.3}) + make_setting("dann", {0: 0.4}, protocol="published", oracle=True)
    notes = " ".join(compare_runs(runs).notes)
    assert "different protocols (corrected, published): not comparable" in notes
    assert "Oracle: target labels were used for 2dann-0" in notes
    assert "different splits" not in notes


def drawn(folder: Path, variant: str) -> Bootstrap:
    test = RunAnalysis.read(folder).target_test
    return bootstrap(test.detections[variant], test.truth, resamples=RESAMPLES)


@pytest.fixture
def settings(make_run, make_setting) -> dict[str, list[Path]]:
    """Two methods on two seeds each, all on the same test set, with tables."""
    tables = make_run("tables", tables=True, examples=0, seed=7)
    runs = {"adabn": make_setting("adabn", {0: 0.4, 1: 0.4}), "dann": make_setting("dann", {0: 0.5, 1: 0.5})}
    for method, folders in runs.items():
        for folder in folders:
            shutil.copytree(tables / "ground_truth", folder / "ground_truth")
            shutil.copytree(tables / "detections", folder / "detections")
            if method == "adabn":  # as good as a detector that was never adapted
                shutil.copy(
                    folder / "detections/source_only_target.csv.gz", folder / "detections/adapted_target.csv.gz"
                )
    shutil.rmtree(tables)
    return runs


def test_a_difference_has_the_interval_of_its_resamples(settings):
    found = compare_runs([*settings["adabn"], *settings["dann"]])
    assert found.comparable
    (setting,) = [setting for setting in found.settings if setting.name == "dann"]
    before, after = drawn(settings["adabn"][0], "adapted"), drawn(settings["dann"][0], "adapted")
    wanted = interval(after.macro["map"] - before.macro["map"], after.point["map"] - before.point["map"])
    assert setting.interval == pytest.approx(wanted)
    assert setting.verdict == ("better" if wanted[0] > 0 else "no_measurable_change")


def test_settings_that_answer_alike_do_not_measurably_differ(settings, tmp_path):
    for folder in settings["dann"]:
        shutil.copy(settings["adabn"][0] / "detections/adapted_target.csv.gz", folder / "detections")
    found = compare_runs([*settings["adabn"], *settings["dann"]])
    assert found.settings[1].interval == (0, 0)
    assert found.settings[1].verdict == "no_measurable_change"
    text = write_comparison(found, tmp_path / "page.html").read_text()
    assert "no measurable change" in text
    assert not re.search(r'class="(n )?(better|up|down|worse)"', text)


def test_what_is_not_comparable_has_no_colour_and_no_verdict(settings, tmp_path):
    for folder in settings["dann"]:
        run = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(run | {"target": "synthetic:earth"}))
    found = compare_runs([*settings["adabn"], *settings["dann"]])
    assert not found.comparable
    assert found.as_dict()["comparable"] is False
    assert (found.settings[1].interval, found.settings[1].verdict) == (None, "unknown")
    text = write_comparison(found, tmp_path / "page.html").read_text()
    assert "not comparable</span>" in text
    assert not re.search(r'class="(n )?(better|up|down|worse)"', text)


def test_small_test_sets_and_missing_gaps_are_noted(make_setting, with_finding):
    (folder,) = make_setting("dann", {0: 0.4})
    results = json.loads((folder / "results.json").read_text())
    for row in results["variants"].values():
        row["target"]["num_boxes"] = 7
    (folder / "results.json").write_text(json.dumps(with_finding(results, width=1.0)))
    found = compare_runs([folder])
    notes = " ".join(found.notes)
    assert "Only 7 boxes" in notes
    assert "Gap recovered is not given" in notes
    (run,) = found.as_dict()["settings"][0]["runs"]
    assert run["absent"] == "gap_not_measurable"
    assert math.isnan(run["gap_recovered"])


def test_a_folder_stands_for_the_runs_in_it(make_setting):
    runs = make_setting("dann", {0: 0.3, 1: 0.4})
    assert compare_runs([runs[0].parent]).settings[0].seeds == 2
    assert compare_runs([runs[0].parent, runs[0]]).settings[0].seeds == 2


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        compare_runs([tmp_path])


def test_page_is_escaped_and_self_contained(make_setting, tmp_path):
    found = compare_runs(make_setting("<script>alert(1)</script>", {0: 0.3}))
    text = write_comparison(found, tmp_path / "page.html").read_text()
    HTMLParser().feed(text)
    script = (Path(reporting.__file__).parent / "templates" / "report.js").read_text(encoding="utf-8")
    assert text.count("<script") == text.count(f"<script>{script}</script>") == 1
    assert not re.search(r"https?://|url\(", text)


def test_command_prints_one_json_object_and_writes_the_page(make_setting, capsys):
    runs = make_setting("adabn", {0: 0.3, 1: 0.3}) + make_setting("dann", {0: 0.4, 1: 0.5})
    assert main(["compare", "--json", *map(str, runs)]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["baseline"] == "adabn"
    assert output["settings"][1]["difference"]["mean"] == pytest.approx(0.15)
    assert output["settings"][0]["figures"]["final"]["deviation"] == 0
    assert (runs[0].parent / "compare.html").is_file()


def test_command_prints_a_table(make_setting, capsys):
    runs = make_setting("adabn", {0: 0.3, 1: 0.3}) + make_setting("dann", {0: 0.4, 1: 0.5})
    assert main(["compare", *map(str, runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"^dann +2 .*45\.0 ± 7\.1.*\+15\.0 ± 7\.1$", lines[-2])
    assert lines[-1].strip() == "no interval"  # without tables nothing can be drawn


def test_report_command_rebuilds_the_page(run_folder, capsys):
    assert main(["report", str(run_folder)]) == 0
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")
    assert (run_folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_report_command_names_what_is_missing(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "run.json not found" in capsys.readouterr().err


def test_the_table_has_no_column_that_no_run_has_a_figure_for(make_setting):
    runs = [*make_setting("adabn", {0: 0.3}), *make_setting("dann", {0: 0.4})]
    every = comparison_table(compare_runs(runs))
    for folder in runs:
        results = json.loads((folder / "results.json").read_text())
        del results["variants"]["target_supervised"]
        (folder / "results.json").write_text(json.dumps(results | {"gap_recovered": None, "finding": None}))
    titles = [str(column.header) for column in comparison_table(compare_runs(runs)).columns]
    dropped = {str(column.header) for column in every.columns} - set(titles)
    assert {title.split("\n")[0] for title in dropped} == {"target-", "gap"}


def names(runs, **options):
    return [setting.name for setting in compare_runs(runs, **options).settings]


def test_keys_that_are_not_read_name_no_setting(make_setting):
    unread = "training: {momentum: 0.1, optimizer: adamw}\nmodel: {adapter_rank: 3}\nbounds: false"
    runs = make_setting("dann", {0: 0.3}, unread)
    runs += make_setting("dann", {1: 0.4}, "training: {momentum: 0.9, optimizer: adamw}\nmodel: {adapter_rank: 4}")
    assert names(runs) == ["dann"]
    read = [
        make_setting("cdan", {seed: 0.3}, f"training: {{momentum: {momentum}, optimizer: sgd}}")[0]
        for seed, momentum in enumerate((0.1, 0.9))
    ]
    assert names(read) == ["cdan, training.momentum=0.1", "cdan, training.momentum=0.9"]
    assert names([runs[0], *read]) == [
        "dann, training.optimizer=adamw",
        "cdan, training.optimizer=sgd, training.momentum=0.1",
        "cdan, training.optimizer=sgd, training.momentum=0.9",
    ]


def test_data_that_is_drawn_has_no_files_and_the_other_way_round(make_setting):
    drawn = [
        make_setting("dann", {seed: 0.3}, f"data: {{source: 'synthetic:earth', decode: {how}}}")[0]
        for seed, how in enumerate(("auto", "frames"))
    ]
    assert names(drawn) == ["dann"]
    files = "data: {{source: 'ava:/a', target: 'microg4m:/b'}}\nsynthetic: {{train_clips: {}}}"
    read = [make_setting("cdan", {seed: 0.3}, files.format(10 + seed))[0] for seed in range(2)]
    assert names(read) == ["cdan"]


def test_labels_name_the_runs_of_each_folder(make_setting, tmp_path):
    first = make_setting("dann", {0: 0.3, 1: 0.5}, "model: {dropout: 0.1}")
    second = make_setting("dann", {0: 0.4}, "model: {dropout:  0.2, freeze: 0}")
    (tmp_path / "first").mkdir()
    for folder in first:
        folder.rename(tmp_path / "first" / folder.name)
    folders = [tmp_path / "first", *second]
    found = compare_runs(folders, labels=["low", "high"])
    assert [(setting.name, setting.seeds) for setting in found.settings] == [("low", 2), ("high", 1)]
    assert found.settings[1].difference.mean == pytest.approx(0.1)
    assert compare_runs(folders, baseline="high", labels=["low", "high"]).baseline == "high"
    # Runs of one label that are no repeats of one another are told apart.
    moved = tmp_path / "first" / first[0].name
    same = names([moved, *second], labels=["mine", "mine"])
    assert same == ["mine, model.dropout=0.1", "mine, model.dropout=0.2"]
    with pytest.raises(InputError, match="1 --labels for 2 folders"):
        compare_runs(folders, labels=["low"])


def test_formats_hold_the_figures(make_setting, tmp_path, capsys):
    import csv
    import io

    runs = [*make_setting("adabn", {0: 0.30, 1: 0.40}), *make_setting("dann_100%", {0: 0.37, 1: 0.46})]
    words = ["compare", *map(str, runs), "--output", str(tmp_path / "page.html"), "--format"]
    assert main([*words, "csv"]) == 0
    printed = capsys.readouterr()
    first, second = csv.DictReader(io.StringIO(printed.out))
    assert (first["setting"], second["setting"]) == ("adabn", "dann_100%")
    assert float(second["adapted"]) == pytest.approx(0.415)
    assert float(second["adapted_std"]) == pytest.approx(statistics.stdev([0.37, 0.46]))
    assert float(second["difference"]) == pytest.approx(0.065)
    assert second["runs"].split() == [folder.name for folder in runs[2:]]
    assert main([*words, "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert "41.5 ± 6.4" in lines[3]
    assert main([*words, "latex"]) == 0
    text = capsys.readouterr().out
    assert r"dann\_100\%" in text
    assert r"41.5 $\pm$ 6.4" in text
    assert text.count(r"\\") == 3
    assert text.isascii()
    assert main([*words, "ltex"]) == 2
    assert "'latex'" in capsys.readouterr().err
