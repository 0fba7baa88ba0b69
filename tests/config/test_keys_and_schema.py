"""What is said of every key, and the JSON schema of experiment files."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from omegaconf import OmegaConf

from microg_da.adaptation import ADAPTATIONS
from microg_da.cli.config import schema_text
from microg_da.config import Config, check_config, load_config, schema_keys
from microg_da.config.checks import CHOICES, LIMITS
from microg_da.config.experiments import experiment_files
from microg_da.config.json_schema import SCHEMA_FILE, schema_reference
from microg_da.config.keys import attribute_meanings, describe_keys
from microg_da.config.structure import nested_schema, sections
from microg_da.errors import InputError
from microg_da.models import MODELS

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
FILES = sorted(EXPERIMENTS.rglob("*.yaml"))


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(schema_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def read(text):
    return OmegaConf.to_container(OmegaConf.create(text))


def test_every_key_has_a_meaning_of_its_own():
    keys = describe_keys()
    assert sorted(key.name for key in keys) == sorted(schema_keys())
    for key in keys:
        assert len(key.meaning.split()) >= 3, key.name
        assert key.meaning.endswith("."), key.name


def test_no_meaning_is_of_an_attribute_that_is_gone():
    for owner in (Config, *(nested_schema(Config, section) for section in sections())):
        assert list(attribute_meanings(owner)) == [item.name for item in dataclasses.fields(owner)]


def test_a_key_that_a_meaning_names_exists():
    for key in describe_keys():
        for named in re.findall(rf"``((?:{'|'.join(sections())})\.\w+)``", key.meaning):
            assert named in schema_keys(), f"{key.name}: {named}"


def test_values_that_a_meaning_leaves_out():
    """The values of a key are in its type; a meaning that names one of them names all that exist."""
    for key in describe_keys():
        named = set(re.findall(r"``([a-z_]+)``", key.meaning)) & set(key.choices or ())
        assert not named or named == set(key.choices), key.name


def test_defaults_are_those_of_the_schema_and_are_yaml():
    config = OmegaConf.structured(Config())
    for key in describe_keys():
        assert OmegaConf.select(config, key.name) == key.default, key.name
        assert yaml.safe_load(key.default_text) == key.default, key.name


def test_choices_and_limits_are_of_keys_that_exist_and_hold_the_defaults():
    assert set(CHOICES) | set(LIMITS) <= set(schema_keys())
    check_config(Config())


def test_the_committed_schema_is_up_to_date():
    committed = (EXPERIMENTS / SCHEMA_FILE).read_text(encoding="utf-8")
    assert committed == schema_text(), f"python -m microg_da config --json-schema > experiments/{SCHEMA_FILE}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_experiments_validate_and_name_the_schema(path, validator):
    validator.validate(OmegaConf.to_container(OmegaConf.load(path)))
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == schema_reference(path, EXPERIMENTS)
    assert (path.parent / first.partition("$schema=")[2]).resolve() == EXPERIMENTS / SCHEMA_FILE


@pytest.mark.parametrize("name", experiment_files())
def test_resolved_configurations_validate(name, validator):
    validator.validate(dataclasses.asdict(load_config(name)))


def test_everything_in_the_schema_has_a_meaning_and_a_default_that_validates(validator):
    whole = dataclasses.asdict(Config())
    validator.validate(whole)
    for section in sections():
        properties = validator.schema["properties"][section]
        inner = properties.get("properties") or properties["anyOf"][0]["properties"]
        assert {f"{section}.{leaf}" for leaf in inner} <= set(schema_keys())
        assert all(said["description"] for said in inner.values())


VALID = [
    "adaptation: dann",
    "adaptation: {name: 'my_package.methods:Mine', args: {anything: [1, 2]}}",
    "model: {name: 'timm:vit_small_patch16_224', roi_stride: 16, freeze: all}",
    "training.epochs: 5",
    "training: {}",
    "training: {lr: 4e-3, warmup_epochs: 0}",
    "target_supervised: {epochs: null}",
    "base: ava2microg",
    "when: {protocol=published: {model: {roi_stride: published}, training.epochs: 3}}",
    "data: {target_options: {footage: real}, sizes: published, train_sides: [256, 320]}\nmodel: slow_r50_8x8",
    "training: {lr_batch_size: 64, max_batches_per_epoch: null}",
]
INVALID = [
    "adaptation: dan",
    "adaptation: {name: dan}",
    "trainings: {epochs: 3}",
    "training: {epoch: 3}",
    "training: {epochs: 0}",
    "training: {epochs: many}",
    "training: {lr: 0}",
    "training: {schedule: linear}",
    "model: {dropout: 1}",
    "model: {roll_pooling: c3}",
    "augment: {scale: [0.9]}",
    "augment: {scale: [0, 1]}",
    "adaptation: {rotation: 181}",
    "seed: 4294967296",
    "protocol: publish",
    "when: {protocol: {seed: 1}}",
    "when: {protocol=published: {sed: 1}}",
    "when: {protocol=published: {when: {seed=1: {bounds: true}}}}",
    "data: {train_sides: [320, 256, 1]}",
    "data: {test_side: 15}",
    "training: {lr_batch_size: 0}",
]


@pytest.mark.parametrize("text", VALID)
def test_what_the_program_takes_the_schema_takes(text, validator, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    load_config(str(tmp_path / "mine.yaml"))
    validator.validate(read(text))


@pytest.mark.parametrize("text", INVALID)
def test_what_the_program_refuses_the_schema_marks(text, validator, tmp_path):
    from microg_da.training.preflight import check_names

    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError):
        check_names(load_config(str(tmp_path / "mine.yaml")))
    assert not validator.is_valid(read(text))


def test_names_of_the_schema_are_those_of_the_registries(validator):
    model = validator.schema["properties"]["model"]["anyOf"][0]["properties"]["name"]
    assert set(model["anyOf"][0]["enum"]) == set(MODELS)
    adaptation = validator.schema["properties"]["adaptation"]["anyOf"][0]["properties"]["test_time"]
    assert set(adaptation["anyOf"][0]["enum"]) == set(ADAPTATIONS)
