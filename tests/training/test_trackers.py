"""What trackers are told, read back from their own files."""

import json
import os
import struct
import subprocess
from dataclasses import asdict, replace

import cv2
import numpy as np
import pandas as pd
import pytest
from score_cases import some_scores

from microg_da import __version__
from microg_da.config import load_config
from microg_da.evaluation.finding import Finding
from microg_da.runs.code_state import code_state
from microg_da.runs.examples import ExampleKeyframe, ExamplePerson, write_example_list
from microg_da.runs.folder import Run
from microg_da.runs.results import VariantResult
from microg_da.training.trackers import final_scores, finish_logging, loggers

EPOCH = {"train/loss": 0.5, "val/map": 0.25}


@pytest.fixture
def make_run(tmp_path):
    """A run that has everything but its last step: results, an example, and the words of its configuration."""

    def make(*words):
        run = Run.plan(load_config("ava2microg", words), tmp_path / "runs", "run")
        run.create()
        for variant, value in (("source_only", 0.25), ("adapted", 0.375), ("target_supervised", 0.5)):
            scores = {"source": some_scores(0.75), "target": some_scores(value)}
            run.add_result(VariantResult(variant, variant, 1.0, **scores, validators={"entropy": -value}))
        person = ExamplePerson((0.25, 0.5, 0.5, 1.0), (3,), {"source_only": {5: 0.7, 3: 0.2}, "adapted": {3: 0.9}})
        write_example_list([ExampleKeyframe("target", "clip_1", 46, "target_00.png", (), (person,))], run.examples_file)
        cv2.imwrite(str(run.path / "examples" / "target_00.png"), np.full((20, 40, 3), (255, 0, 0), np.uint8))
        return run

    return make


def log_epochs(run):
    for stage in ("source", "adapt"):
        for logger in loggers(run, stage):
            logger.log_metrics(EPOCH, step=3)
            logger.save()


def test_scores_and_tables_are_those_of_the_results(make_run):
    run = make_run()
    named = final_scores(run)
    assert named["adapted/target_map"] == 0.375
    # Until the run is concluded, and where the gap is not measurable, there is none.
    assert "gap_recovered" not in named
    finding = Finding(None, None, 0.5, None, 400, False, 12, 0, False)
    run.save_results(replace(run.results, finding=finding))
    assert final_scores(run)["gap_recovered"] == 0.5
    # The bound is not what the run ends with, and a score that does not exist has no name.
    assert named["validator/entropy"] == -0.375
    assert not any("auroc" in name for name in named)
    assert list(run.results.as_table()["map"]) == [0.75, 0.25, 0.75, 0.375, 0.75, 0.5]
    finish_logging(run)
    table = pd.read_csv(run.path / "per_class.csv")
    assert len(table) == len(run.results.per_class_table()) == 3 * 2 * 50
    assert table[table.variant == "adapted"].groupby("domain")["ap"].mean().to_dict() == {
        "source": 0.75,
        "target": 0.375,
    }


def test_tensorboard_has_the_names_the_tables_and_the_pictures(make_run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = make_run("logger=tensorboard")
    log_epochs(run)
    finish_logging(run)
    assert pd.read_csv(run.path / "metrics" / "adapt" / "metrics.csv")["val/map"].tolist() == [0.25]
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    expected = {"source-val/map", "adapt-val/map", "source-train/loss", "adapt-train/loss"} | final_scores(run).keys()
    assert set(events.Tags()["scalars"]) - {"source-epoch", "adapt-epoch"} == expected
    assert events.Scalars("adapted/target_map")[0].value == 0.375
    assert [(event.step, event.value) for event in events.Scalars("adapt-val/map")] == [(3, 0.25)]
    encoded = np.frombuffer(events.Images("examples/target_00")[0].encoded_image_string, np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert picture.shape == (20, 40, 3)
    assert picture[2, 2].tolist() == [255, 0, 0]  # as the file has it, and the box is elsewhere
    assert picture[10, 15].tolist() != [255, 0, 0]

    def text(name):
        return events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()

    assert "| adapted | adapted | target | 0.375 |" in text("results")
    assert text("per_class").count("\n") == 3 * 2 * 50 + 1
    assert code_state().sources in text("run")
    assert "person 1, adapted: crouch/kneel 0.90" in text("examples/target_00")


def records(file):
    """The records of a .wandb file: LevelDB's log format after seven bytes of W&B's own."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, position, part = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        part += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(part)
            yield record
            part = b""


def tracked(run):
    """What W&B has on disk: the run's record, its configuration, all logged values, and the summary."""
    config, history, summary, about = {}, [], {}, None
    for file in sorted(run.path.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(file):
            about = record.run if record.HasField("run") else about
            for item in (*record.run.config.update, *record.config.update):
                config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
            if record.HasField("history"):
                items = record.history.item
                history.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
            summary |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update}
    return about, config, history, summary


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_wandb_without_an_account_has_all_of_it_on_disk(make_run, no_account):
    wandb = pytest.importorskip("wandb")
    run = make_run("logger=csv, wandb", "selection=oracle", "seed=7")
    log_epochs(run)
    assert os.environ["WANDB_MODE"] in ("dryrun", "offline")
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    finish_logging(run)
    wandb.teardown()  # its service writes the last block when it ends
    about, config, history, summary = tracked(run)
    assert set(about.tags) == {"oracle", "embedded data"}
    assert config["seed"] == 7
    assert config["run"]["oracle"] is True
    assert config["run"]["code"] == asdict(code_state())
    logged = {name: value for line in history for name, value in line.items()}
    assert {name: logged[name] for name in ("source-val/map", "adapt-val/map")} == {
        "source-val/map": 0.25, "adapt-val/map": 0.25,
    }  # fmt: skip
    expected = final_scores(run)
    assert {name: summary[name] for name in expected} == expected
    files = next(run.path.glob("wandb/offline-run-*/files"))
    table = json.loads((files / logged["per_class/path"]).read_text())
    assert table["columns"] == list(run.results.per_class_table().columns)
    assert len(table["data"]) == 3 * 2 * 50
    assert len(json.loads((files / logged["results/path"]).read_text())["data"]) == 6
    assert "person 1, source_only: fall down 0.70, crouch/kneel 0.20" in logged["examples/captions"][0]
    boxes = json.loads((files / logged["examples/all_boxes"][0]["adapted"]["path"]).read_text())
    assert boxes["box_data"][0]["position"] == {"minX": 0.25, "minY": 0.5, "maxX": 0.5, "maxY": 1.0}
    assert boxes["box_data"][0]["class_id"] == 3

    # A run that is continued goes on under the same id, even if nothing is left to train.
    again = Run.open(run.path)
    finish_logging(again)
    wandb.teardown()
    names = {file.name for file in run.path.glob("wandb/offline-run-*/run-*.wandb")}
    assert len(names) == 1


def test_csv_alone_starts_no_tracker(make_run, no_account):
    run = make_run()
    log_epochs(run)
    finish_logging(run)
    assert not (run.path / "wandb").exists()
    assert not (run.path / "tensorboard").exists()
    assert "WANDB_MODE" not in os.environ


def test_the_state_of_the_code_follows_its_sources_and_its_own_repository(tmp_path):
    package = tmp_path / "repository" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n")

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *who, *words], cwd=package.parent, check=True, capture_output=True)

    git("init")
    first = code_state(package)
    # In a repository, and not of it: that commit would say nothing.
    assert (first.version, first.commit, first.modified) == (__version__, None, None)
    git("add", ".")
    git("commit", "-m", "first")
    committed = code_state(package)
    assert committed == replace(first, commit=committed.commit, modified=False)
    assert len(committed.commit) == 40
    (package / "__init__.py").write_text("a = 2\n")
    changed = code_state(package)
    assert changed.modified is True
    assert changed.commit == committed.commit
    assert changed.sources != committed.sources
    (package / "__init__.py").write_text("a = 1\n")
    assert code_state(package) == committed
    (package / "more.py").write_text("")
    assert code_state(package).modified is True
