"""Reading and checking of a sweep file before trials start."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from microg_da.config import Config, canonical_key, load_config
from microg_da.config.experiments import COMMAND_LINE, YAML_ERRORS, find_sweep, parse_overrides
from microg_da.errors import InputError, first_line, unknown_name
from microg_da.sweeps.command import DEFAULT_COMMAND, expand_command
from microg_da.sweeps.distributions import LARGEST_GRID, Choice, Constant, Parameter, read_parameter
from microg_da.sweeps.metric import Metric, read_metric

if TYPE_CHECKING:
    from optuna.trial import Trial

METHODS = ("grid", "random", "bayes")
_KEYS = (
    *("method", "metric", "parameters", "program", "command", "early_terminate", "run_cap"),
    *("name", "description", "project", "entity", "apiVersion", "kind", "controller"),
)
_TEXTS = ("name", "description", "project", "entity")
_REFUSED = {
    "job": "jobs of W&B Launch are not supported",
    "image_uri": "jobs of W&B Launch are not supported",
    "scheduler": "external schedulers are not supported",
    "metrics": "several goals at once are not supported",
}
_MOST_VALUES = 100_000
_HYPERBAND = ("type", "min_iter", "max_iter", "s", "eta", "strict")


@dataclass(frozen=True)
class Hyperband:
    """Early stopping: after ``min_iter`` values of the metric, and each ``eta`` times as many, the best 1/eta continue.

    ``max_iter`` is the largest number of values, None if the file does not set it.
    """

    min_iter: int
    max_iter: int | None
    eta: int


@dataclass(frozen=True)
class SweepFile:
    """The checked content of a sweep file.

    Attributes:
        path: the file.
        content: the whole content, for W&B.
        method: ``grid``, ``random`` or ``bayes``.
        parameters: the parameters by dotted name.
        nesting: the path of keys of each parameter, outermost first. A key may contain dots.
        metric: the optimised metric; None in a grid or random sweep that only collects runs.
        command: the command of a trial, with macros.
        program: the value of ``${program}``.
        hyperband: early stopping, or None.
        run_cap: maximum number of trials; None if the file does not set it.
        overrides: words added to every trial's command line.
    """

    path: Path
    content: dict[str, object]
    method: str
    parameters: dict[str, Parameter]
    nesting: dict[str, tuple[str, ...]]
    metric: Metric | None
    command: tuple[str, ...]
    program: str
    hyperband: Hyperband | None
    run_cap: int | None = None
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file name without suffix, which is also the name of the sweep's folder and study."""
        return self.path.stem

    @cached_property
    def varied(self) -> dict[str, Parameter]:
        """The parameters with more than one value."""
        return {name: p for name, p in self.parameters.items() if not isinstance(p, Constant)}

    @property
    def grid_size(self) -> int | None:
        """The number of points of the grid; None for other methods."""
        if self.method != "grid":
            return None
        return math.prod(len(p.values) for p in self.varied.values() if isinstance(p, Choice))

    def suggest(self, trial: Trial) -> dict[str, object]:
        """Draw all parameters; return their values by dotted name."""
        return {name: parameter.suggest(trial, name) for name, parameter in self.parameters.items()}

    def args(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return values as for W&B's agent: nested parameters are mappings."""
        return nest({self.nesting[name]: value for name, value in values.items()})

    def expand(self, values: Mapping[str, object], args_json_file: Path, interpreter: str = "python") -> list[str]:
        """Return the command line of one trial."""
        args = self.args(values)
        words = expand_command(self.command, self.program, args, args_json_file, interpreter=interpreter)
        return [*words, *self.overrides]

    def request(self, values: Mapping[str, object]) -> Request:
        """Return the request for `fit` in one trial.

        Raises:
            InputError: if the command does not start `fit`.
        """
        marker = Path("${args_json_file}")
        words = self.expand(values, marker)
        starts = [i for i in range(1, len(words)) if words[i] == "fit" and Path(words[i - 1]).name == "microg_da"]
        if not starts:
            raise InputError(
                f"{self.path}: command: expected a command that starts `microg_da fit`, e.g. ${{interpreter}}, -m, "
                f"microg_da, fit, --experiment, NAME, ${{args_no_hyphens}}; got {' '.join(words)}."
            )
        try:
            given, rest = _fit_parser().parse_known_args(words[starts[0] + 1 :])
        except argparse.ArgumentError as error:
            raise InputError(f"{self.path}: command: {error}.") from error
        if given.runs or given.name or given.resume or given.config:
            raise InputError(
                f"{self.path}: command: remove --runs, --name, --resume and --config: the sweep names the runs of "
                f"its trials, and --experiment gives the configuration."
            )
        for text in given.overrides or ():
            rest = [json.dumps(self.args(values)) if text == str(marker) else text, *rest]
        return Request(given.experiment, tuple(rest))


@dataclass(frozen=True)
class Request:
    """The request of one trial for `fit`: an experiment and the keys that differ from it."""

    experiment: str | None
    words: tuple[str, ...]

    def config(self) -> Config:
        """The resolved configuration."""
        return load_config(self.experiment, self.words)

    def keys(self) -> dict[str, object]:
        """Return the keys that differ from the experiment, by dotted name."""
        return {canonical_key(key, value, COMMAND_LINE): value for key, value in parse_overrides(self.words).items()}


def nest(values: Mapping[tuple[str, ...], object]) -> dict[str, object]:
    """Return values in nested mappings, by the path of keys of each value, outermost first."""
    nested: dict[str, object] = {}
    for (*outer, last), value in values.items():
        inside = nested
        for key in outer:
            deeper = inside.setdefault(key, {})
            assert isinstance(deeper, dict)
            inside = deeper
        inside[last] = value
    return nested


def _fit_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--experiment", "--config", "--resume", "--runs", "--name"):
        parser.add_argument(option)
    parser.add_argument("--overrides", action="append")
    return parser


def read_sweep(name: str, overrides: Sequence[str] = (), *, check: bool = True) -> SweepFile:
    """Read a sweep by name or path, and check the file and the values of each parameter.

    Args:
        name: name of a file in ``sweeps/``, or a path.
        overrides: words added to every trial's command line, e.g. ``training.epochs=2``.
        check: False to skip the checks, for workers that read a checked file.

    Raises:
        InputError: for an invalid file. The message names the file, the key and the expected value.
    """
    path = find_sweep(name)
    content = _read(path)
    if "oracle" in content:
        raise InputError(
            f"{path}: W&B has no top-level key `oracle`. Move it to the parameters, so that every run gets it: "
            f"parameters: {{oracle: {{value: true}}}}."
        )
    for key in content:
        if key in _REFUSED:
            raise InputError(f"{path}: invalid key {key}: {_REFUSED[key]}. Remove it.")
        if key not in _KEYS:
            raise unknown_name("key", str(key), _KEYS, str(path))
        if key in _TEXTS and not isinstance(content[key], str):
            raise InputError(f"{path}: {key}={content[key]!r} must be text. Put it in quotes or remove it.")
    method = content.get("method")
    if method not in METHODS:
        raise unknown_name("method", str(method), METHODS, str(path))
    specs = content.get("parameters")
    if not isinstance(specs, dict) or not specs:
        raise InputError(f"{path}: parameters must be a mapping of names to distributions.")
    parameters, nesting = {}, {}
    for keys, spec in _leaves(specs, str(path)):
        dotted = ".".join(keys)
        if dotted in parameters:
            raise InputError(f"{path}: the parameter {dotted!r} occurs twice.")
        parameters[dotted] = read_parameter(spec, f"{path}: {dotted}", grid=method == "grid")
        nesting[dotted] = keys
    cap = content.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise InputError(f"{path}: run_cap={cap!r} must be a whole number of at least 1.")
    metric = read_metric(content.get("metric"), str(path))
    if metric is None and method == "bayes":
        raise InputError(f"{path}: method: bayes needs a metric with name and goal.")
    sweep = SweepFile(
        path=path,
        content=content,
        method=method,
        parameters=parameters,
        nesting=nesting,
        metric=metric,
        command=_command(content, str(path)),
        program=str(content.get("program", "microg_da")),
        hyperband=_hyperband(content.get("early_terminate"), metric, str(path)),
        run_cap=cap,
        overrides=tuple(overrides),
    )
    if (sweep.grid_size or 0) > LARGEST_GRID:
        raise InputError(f"{path}: the grid has {sweep.grid_size:,} points, more than {LARGEST_GRID:,}.")
    if check:
        _check_boolean_flags(sweep)
        _check_values(sweep)
    return sweep


def _read(path: Path) -> dict[str, object]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        size = _written_out(content, {})
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error
    except YAML_ERRORS as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if size > _MOST_VALUES:
        raise InputError(
            f"{path}: the file has more than {_MOST_VALUES:,} values after expansion of its aliases (*name)."
        )
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, found a {type(content).__name__}.")
    return content


def _written_out(content: Any, known: dict[int, float]) -> float:
    """Return the number of values after expansion of aliases; infinity if an alias contains itself."""
    if not isinstance(content, (dict, list, tuple)):
        return 1
    if id(content) not in known:
        known[id(content)] = math.inf
        inside = content.values() if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_written_out(each, known) for each in inside)
    return known[id(content)]


def _leaves(
    specs: Mapping[Any, Any], where: str, outer: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, object]]]:
    for key, spec in specs.items():
        keys = (*outer, str(key))
        if not isinstance(spec, dict):
            raise InputError(f"{where}: parameters: {'.'.join(keys)} must be a mapping, e.g. {{value: {spec!r}}}.")
        if isinstance(spec.get("parameters"), dict):
            if set(spec) != {"parameters"}:
                raise InputError(f"{where}: {'.'.join(keys)} contains nested parameters and cannot have other keys.")
            yield from _leaves(spec["parameters"], where, keys)
        else:
            yield keys, spec


def _command(content: Mapping[str, object], where: str) -> tuple[str, ...]:
    command = content.get("command", list(DEFAULT_COMMAND))
    if not isinstance(command, list) or not command:
        raise InputError(f"{where}: command must be a list of words.")
    return tuple(map(str, command))


def _hyperband(spec: Any, metric: Metric | None, where: str) -> Hyperband | None:
    if spec is None:
        return None
    where = f"{where}: early_terminate"
    if not isinstance(spec, dict) or spec.get("type") != "hyperband":
        raise InputError(f"{where}: expected type: hyperband, got {spec!r}.")
    for key in spec:
        if key not in _HYPERBAND:
            raise unknown_name("key", str(key), _HYPERBAND, where)
    eta = spec.get("eta", 3)
    for key, value in {**spec, "eta": eta}.items():
        least = 2 if key == "eta" else 1
        if key not in ("type", "strict") and (type(value) is not int or value < least):
            raise InputError(f"{where}: {key}={value!r} must be a whole number of at least {least}.")
    if spec.get("strict") is False:
        raise InputError(
            f"{where}: strict: false is supported by W&B only; Optuna stops trials as in the paper. Remove strict."
        )
    if metric is None or metric.stage is None:
        raise InputError(f"{where}: early stopping needs a metric that is measured every epoch, e.g. adapt-val/map.")
    if "min_iter" in spec:
        return Hyperband(spec["min_iter"], spec.get("max_iter"), eta)
    if not {"max_iter", "s"} <= set(spec):
        raise InputError(f"{where}: expected min_iter, or max_iter and s.")
    # The division stops early, so that a large s does not lead to a huge power of eta.
    brackets = min(spec["s"], spec["max_iter"].bit_length())
    return Hyperband(max(1, spec["max_iter"] // eta**brackets), spec["max_iter"], eta)


def _check_boolean_flags(sweep: SweepFile) -> None:
    if "${args_no_boolean_flags}" not in sweep.command:
        return
    for name, parameter in sweep.parameters.items():
        if any(isinstance(value, bool) for value in parameter.examples()):
            raise InputError(
                f"{sweep.path}: command: ${{args_no_boolean_flags}} omits {name}=false, so the trial would use the "
                f"value of the experiment. Use ${{args}} or ${{args_no_hyphens}}."
            )


def _check_values(sweep: SweepFile) -> None:
    """Validate each parameter's values by the experiment's schema, one parameter at a time."""
    from microg_da.adaptation.base import method_arguments
    from microg_da.training.preflight import check_names

    for config in _configs(sweep):
        with _naming(sweep):
            check_names(config)
            method_arguments(config.adaptation.name, config.adaptation.args)
        if sweep.metric is not None:
            sweep.metric.check(config, str(sweep.path))


def check_trials(sweep: SweepFile) -> None:
    """Run the checks of `fit` for each value of each parameter with finitely many values.

    The first trial is checked completely, the other trials only for the settings that differ.

    Raises:
        InputError: for an invalid value. The message names the file and the key.
    """
    from microg_da.training.preflight import check

    first: Config | None = None
    for config in _configs(sweep):
        with _naming(sweep):
            check(config, checked=first)
        first = first or config


def _configs(sweep: SweepFile) -> Iterator[Config]:
    """Yield a typical trial, then trials that differ from it in one value of one parameter."""
    usual = {name: parameter.examples()[0] for name, parameter in sweep.parameters.items()}
    for values in (usual, *({**usual, name: v} for name, p in sweep.varied.items() for v in p.examples()[1:])):
        request = sweep.request(values)
        with _naming(sweep):
            config = request.config()
        yield config


@contextmanager
def _naming(sweep: SweepFile) -> Iterator[None]:
    """Prefix the error of a trial with the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{sweep.path}: {str(error).removeprefix(f'{COMMAND_LINE}: ')}") from error
