"""What `list` shows is what the registries hold."""

from __future__ import annotations

import json

import pytest

from microg_da.adaptation import ADAPTATIONS
from microg_da.cli.catalogue import KINDS, entries, print_catalogue
from microg_da.data import DATA
from microg_da.errors import InputError
from microg_da.models import MODELS
from microg_da.taxonomy import get_taxonomy
from microg_da.validation import VALIDATORS


@pytest.mark.parametrize(
    ("what", "registry"),
    [("models", MODELS), ("adaptations", ADAPTATIONS), ("validators", VALIDATORS), ("data", DATA)],
)
def test_every_registry_line_is_listed(what, registry):
    found = entries(what)
    assert [entry["name"] for entry in found] == list(registry)
    for entry in found:
        line = registry.entry(entry["name"])
        assert entry["summary"] == line.summary
        assert {key: entry[key] for key in line.facts or {}} == (line.facts or {})


def test_kinds_are_listed_without_a_kind():
    assert [entry["name"] for entry in entries(None)] == list(KINDS)


def test_every_kind_lists_something():
    for kind in KINDS:
        assert all(entry["name"] and entry["summary"] for entry in entries(kind))
        assert entries(kind)


def test_pattern():
    assert {entry["name"] for entry in entries("models", "slow*")} == set(MODELS.names("slow*"))
    assert [entry["name"] for entry in entries("models", "slow_r50_8x8")] == ["slow_r50_8x8"]


@pytest.mark.parametrize(
    ("what", "pattern", "message"),
    [
        ("model", "*", "'model'.*'models'"),
        ("adaptations", "dan", "'dan'.*'dann'"),
        ("models", "zzz*", r"zzz\*.*slow_r50_8x8"),
    ],
)
def test_what_is_not_there_is_an_error(what, pattern, message):
    with pytest.raises(InputError, match=message):
        entries(what, pattern)


def test_experiments_of_the_current_folder_come_first(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text("description: my own\n")
    (tmp_path / "experiments" / "ava2microg.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    found = {entry["name"]: entry for entry in entries("experiments")}
    assert found["mine"]["summary"] == "my own"
    assert found["ava2microg"]["file"] == str(tmp_path / "experiments" / "ava2microg.yaml")


def test_a_broken_experiment_is_named(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "broken.yaml").write_text("a: [1\nb: 2")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"broken\.yaml"):
        entries("experiments")


def test_taxonomies_count_their_classes():
    for entry in entries("taxonomies"):
        taxonomy = get_taxonomy(entry["name"])
        assert entry["classes"] == str(len(taxonomy))
        assert sum(int(part.split()[0]) for part in entry["summary"].split(", ")) == len(taxonomy)


def test_table_holds_every_fact(capsys):
    print_catalogue("models")
    text = capsys.readouterr().out
    for entry in entries("models"):
        line = next(line for line in text.splitlines() if line.startswith(entry["name"] + " "))
        assert all(value in line for value in entry.values())


def test_json_is_one_object_with_numbers_as_numbers(capsys):
    print_catalogue("models", "slow_r50_8x8", as_json=True)
    output = json.loads(capsys.readouterr().out)
    assert output["what"] == "models"
    (entry,) = output["entries"]
    assert entry["name"] == "slow_r50_8x8"
    assert entry["parameters"] == 31_736_946


def test_a_table_without_entries(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("microg_da.config.experiments.experiment_files", dict)
    print_catalogue("experiments")
    assert capsys.readouterr().out.split() == ["name", "summary"]
