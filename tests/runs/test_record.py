"""The record of a run, its examples and its folder."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.runs.examples import ExampleKeyframe, ExamplePerson, read_example_list, write_example_list
from microg_da.runs.fields import FORMAT
from microg_da.runs.folder import Run
from microg_da.runs.record import ModelFacts, read_record, write_record

MODEL = ModelFacts("r2plus1d_micro", 100, 90, 8, 4)


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run.plan(load_config("ava2microg", ["seed=3"]), tmp_path, "run")
    run.create()
    return run


def test_the_record_of_a_new_run_says_what_the_configuration_says(run):
    record = run.record
    assert (record.experiment, record.name, record.seed, record.status) == ("ava2microg", "run", 3, "created")
    assert (record.source, record.embedded_data, record.oracle) == (run.config.data.source, True, False)
    assert json.loads(run.record_file.read_text())["format"] == FORMAT


def test_what_is_written_is_read_back(run):
    full = replace(
        run.record,
        status="finished",
        warnings=("two clips overlap",),
        model=MODEL,
        data={"source/train": "24 clips"},
        split_hash="3f2a9c",
        fps={"source/train": 30.0, "target/test": None},
        peak_memory_mib=512,
    )
    write_record(full, run.record_file)
    assert read_record(run.record_file) == full


def test_an_update_keeps_what_other_steps_have_written(run):
    run.update(lambda record: replace(record, model=MODEL))
    run.update(lambda record: replace(record, warnings=(*record.warnings, "a")))
    created = run.record.created
    again = Run.open(run.path)
    again.update(lambda record: replace(record, status="running"))
    assert again.record.model == MODEL
    assert again.record.warnings == ("a",)
    assert (again.record.status, again.record.created) == ("running", created)


def test_a_run_that_was_moved_has_the_name_of_its_folder(run):
    moved = Run.open(run.path.rename(run.path.with_name("moved")))
    moved.update(lambda record: replace(record, status="running"))
    assert moved.record.name == "moved"


def test_records_of_the_first_format_are_read(run):
    old = json.loads(run.record_file.read_text())
    del old["format"]
    old["model"] = {"name": "x", "parameters": 1, "num_frames": 8, "sampling_rate": 2}
    run.record_file.write_text(json.dumps(old))
    assert run.record.model == ModelFacts("x", 1, None, 8, 2)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ({"format": FORMAT + 1}, "newer version"),
        ({"seed": "one"}, "seed"),
        ({"oracle": 1}, "oracle"),
        ({"warnings": [1]}, "warnings"),
        ({"model": {"name": "x"}}, "model.*parameters"),
        ({"fps": {"target/test": "fast"}}, "target/test"),
        ({"peak_memory_mib": True}, "peak_memory_mib"),
    ],
)
def test_a_damaged_record_names_file_and_key(run, damage, named):
    run.record_file.write_text(json.dumps(json.loads(run.record_file.read_text()) | damage))
    with pytest.raises(InputError, match=rf"run\.json.*{named}"):
        _ = run.record


def test_examples_are_read_back(tmp_path):
    person = ExamplePerson((0.1, 0.2, 0.3, 0.4), (12, 59), {"source_only": {12: 0.75}, "adapted": {}})
    examples = (
        ExampleKeyframe("target", "v_0", 45, "target_00.png", ("target_00_00.jpg",), (person,)),
        ExampleKeyframe("source", "v_1", 46, "source_00.png", (), ()),
    )
    write_example_list(examples, tmp_path / "examples.json")
    assert read_example_list(tmp_path / "examples.json") == examples
    assert read_example_list(tmp_path / "gone.json") == ()


@pytest.mark.parametrize("damage", [{"box": [0, 1]}, {"true": ["a"]}, {"adapted": {"a": 1}}, {"adapted": {"1": "x"}}])
def test_a_damaged_example_is_named(tmp_path, damage):
    person = {"box": [0, 0, 1, 1], "true": [1], "adapted": {"1": 0.5}} | damage
    example = {"domain": "target", "video_id": "v", "frame_stamp": 1, "image": "a.png", "people": [person]}
    (tmp_path / "examples.json").write_text(json.dumps([example]))
    with pytest.raises(InputError, match=r"examples\.json, example 1, people 1"):
        read_example_list(tmp_path / "examples.json")
