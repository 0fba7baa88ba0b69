"""Experiments: how keys are set, what is refused, and what the refusal says."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from microg_da.config import Config, load_config, save_config, schema_keys
from microg_da.config.experiments import experiment_files, find_experiment, parse_overrides
from microg_da.errors import InputError


@pytest.fixture
def experiment(tmp_path):
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "words",
    [
        ["training.epochs=5"],
        ["--training.epochs=5"],
        ["--training.epochs", "5"],
        ["training.epochs=3", "training.epochs=5"],
    ],
)
def test_three_spellings_of_an_override_mean_the_same(words):
    assert load_config("ava2microg", words).training.epochs == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("null", None),
        ("a=b", "a=b"),
        ("0.5", 0.5),
    ],
)
def test_override_values_are_yaml(text, value):
    assert parse_overrides([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trainning.epochs=3"], ["command line", "trainning.epochs", "training.epochs"]),
        (["epochs=3"], ["training.epochs", "adaptation.epochs"]),
        (["training.dropout=0"], ["Did you mean 'model.dropout'?"]),
        (["training.drop_out=0"], ["Did you mean 'model.dropout'?"]),
        (["model.lr=1"], ["Did you mean 'training.lr' or 'adaptation.lr'?"]),
        (["adaption.lrr=1"], ["Did you mean 'adaptation.lr'?"]),
        (["adaption=dann"], ["Did you mean 'adaptation'?"]),
        (["sed=1"], ["Did you mean 'seed'?"]),
        (["training.qqq=1"], ["Sections: data, "]),
        (["training.epochs=many"], ["training.epochs", "'many'", "int"]),
        (["training.epochs=0"], ["training.epochs", "at least 1"]),
        (["training.lr=-1"], ["training.lr", "above 0"]),
        (["training.lr=.nan"], ["training.lr", "above 0"]),
        (["model.dropout=1"], ["model.dropout", "[0, 1)"]),
        (["augment.scale=[2, 1]"], ["augment.scale"]),
        (["augment.rotation=360"], ["augment.rotation", "180"]),
        (["logger=csv,wandbb"], ["wandb"]),
        (["training=3"], ["training.epochs"]),
        (["stray"], ["stray", "key=value"]),
        (["--bounds"], ["--bounds", "VALUE"]),
        (["--bounds", "--seed=1"], ["--bounds", "VALUE"]),
        (["training.epochs=["], ["training.epochs", "YAML"]),
        (["training.step_epochs=[0, 5]"], ["step_epochs", "relative_lrs"]),
    ],
)
def test_what_is_wrong_is_named(words, parts):
    with pytest.raises(InputError) as caught:
        load_config("ava2microg", words)
    for part in parts:
        assert part in str(caught.value)


def test_a_wrong_key_in_a_file_names_the_file(experiment):
    path = experiment("training:\n  epoch: 3\n")
    with pytest.raises(InputError, match=r"mine\.yaml.*'training\.epoch'.*training\.epochs"):
        load_config(str(path))


def test_a_wrong_value_in_a_file_names_the_file_also_when_it_is_only_impossible(experiment):
    path = experiment("training: {batch_size: 0}\n")
    with pytest.raises(InputError, match=r"mine\.yaml.*training\.batch_size=0"):
        load_config(str(path))


def test_a_mapping_sets_the_keys_below():
    """W&B's agents write nested parameters so."""
    assert parse_overrides(["--model={'num_frames': 4, 'options': {'x': 1}}"]) == {
        "model.num_frames": 4,
        "model.options.x": 1,
    }


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [", "just words", "\tx: 1", "{a: 1"])
def test_files_that_are_no_experiment(experiment, text):
    with pytest.raises(InputError, match=r"mine\.yaml"):
        load_config(str(experiment(text)))


NO_VALUES = ["0x_", "!!int x", "!!int ''", "!!bool x", "!!timestamp x", "9" * 5000, "[" * 500, '"\\ud800"']


@pytest.mark.parametrize("value", NO_VALUES)
def test_values_that_parsers_stumble_over(experiment, value):
    with pytest.raises(InputError):
        load_config(str(experiment(f"description: {value}")))
    with pytest.raises(InputError):
        load_config("ava2microg", [f"description={value}"])


@pytest.mark.parametrize("value", ['{"a":' * 3000, '{"seed": ' + "9" * 5000 + "}", '{"description": "\\ud800"}'])
def test_json_that_parsers_stumble_over(value):
    with pytest.raises(InputError):
        load_config("ava2microg", [value])


@pytest.mark.parametrize("value", [-1, 2**32, 10**400])
def test_seeds_that_no_generator_takes(value):
    with pytest.raises(InputError, match=r"seed=.*\b0\b"):
        load_config("ava2microg", [f"seed={value}"])
    with pytest.raises(InputError, match=r"training\.lr"):
        load_config("ava2microg", [f"training.lr={10**400 + value}"])


def test_a_file_whose_name_looks_like_an_interpolation(experiment):
    with pytest.raises(InputError, match="experiment"):
        load_config(str(experiment("seed: 1", "${a.yaml")))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match=r"binary\.yaml"):
        load_config(str(tmp_path / "binary.yaml"))


def test_a_missing_experiment_lists_those_there_are():
    with pytest.raises(InputError, match=r"ava2microgg.*ava2microg"):
        load_config("ava2microgg")
    with pytest.raises(InputError, match=r"nowhere/x\.yaml"):
        load_config("nowhere/x.yaml")


def test_an_experiment_builds_on_another_and_overrides_win(experiment):
    experiment("training: {epochs: 5, lr: 0.5}\nadaptation: {name: dann, args: {weight: 0.7}}\n", "below.yaml")
    path = experiment("base: below\ntraining: {lr: 0.25}\n")
    config = load_config(str(path), ["seed=9"])
    assert (config.training.epochs, config.training.lr, config.seed) == (5, 0.25, 9)
    assert config.adaptation.args == {"weight": 0.7}


def test_arguments_go_with_their_method(experiment):
    path = str(experiment("adaptation: {args: {weight: 0.7}, name: dann}\n"))
    assert load_config(path).adaptation.args == {"weight": 0.7}
    assert load_config(path, ["adaptation=dann"]).adaptation.args == {"weight": 0.7}
    assert load_config(path, ["adaptation=adabn"]).adaptation.args == {}
    behind = "adaptation: {name: dann, test_time: roll_tta, test_time_args: {rolls: 4}}\n"
    assert load_config(str(experiment(behind, "behind.yaml"))).adaptation.test_time_args == {"rolls": 4}
    other = load_config(str(experiment(behind, "behind.yaml")), ["adaptation=mmd"]).adaptation
    assert (other.test_time, other.test_time_args) == (None, {})
    rolled = str(experiment("adaptation: {name: dann, rotation: 30}\n", "rolled.yaml"))
    assert load_config(rolled).adaptation.rotation == 30
    assert load_config(rolled, ["adaptation=mmd"]).adaptation.rotation is None
    assert load_config(rolled, ["adaptation.rotation=90", "adaptation=mmd"]).adaptation.rotation == 90
    named = ["adaptation.test_time_args.rolls=2", "adaptation.test_time=roll_tta", "adaptation=mmd"]
    assert load_config(path, named).adaptation.test_time_args == {"rolls": 2}
    both = load_config(path, ["adaptation.args.max_clips=5", "adaptation=adabn"])
    assert both.adaptation.args == {"max_clips": 5}


def test_a_circle_of_bases_is_refused(experiment):
    experiment("base: two\n", "one.yaml")
    path = experiment("base: one\n", "two.yaml")
    with pytest.raises(InputError, match="base"):
        load_config(str(path))


def test_the_saved_configuration_gives_the_same_configuration(tmp_path):
    config = load_config(
        "ava2microg", ["adaptation.args.weight=0.25", "augment.scale=[0.5, 2]", "model.checkpoint=w.pt"]
    )
    assert load_config(config=save_config(config, tmp_path / "config.yaml")) == config


def test_experiments_are_found_in_the_working_folder_first(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "ava2microg.yaml").write_text("seed: 77\n")
    monkeypatch.chdir(tmp_path)
    assert find_experiment("ava2microg") == tmp_path / "experiments" / "ava2microg.yaml"
    assert load_config("ava2microg").seed == 77


def test_every_experiment_of_the_repository_loads():
    for name, path in experiment_files().items():
        assert isinstance(load_config(str(path)), Config), name


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(schema_keys()), st.text(max_size=8)), max_size=4))
def test_no_override_ever_escapes_as_another_exception(pairs):
    try:
        load_config("ava2microg", [f"{key}={value}" for key, value in pairs])
    except InputError as error:
        assert str(error)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=6),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=4),
            lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=4), x, max_size=2),
            max_leaves=4,
        ),
        max_size=3,
    )
)
def test_no_file_ever_escapes_as_another_exception(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "x.yaml"
    path.write_text(yaml.safe_dump(content))
    try:
        load_config(str(path))
    except InputError as error:
        assert str(error)


def test_experiments_in_folders_have_the_folder_in_their_name(tmp_path, monkeypatch):
    folder = tmp_path / "experiments" / "mine"
    folder.mkdir(parents=True)
    (folder / "_base.yaml").write_text("seed: 5\n")
    (folder / "one.yaml").write_text("base: _base\ndescription: one of mine\n")
    monkeypatch.chdir(tmp_path)
    assert "mine/one" in experiment_files()
    assert not [name for name in experiment_files() if "_base" in name]
    by_name, by_path = load_config("mine/one"), load_config("experiments/mine/one.yaml")
    assert by_name == by_path
    assert (by_name.experiment, by_name.seed) == ("mine/one", 5)
    with pytest.raises(InputError, match=r"'mine/on'.*'mine/one'"):
        load_config("mine/on")


CHOICES = """
protocol: corrected
training: {epochs: 3}
adaptation: {name: dann, args: {weight: 0.5}}
when:
  protocol=published:
    training: {epochs: 7, lr: 0.5}
  adaptation=mmd:
    adaptation: {rotation: 45}
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (3, 2e-3, "dann", None)),
        (["protocol=published"], (7, 0.5, "dann", None)),
        (["protocol=corrected"], (3, 2e-3, "dann", None)),
        (["protocol=published", "training.epochs=9"], (9, 0.5, "dann", None)),
        (["adaptation=mmd"], (3, 2e-3, "mmd", 45)),
        (["adaptation=mmd", "protocol=published", "adaptation.rotation=10"], (7, 0.5, "mmd", 10)),
    ],
)
def test_a_section_may_hold_for_one_value_of_a_key(experiment, words, expected):
    experiment(CHOICES, "below.yaml")
    for path in (experiment(CHOICES), experiment("base: below\n", "above.yaml")):
        config = load_config(str(path), words)
        adaptation = config.adaptation
        assert (config.training.epochs, config.training.lr, adaptation.name, adaptation.rotation) == expected


def test_a_file_prevails_over_the_conditions_of_its_base(experiment):
    experiment(CHOICES, "below.yaml")
    path = experiment("base: below\ntraining: {epochs: 5}\nwhen: {adaptation=mmd: {training: {epochs: 6}}}")
    assert load_config(str(path), ["protocol=published"]).training.epochs == 5
    assert load_config(str(path), ["protocol=published", "adaptation=mmd"]).training.epochs == 6
    assert load_config(str(path), ["protocol=published"]).training.lr == 0.5


def test_a_condition_of_a_base_yields_to_the_command_line_and_survives_saving(experiment, tmp_path):
    config = load_config(str(experiment(CHOICES)), ["protocol=published"])
    saved = save_config(config, tmp_path / "config.yaml")
    assert load_config(config=saved) == config
    with pytest.raises(InputError, match="protocol=corrected"):
        load_config(None, ["protocol=corrected"], config=saved)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("when: 3", ["when"]),
        ("when: {protocol: {seed: 1}}", ["when", "key=value"]),
        ("when: {protocol=published: 3}", ["when", "protocol=published"]),
        ("when: {protocl=published: {seed: 1}}", ["protocl", "protocol"]),
        ("when: {seed=0: {sed: 1}}", ["'sed'", "'seed'"]),
        ("when: {seed=7: {sed: 1}}", ["'sed'", "'seed'"]),
        ("protocol: old", ["protocol", "published"]),
        ("data: {sizes: published}\nmodel: {name: timm:resnet18}", ["data.sizes", "timm:resnet18"]),
        ("data: {train_sides: [300, 200]}", ["data.train_sides"]),
        ("data: {test_side: 3}", ["data.test_side"]),
        ("training: {lr_batch_size: 0}", ["training.lr_batch_size"]),
        ("training: {validate_every: 0}", ["training.validate_every"]),
        ("training: {max_batches_per_epoch: 0}", ["training.max_batches_per_epoch"]),
        ("training: {weight_decay: -1}", ["training.weight_decay"]),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(experiment, text, parts):
    with pytest.raises(InputError) as caught:
        load_config(str(experiment(text)))
    for part in [*parts, "mine.yaml"]:
        assert part in str(caught.value)


def test_a_protocol_that_would_change_nothing_is_refused():
    with pytest.raises(InputError, match=r"evaluation\.protocol"):
        load_config("ava2microg", ["protocol=published"])


def test_options_of_a_domain_stay_when_its_folder_changes(experiment):
    path = experiment("data: {target: microg4m:/a, target_options: {scheme: by-source, folds: 3}}")
    config = load_config(str(path), ["data.target=microg4m:/b", "data.target_options.folds=4", "data.test_side=200"])
    assert config.file_options("target") | {"scheme": "by-source", "folds": 4, "test_side": 200} == (
        config.file_options("target")
    )
    assert "scheme" not in config.file_options("source")


def test_published_sizes_fill_what_is_not_set(experiment):
    path = str(experiment("data: {sizes: published}\nmodel: {name: x3d_l_16x5}"))
    data = load_config(path).data
    assert (data.image_size, data.train_sides, data.test_side) == (312, [356, 446], 356)
    data = load_config(path, ["data.image_size=64", "data.train_sides=[64, 80]", "model=x3d_s_13x6"]).data
    assert (data.image_size, data.train_sides, data.test_side) == (64, [64, 80], 182)
