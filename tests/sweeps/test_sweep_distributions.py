"""Every distribution of W&B against W&B's own search engine where it is installed, and against its definition."""

import datetime
import math

import numpy as np
import optuna
import pytest

from microg_da.errors import InputError
from microg_da.sweeps.distributions import LARGEST_GRID, Choice, Constant, Quantile, Range, read_parameter

optuna.logging.set_verbosity(optuna.logging.ERROR)

EVERY = {
    "constant": {"value": 3},
    "categorical": {"values": [1, 2.5, "a", None]},
    "categorical_w_probabilities": {"values": ["a", "b", "c"], "probabilities": [0.2, 0.5, 0.3]},
    "int_uniform": {"min": -2, "max": 7},
    "uniform": {"min": -1.5, "max": 2.5},
    "q_uniform": {"min": 0.0, "max": 10.0, "q": 2.5},
    "log_uniform": {"min": -3.0, "max": 1.0},
    "log_uniform_values": {"min": 0.001, "max": 10.0},
    "q_log_uniform": {"min": 0.0, "max": 4.0, "q": 2},
    "q_log_uniform_values": {"min": 1.0, "max": 64.0, "q": 4},
    "inv_log_uniform": {"min": -1.0, "max": 3.0},
    "inv_log_uniform_values": {"min": 0.01, "max": 100.0},
    "normal": {"mu": 1.0, "sigma": 2.0},
    "q_normal": {"mu": 1.0, "sigma": 2.0, "q": 0.5},
    "log_normal": {"mu": -1.0, "sigma": 0.5},
    "q_log_normal": {"mu": 2.0, "sigma": 0.5, "q": 1},
    "beta": {"a": 2.0, "b": 5.0},
    "q_beta": {"a": 2.0, "b": 5.0, "q": 0.1},
}


def at(parameter, quantile):
    """The value at a quantile, from what Optuna is given."""
    if isinstance(parameter, Quantile):
        return parameter.inverse(quantile)
    if isinstance(parameter, Constant):
        return parameter.value
    if isinstance(parameter, Choice):
        return parameter.values[math.ceil(quantile * len(parameter.values)) - 1]
    if parameter.whole:
        return int(parameter.low) + math.ceil(quantile * (parameter.high - parameter.low + 1)) - 1
    if parameter.log:
        return math.exp(np.interp(quantile, [0, 1], np.log([parameter.low, parameter.high])))
    return np.interp(quantile, [0, 1], [parameter.low, parameter.high])


@pytest.mark.parametrize("name", EVERY)
def test_it_is_the_distribution_that_wandb_draws(name):
    params = pytest.importorskip("sweeps.params", reason="W&B's engine: pip install --no-deps sweeps jsonref")
    theirs = params.HyperParameter("x", {"distribution": name, **EVERY[name]})
    ours = read_parameter({"distribution": name, **EVERY[name]}, "x")
    # Quantiles at which no step of any of the distributions falls.
    for quantile in (0.0137, 0.111, 0.234, 0.351, 0.449, 0.523, 0.617, 0.739, 0.853, 0.987):
        expected = theirs.ppf(quantile)
        if isinstance(expected, (str, type(None))):
            assert at(ours, quantile) == expected
        else:
            assert at(ours, quantile) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


def test_none_of_wandbs_distributions_is_forgotten():
    schema = pytest.importorskip("sweeps.config.schema", reason="W&B's engine: pip install --no-deps sweeps jsonref")
    forms = schema.sweep_config_jsonschema["definitions"]
    text = str([form for name, form in forms.items() if name.startswith("param_")])
    for name in EVERY:
        assert repr(name) in text
    named = {
        choice
        for name, form in forms.items()
        if name.startswith("param_")
        for part in [form, *form.get("anyOf", [])]
        for choice in part.get("properties", {}).get("distribution", {}).get("enum", [])
    }
    assert named == set(EVERY)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"value": None}, Constant(None)),
        ({"values": [4, 8]}, Choice((4, 8))),
        ({"min": 1, "max": 4}, Range(1, 4, whole=True)),
        ({"min": 1, "max": 4.0}, Range(1.0, 4.0)),
    ],
)
def test_the_distribution_that_is_not_named_is_the_one_wandb_implies(spec, expected):
    assert read_parameter(spec, "x") == expected


@pytest.mark.parametrize("name", EVERY)
def test_what_optuna_draws_is_what_the_parameter_means(name):
    parameter = read_parameter({"distribution": name, **EVERY[name]}, "x")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [parameter.suggest(study.ask(), "x") for _ in range(60)]
    if name.startswith("q_"):
        q = EVERY[name]["q"]
        assert np.allclose(np.array(drawn) / q, np.round(np.array(drawn) / q))
        assert all(isinstance(value, int) for value in drawn) == float(q).is_integer()
    elif isinstance(parameter, Range):
        assert parameter.low <= min(drawn) < max(drawn) <= parameter.high
    elif isinstance(parameter, Choice):
        assert set(drawn) == set(parameter.values)
    below = np.mean([value <= at(parameter, 0.5) for value in drawn]) if name not in ("categorical",) else 0.5
    if not isinstance(parameter, Constant) and "categorical" not in name:
        assert 0.25 < below < 0.95


def test_probabilities_weigh_the_choice():
    parameter = read_parameter({"values": ["a", "b", "c"], "probabilities": [0.7, 0.0, 0.3]}, "x")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [parameter.suggest(study.ask(), "x") for _ in range(200)]
    assert drawn.count("b") == 0
    assert 0.6 < drawn.count("a") / 200 < 0.8


def test_choices_that_optuna_cannot_keep_or_tell_apart_come_back_as_they_were():
    for values in ([[0.9, 1.1], [1.0, 1.2]], [1, True, 1.0], [{"a": 1}, {"a": 2}]):
        parameter = read_parameter({"values": values}, "x")
        study = optuna.create_study(sampler=optuna.samplers.GridSampler({"x": parameter.labels}))
        drawn = [parameter.suggest(study.ask(), "x") for _ in values]
        assert sorted(map(repr, drawn)) == sorted(map(repr, values))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"distribution": "unifrom", "min": 0, "max": 1}, ["'unifrom'", "'uniform'"]),
        ({"distribution": "normal", "sigm": 1}, ["'sigm'", "'sigma'"]),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, ["above 0"]),
        ({"min": 2, "max": 1}, ["above max"]),
        ({"min": "1e-4", "max": 1}, ["1.0e-4"]),
        ({"distribution": "uniform", "min": 0}, ["needs max"]),
        ({"values": []}, ["values", "list"]),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, ["probabilities"]),
        ({"values": [1, 2], "probabilities": [1.0]}, ["probabilities"]),
        ({"distribution": "q_normal", "q": 0}, ["q=0"]),
        ({"distribution": "normal", "sigma": 0}, ["sigma=0"]),
        ({"distribution": "beta", "a": True}, ["a=True"]),
        ({"distribution": "log_uniform", "min": 0, "max": 1000}, ["natural logarithms"]),
        ({"step": 3}, ["value, values"]),
        ({"distribution": ["uniform"]}, ["['uniform']"]),
        ({"min": 0, "max": 1, 2: 3}, ["'2'"]),
        ({"value": datetime.date(2024, 1, 1)}, ["quotes"]),
        ({"min": 0, "max": 10**400}, ["number below 2⁵³"]),
        ({"distribution": "uniform", "min": 0, "max": 10**400}, ["max=1000"]),
        ({"distribution": "uniform", "min": -1.7e308, "max": 1.7e308}, ["min=-1.7"]),
        ({"distribution": "log_uniform", "min": -1000, "max": 1}, ["above 0"]),
        ({"distribution": "q_log_uniform", "min": -1000, "max": 1}, ["above 0"]),
        ({"distribution": "log_normal", "mu": 708}, ["not finite"]),
        ({"distribution": "q_normal", "q": 1e-320}, ["not finite"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(spec, words):
    with pytest.raises(InputError) as caught:
        read_parameter(spec, "file: x")
    assert not [word for word in ["file: x", *words] if word not in str(caught.value)]


def test_a_grid_counts_whole_ranges_and_steps_as_wandb_does():
    assert read_parameter({"min": 2, "max": 4}, "x", grid=True) == Choice((2, 3, 4))
    assert read_parameter({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, "x", grid=True) == Choice(
        (0.0, 0.25, 0.5, 0.75)
    )
    with pytest.raises(InputError, match=r"\bx\b.*normal.*method: random"):
        read_parameter({"distribution": "normal"}, "x", grid=True)


@pytest.mark.parametrize(
    "spec",
    [
        {"min": 0, "max": LARGEST_GRID},
        {"min": 0, "max": 2**53 - 1},
        {"distribution": "q_uniform", "min": 0, "max": 1, "q": 1e-300},
        {"distribution": "q_uniform", "min": 1, "max": 1, "q": 0.5},
    ],
)
def test_a_grid_that_is_too_fine_or_has_no_point_is_refused_at_once(spec):
    with pytest.raises(InputError, match=r"\bx\b.*\b10,000\b"):
        read_parameter(spec, "x", grid=True)
