"""W&B's distributions of parameters, converted for Optuna.

Optuna's own distributions (uniform, log-uniform, whole numbers, choices) are used directly. Other distributions are
drawn by quantile: Optuna proposes a number in (0, 1), and the inverse cumulative distribution gives the value. A random
search then has exactly W&B's distribution, and a model of the search space has a smooth axis.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from microg_da.errors import InputError, unknown_name

if TYPE_CHECKING:
    from optuna.trial import Trial

_TAIL = 1e-6
"""Minimum distance of drawn quantiles from 0 and 1, where a normal distribution is infinite."""

_LARGEST = 1e300
"""Largest valid number. Sums and differences of valid numbers are finite."""

_LARGEST_WHOLE = 2**53 - 1
"""Largest valid whole number. Optuna stores whole numbers as floats, which are exact up to here."""

LARGEST_GRID = 10_000
"""Maximum number of points of a grid. Each point is a run, and all points are listed before the first run."""


@dataclass(frozen=True)
class Constant:
    """A parameter with one value."""

    value: Any

    def suggest(self, trial: Trial, name: str) -> Any:
        """Return the value, without Optuna."""
        return self.value

    def examples(self) -> list[Any]:
        """Values that a check of the sweep tries."""
        return [self.value]


@dataclass(frozen=True)
class Choice:
    """A choice among values with equal probability."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> list[Any]:
        """Choices that Optuna stores: the values, or their JSON if Optuna cannot distinguish or store the values."""
        scalar = all(value is None or isinstance(value, (bool, int, float, str)) for value in self.values)
        distinct = len(set(self.values)) == len(self.values) if scalar else False
        return list(self.values) if distinct else [json.dumps(value, sort_keys=True) for value in self.values]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Draw one of the values."""
        labels = self.labels
        return self.values[labels.index(trial.suggest_categorical(name, labels))]

    def examples(self) -> list[Any]:
        """Every value."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A number between two bounds, on a plain or a logarithmic scale."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial, name: str) -> Any:
        """Draw a number."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high))
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def examples(self) -> list[Any]:
        """Both bounds."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Quantile:
    """A value drawn through the inverse of its cumulative distribution.

    Attributes:
        inverse: from a quantile in (0, 1) to the value.
    """

    inverse: Callable[[float], Any]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Draw a quantile and return its value."""
        return self.inverse(trial.suggest_float(name, _TAIL, 1 - _TAIL))

    def examples(self) -> list[Any]:
        """Values from both tails and the middle."""
        return [self.inverse(quantile) for quantile in (0.01, 0.5, 0.99)]


Parameter = Constant | Choice | Range | Quantile


def read_parameter(spec: Mapping[str, Any], where: str, *, grid: bool = False) -> Parameter:
    """Read one parameter of a sweep file.

    Args:
        spec: the entry in the file, e.g. ``{"distribution": "uniform", "min": 0, "max": 1}``.
        where: file and key, for error messages.
        grid: whether the sweep is a grid, whose parameters must have finitely many values.

    Raises:
        InputError: for an unknown distribution or key, or an invalid value.
    """
    name = spec.get("distribution", _implied(spec))
    if not isinstance(name, str) or name not in _FORMS:
        if name is None:
            raise InputError(
                f"{where}: expected value, values, min and max, parameters, or distribution, got {dict(spec)}."
            )
        raise unknown_name("distribution", str(name), _FORMS, where)
    form = _FORMS[name]
    for key in spec:
        if key != "distribution" and key not in form.keys:
            raise unknown_name(f"key of {name}", str(key), form.keys, where)
    missing = [key for key, default in form.keys.items() if default is _REQUIRED and key not in spec]
    if missing:
        raise InputError(f"{where}: {name} needs {' and '.join(missing)}.")
    values = {key: spec.get(key, default) for key, default in form.keys.items()}
    for key, value in values.items():
        _check_value(key, value, whole=name == "int_uniform", where=where)
    if "min" in values and values["min"] > values["max"]:
        raise InputError(f"{where}: min={values['min']} is above max={values['max']}.")
    for key in ("a", "b", "q", "sigma"):
        if key in values and values[key] <= 0:
            raise InputError(f"{where}: {key}={values[key]} is invalid: expected a number above 0.")
    parameter = form.build(values, where)
    return _grid_values(name, values, parameter, where) if grid else parameter


def _implied(spec: Mapping[str, Any]) -> str | None:
    """Return the distribution of a parameter without a named distribution, by W&B's rules."""
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "min" in spec and "max" in spec:
        return "int_uniform" if all(type(spec[key]) is int for key in ("min", "max")) else "uniform"
    return None


def _check_value(key: str, value: Any, *, whole: bool, where: str) -> None:
    if key in ("value", "values", "probabilities"):
        if key != "value" and (not isinstance(value, list) or not value):
            raise InputError(f"{where}: {key} must be a non-empty list, got {value!r}.")
        try:
            json.dumps(value)
        except TypeError as error:
            raise InputError(f"{where}: {key}={value!r} cannot be passed to a run. Put quotes around it.") from error
        return
    number = type(value) is int or (type(value) is float and not whole)
    if not number or not abs(value) <= (_LARGEST_WHOLE if whole else _LARGEST):
        # W&B reads YAML 1.1, in which numbers with an exponent need a point, as in 1.0e-4.
        hint = " YAML reads 1e-4 as text: write 1.0e-4 or 0.0001." if isinstance(value, str) else ""
        size = " below 2⁵³" if whole and number else ""
        raise InputError(f"{where}: {key}={value!r} must be a {'whole ' if whole else ''}number{size}.{hint}")


def _grid_values(name: str, values: Mapping[str, Any], parameter: Parameter, where: str) -> Parameter:
    """Return a grid parameter by W&B's rules: all whole numbers of a range, or steps of q without the upper bound."""
    if isinstance(parameter, (Constant, Choice)):
        return parameter
    if name in ("int_uniform", "q_uniform"):
        import numpy as np

        low, high, step = values["min"], values["max"], values.get("q", 1)
        end = high + 1 if name == "int_uniform" else high
        if not 0 < (float(end) - float(low)) / step <= LARGEST_GRID:
            raise InputError(f"{where}: a grid needs 1 to {LARGEST_GRID:,} points, not those from {low} to {high}.")
        return Choice(tuple(np.arange(low, end, step).tolist()))
    raise InputError(
        f"{where}: a grid does not support the distribution {name}; expected value, values, int_uniform or q_uniform. "
        f"Change the parameter, or use method: random or method: bayes."
    )


# ------------------------------------------------------------------------------------------------- distributions

_REQUIRED: Any = object()
Values = Mapping[str, Any]
Inverse = Callable[[float], float]


@dataclass(frozen=True)
class _Form:
    """The keys of a distribution with their defaults, and the function that makes a parameter of them."""

    build: Callable[[Values, str], Parameter]
    keys: Mapping[str, object]


def _weighted(values: Values, where: str) -> Parameter:
    choices, weights = values["values"], values["probabilities"]
    for weight in weights:
        _check_value("probability", weight, whole=False, where=where)
    if len(weights) != len(choices) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise InputError(
            f"{where}: probabilities must have one number of at least 0 for each of values, with the sum 1."
        )

    def inverse(quantile: float) -> Any:
        total = 0.0
        for choice, weight in zip(choices, weights, strict=True):
            total += weight
            if quantile < total:
                return choice
        return choices[-1]

    return Quantile(inverse)


def _log_range(low: float, high: float, where: str) -> Range:
    if low <= 0:
        raise InputError(f"{where}: min={low} is invalid: a logarithmic scale needs numbers above 0.")
    return Range(low, high, log=True)


def _exponents(values: Values, where: str) -> Range:
    """Return a range of W&B's older log-uniform distributions, whose bounds are natural logarithms."""
    try:
        return _log_range(math.exp(values["min"]), math.exp(values["max"]), where)
    except OverflowError as error:
        raise InputError(
            f"{where}: min and max are natural logarithms here, and e^{values['max']} is not a finite number."
        ) from error


def _inverse_exponents(values: Values, where: str) -> Range:
    # A uniform log(1/X) in [min, max] is a uniform log(X) in [−max, −min].
    return _exponents({"min": -values["max"], "max": -values["min"]}, where)


def _quantile(inverse: Inverse, where: str) -> Quantile:
    """Return a parameter that is drawn by this inverse, which must be finite at the tails."""
    try:
        exists = all(math.isfinite(inverse(quantile)) for quantile in (_TAIL, 0.5, 1 - _TAIL))
    except (ValueError, OverflowError):
        exists = False
    if not exists:
        raise InputError(
            f"{where}: the distribution contains values that are not finite. Choose other bounds or widths."
        )
    return Quantile(inverse)


def _stepped(inverse: Inverse, q: float) -> Inverse:
    """Round values to the nearest multiple of q; to whole numbers if q is whole, as W&B's server does."""

    def rounded(quantile: float) -> Any:
        value = round(float(inverse(quantile)) / q) * q
        return int(value) if float(q).is_integer() else value

    return rounded


def _ppf(family: str, quantile: float, *arguments: float) -> float:
    from scipy import stats

    return float(getattr(stats, family).ppf(quantile, *arguments))


def _normal(values: Values, where: str) -> Inverse:
    return lambda quantile: _ppf("norm", quantile, values["mu"], values["sigma"])


def _log_normal(values: Values, where: str) -> Inverse:
    return lambda quantile: math.exp(_ppf("norm", quantile, values["mu"], values["sigma"]))


def _beta(values: Values, where: str) -> Inverse:
    return lambda quantile: _ppf("beta", quantile, values["a"], values["b"])


def _uniform(values: Values, where: str) -> Inverse:
    return lambda quantile: values["min"] + quantile * (values["max"] - values["min"])


def _log_uniform(make: Callable[[Values, str], Range]) -> Callable[[Values, str], Inverse]:
    def inverse_of(values: Values, where: str) -> Inverse:
        bounds = make(values, where)
        low, high = math.log(bounds.low), math.log(bounds.high)
        return lambda quantile: math.exp(low + quantile * (high - low))

    return inverse_of


def _values_range(values: Values, where: str) -> Range:
    return _log_range(values["min"], values["max"], where)


_BOUNDS = {"min": _REQUIRED, "max": _REQUIRED}
_NORMAL, _BETA, _STEP = {"mu": 0.0, "sigma": 1.0}, {"a": 1.0, "b": 1.0}, {"q": 1.0}
_INVERSES: dict[str, tuple[Callable[[Values, str], Inverse], Mapping[str, object]]] = {
    "uniform": (_uniform, _BOUNDS),
    "log_uniform": (_log_uniform(_exponents), _BOUNDS),
    "log_uniform_values": (_log_uniform(_values_range), _BOUNDS),
    "normal": (_normal, _NORMAL),
    "log_normal": (_log_normal, _NORMAL),
    "beta": (_beta, _BETA),
}
_FORMS: dict[str, _Form] = {
    "constant": _Form(lambda values, where: Constant(values["value"]), {"value": _REQUIRED}),
    "categorical": _Form(lambda values, where: Choice(tuple(values["values"])), {"values": _REQUIRED}),
    "categorical_w_probabilities": _Form(_weighted, {"values": _REQUIRED, "probabilities": _REQUIRED}),
    "int_uniform": _Form(lambda values, where: Range(values["min"], values["max"], whole=True), _BOUNDS),
    "uniform": _Form(lambda values, where: Range(float(values["min"]), float(values["max"])), _BOUNDS),
    "log_uniform": _Form(_exponents, _BOUNDS),
    "log_uniform_values": _Form(_values_range, _BOUNDS),
    "inv_log_uniform": _Form(_inverse_exponents, _BOUNDS),
    # A uniform log(1/X) between log(1/max) and log(1/min) is a log-uniform X between min and max.
    "inv_log_uniform_values": _Form(_values_range, _BOUNDS),
    **{
        name: _Form(lambda values, where, make=make: _quantile(make(values, where), where), keys)  # type: ignore[misc]
        for name, (make, keys) in _INVERSES.items()
        if name in ("normal", "log_normal", "beta")
    },
    **{
        f"q_{name}": _Form(
            lambda values, where, make=make: _quantile(  # type: ignore[misc]
                _stepped(make(values, where), values["q"]), where
            ),
            {**keys, **_STEP},
        )
        for name, (make, keys) in _INVERSES.items()
    },
}
