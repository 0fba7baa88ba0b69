"""Reading sweep files: what W&B takes is taken, and mistakes come to light before the first trial."""

import json
from itertools import pairwise

import pytest
import yaml

from microg_da.adaptation import uses_target_labels
from microg_da.config.experiments import sweep_files
from microg_da.errors import InputError
from microg_da.sweeps.file import Hyperband, read_sweep


@pytest.mark.parametrize("name", sweep_files())
def test_every_sweep_in_the_repository_is_valid_for_wandb_and_for_fit(name):
    jsonschema = pytest.importorskip("jsonschema")
    schema = pytest.importorskip("sweeps.config.schema", reason="W&B's engine: pip install --no-deps sweeps jsonref")
    content = yaml.safe_load(sweep_files()[name].read_text())
    jsonschema.validate(content, schema.sweep_config_jsonschema)
    assert read_sweep(name).content == content


@pytest.mark.parametrize(
    "macro", ["args", "args_no_hyphens", "args_no_equals", "args_json", "args_json_file", "args_no_boolean_flags"]
)
def test_fit_is_asked_the_same_whichever_macro_the_command_has(make_sweep, macro):
    words = ["--overrides", f"${{{macro}}}"] if "json" in macro else [f"${{{macro}}}"]
    path = make_sweep(
        command=["python", "-m", "microg_da", "fit", "--experiment", "ava2microg", *words],
        parameters={
            "training.lr": {"values": [0.00001, 0.25]},
            "augment": {"parameters": {"scale": {"values": [[0.9, 1.1]]}, "flip": {"value": 0}}},
            "adaptation.args.weight": {"value": 0.5},
            "adaptation.rotation": {"value": None},
        },
    )
    sweep = read_sweep(str(path))
    values = {name: parameter.examples()[0] for name, parameter in sweep.parameters.items()}
    config = sweep.request(values).config()
    assert config.training.lr == 0.00001
    assert config.augment.scale == [0.9, 1.1]
    assert config.augment.flip == 0
    assert config.adaptation.args["weight"] == 0.5
    assert config.adaptation.rotation is None


def test_keys_are_those_of_the_schema_whatever_short_form_the_words_have(make_sweep):
    sweep = read_sweep(str(make_sweep()), ["adaptation=adabn", "adaptation.test_time=roll_tta"])
    keys = sweep.request({"training.lr": 0.1}).keys()
    assert keys == {"adaptation.name": "adabn", "adaptation.test_time": "roll_tta", "training.lr": 0.1}


def test_nested_parameters_reach_the_command_as_wandb_writes_them(make_sweep, tmp_path):
    path = make_sweep(parameters={"model": {"parameters": {"num_frames": {"value": 4}, "sampling_rate": {"value": 2}}}})
    sweep = read_sweep(str(path))
    values = {"model.num_frames": 4, "model.sampling_rate": 2}
    assert sweep.expand(values, tmp_path / "args.json")[-1] == "--model={'num_frames': 4, 'sampling_rate': 2}"
    assert json.loads(json.dumps(sweep.args(values))) == {"model": {"num_frames": 4, "sampling_rate": 2}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parameters": {"training.lrr": {"value": 1}}}, ["'training.lrr'", "'training.lr'"]),
        ({"parameters": {"lr": {"value": 1}}}, ["'training.lr'"]),
        ({"parameters": {"training": {"parameters": {"epoch": {"value": 1}}}}}, ["'training.epochs'"]),
        ({"parameters": {"adaptation.args.weigth": {"value": 1}}}, ["weigth", "weight"]),
        ({"parameters": {"training.epochs": {"values": [1, 0]}}}, ["training.epochs=0"]),
        ({"parameters": {"adaptation.name": {"values": ["dann", "dan"]}}}, ["'dan'", "'dann'"]),
        ({"parameters": {}}, ["parameters"]),
        ({"parameters": {"training.lr": 3}}, ["training.lr", "{value: 3}"]),
        ({"method": "bayesian"}, ["'bayesian'", "'bayes'"]),
        ({"method": "bayes", "metric": None}, ["bayes needs a metric"]),
        ({"metric": {"name": "adapt-val/mapp"}, "early_terminate": {"type": "hyperband"}}, ["min_iter"]),
        ({"metric": {"name": "adapt/val_map"}}, ["'adapt/val_map'", "adapt-val/map"]),
        ({"metric": {"name": "adapt-val/map", "goal": "maximise"}}, ["'maximise'", "'maximize'"]),
        ({"metric": {"name": "target_supervised-val/map", "goal": "maximize"}}, ["bounds=true"]),
        ({"metrics": []}, ["metrics"]),
        ({"job": "x"}, ["job", "Launch"]),
        ({"metod": "grid"}, ["'metod'", "'method'"]),
        ({"command": ["python", "train.py", "${args}"]}, ["microg_da fit"]),
        ({"command": ["microg_da", "fit", "--name", "a", "${args}"]}, ["--name"]),
        ({"command": ["microg_da", "fit", "${arg}"]}, ["${arg}", "${args}"]),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2, "strict": False}}, ["strict"]),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 1}}, ["eta=1"]),
        ({"early_terminate": {"type": "envelope"}}, ["envelope"]),
        ({"run_cap": "many"}, ["run_cap='many'"]),
        ({"run_cap": 0}, ["run_cap=0"]),
        ({"project": 2024}, ["project=2024", "text"]),
        ({"entity": ["me"]}, ["entity=['me']", "text"]),
        ({"metric": {"name": "adapt-val/map", "target": float("nan")}}, ["target=nan"]),
        ({"command": ["microg_da", "fit", "${args}", "--experiment"]}, ["--experiment"]),
        (
            {
                "method": "grid",
                "parameters": {"seed": {"min": 0, "max": 199}, "synthetic.seed": {"min": 0, "max": 199}},
            },
            ["40,000"],
        ),
        (
            {"metric": {"name": "adapted/source_map"}, "early_terminate": {"type": "hyperband", "min_iter": 2}},
            ["every epoch"],
        ),
        (
            {
                "command": ["microg_da", "fit", "${args_no_boolean_flags}"],
                "parameters": {"bounds": {"values": [True, False]}},
            },
            ["bounds=false"],
        ),
    ],
)
def test_mistakes_are_named_before_anything_is_started(make_sweep, changes, words):
    path = make_sweep(**changes)
    with pytest.raises(InputError) as caught:
        read_sweep(str(path))
    message = str(caught.value)
    assert not [word for word in words if word not in message], message
    assert str(path) in message or "command" in message


BOMB = "".join(f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n" for before, after in pairwise("abcdefghij"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method: !!bool x", "YAML"),
        ("run_cap: 2024-13-45", "YAML"),
        ("[" * 500, "YAML"),
        (f"a: &a [1, 2]\n{BOMB}", "aliases"),
        ("method: grid\nparameters: &a {parameters: *a}", "aliases"),
        ("method: grid\nparameters: {seed: {values: &a [*a]}}", "aliases"),
    ],
)
def test_yaml_that_parsers_stumble_over(tmp_path, text, words):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_sweep(str(path))


def test_a_bracket_of_any_number_is_counted_at_once(make_sweep):
    stop = {"type": "hyperband", "max_iter": 27, "s": 10**9}
    assert read_sweep(str(make_sweep(early_terminate=stop))).hyperband == Hyperband(1, 27, 3)


TARGETS = [
    ("adapted/target_map", []),
    ("source_only/target_map", []),
    ("adapt-val/map", ["--selection=oracle"]),
    ("target_supervised-val/map", ["--bounds=true"]),
]


@pytest.mark.parametrize(("metric", "words"), TARGETS)
def test_a_metric_of_the_target_demands_to_be_called_an_oracle(make_sweep, metric, words):
    command = ["microg_da", "fit", "--experiment", "ava2microg", *words, "${args}"]
    changes = {"metric": {"name": metric, "goal": "maximize"}, "command": command}
    parameters = {"training.lr": {"values": [0.1, 0.2]}}
    if words != ["--selection=oracle"]:  # which says it already
        with pytest.raises(InputError, match=r"oracle: \{value: true\}"):
            read_sweep(str(make_sweep(**changes, parameters=parameters)))
    declared = read_sweep(str(make_sweep(**changes, parameters={**parameters, "oracle": {"value": True}})))
    assert uses_target_labels(declared.request({"training.lr": 0.1, "oracle": True}).config())


@pytest.mark.parametrize("metric", ["adapt-val/map", "adapted/source_map", "validator/entropy", "adapt-validator/x"])
def test_source_metrics_and_validators_need_no_oracle(make_sweep, metric):
    sweep = read_sweep(str(make_sweep(metric={"name": metric, "goal": "maximize"})))
    assert not uses_target_labels(sweep.request({"training.lr": 0.1}).config())


def test_an_oracle_at_the_top_is_told_where_to_stand(make_sweep):
    with pytest.raises(InputError, match=r"parameters: \{oracle"):
        read_sweep(str(make_sweep(oracle=True)))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"min_iter": 2}, Hyperband(2, None, 3)),
        ({"max_iter": 27, "s": 2, "eta": 3}, Hyperband(3, 27, 3)),
        ({"max_iter": 4, "s": 9, "eta": 2}, Hyperband(1, 4, 2)),
    ],
)
def test_hyperband_is_translated(make_sweep, spec, expected):
    assert read_sweep(str(make_sweep(early_terminate={"type": "hyperband", **spec}))).hyperband == expected
