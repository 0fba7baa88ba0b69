"""Loads a checked :class:`Config` from an experiment file and overrides, and writes it to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microg_da.config.checks import check_config
from microg_da.config.experiments import (
    COMMAND_LINE,
    Layer,
    experiment_name,
    find_experiment,
    parse_overrides,
    read_layers,
)
from microg_da.config.schema import Config, DataConfig, ModelConfig
from microg_da.config.structure import nested_schema, schema_keys, sections
from microg_da.errors import InputError, first_line, nearest
from microg_da.files import write_text
from microg_da.taxonomy import own_taxonomy
from microg_da.zoo import model_sizes, model_window


def load_config(
    experiment: str | None = None, overrides: Sequence[str] = (), *, config: str | Path | None = None
) -> Config:
    """Read one experiment, apply overrides and check the result.

    Example:
        >>> from microg_da import load_config
        >>> config = load_config("ava2microg", ["adaptation=dann", "training.epochs=3"])
        >>> config.adaptation.name, config.training.epochs
        ('dann', 3)

    Args:
        experiment: a name in ``experiments/`` or the path of a YAML file.
        overrides: dotted keys as ``key=value``, ``--key=value`` or ``--key``, ``value``; later ones take precedence.
        config: a resolved ``config.yaml`` of an earlier run, instead of ``experiment``.

    Raises:
        InputError: naming the key, the file and the nearest valid name.
    """
    path = Path(config) if config is not None else find_experiment(experiment or "ava2microg")
    named = Layer(str(path), {"experiment": experiment_name(path) if config is None else path.stem})
    layers = [_with_current_keys(layer) for layer in read_layers(path, _is_free)]
    command = Layer(COMMAND_LINE, parse_overrides(overrides))
    always = [named, *(layer for layer in layers if layer.condition is None)]
    for layer in layers:
        for key, value in layer.values.items():
            canonical_key(key, value, layer.where)
    decided, _ = _merged([*always, command])
    _check_protocol(layers, always, command)
    holding = [layer for layer in layers if _holds(layer, decided)]
    merged, origins = _merged([named, *map(_with_condition, holding), command])
    resolved = _to_object(merged, str(path))
    _set_window(resolved.model, origins)
    _set_sizes(resolved.data, resolved.model.name, origins)
    _set_taxonomy(resolved.data, origins)
    check_config(resolved, origins)
    return resolved


def override_config(config: Config, values: Mapping[str, object]) -> Config:
    """Return a copy of a configuration with other values for some keys.

    Args:
        config: a resolved configuration.
        values: values by dotted key, e.g. from :func:`read_overrides`.

    Raises:
        InputError: naming the key and the nearest valid name.
    """
    merged, origins = _merged([Layer(COMMAND_LINE, dict(values))], OmegaConf.structured(config))
    changed = _to_object(merged, COMMAND_LINE)
    check_config(changed, origins)
    return changed


def read_overrides(overrides: Sequence[str]) -> dict[str, object]:
    """Return the values of a command line by schema key; arguments and errors are those of :func:`load_config`."""
    return {canonical_key(key, value, COMMAND_LINE): value for key, value in parse_overrides(overrides).items()}


def _merged(layers: Sequence[Layer], below: DictConfig | None = None) -> tuple[DictConfig, dict[str, str]]:
    """Apply all layers to a configuration (None: the defaults); also return where each key was last set."""
    merged = deepcopy(_defaults() if below is None else below)
    origins = {}
    for layer in layers:
        # Names come first: a name resets the arguments of earlier layers and keeps those of its own layer.
        values = [(canonical_key(key, value, layer.where), value) for key, value in layer.values.items()]
        for key, value in sorted(values, key=lambda item: _ORDER.get(item[0], len(_ORDER))):
            if key in _OWNED and OmegaConf.select(merged, key) != value:
                for owned, empty in _OWNED[key].items():
                    OmegaConf.update(merged, owned, empty, merge=False)
            _set(merged, key, value, layer.where)
            origins[key] = layer.where
    return merged, origins


def _holds(layer: Layer, decided: DictConfig) -> bool:
    """Return whether the condition of a layer, if any, is met by the unconditional layers and the command line."""
    if layer.condition is None:
        return True
    key, value = layer.condition
    return bool(OmegaConf.select(decided, canonical_key(key, value, layer.where)) == value)


def _with_condition(layer: Layer) -> Layer:
    """Return the layer with its condition as the first value, so that a method's name does not reset its arguments."""
    if layer.condition is None:
        return layer
    key, value = layer.condition
    return Layer(layer.where, {key: value, **layer.values}, layer.condition)


def _with_current_keys(layer: Layer) -> Layer:
    """The layer with the keys of version 0.2.0 as they are called now; ``config.yaml`` of its runs has them."""
    values = dict(layer.values)
    if values.pop("model.frozen", False):
        values["model.freeze"] = "all"
    return Layer(layer.where, values, layer.condition)


def _check_protocol(layers: Sequence[Layer], always: Sequence[Layer], command: Layer) -> None:
    """Raise an error if ``protocol`` is set for an experiment that has only one recipe, where it has no effect."""
    asked = command.values.get("protocol")
    if asked is None or any(layer.condition is not None and layer.condition[0] == "protocol" for layer in layers):
        return
    active = next((layer.values["protocol"] for layer in reversed(always) if "protocol" in layer.values), None)
    if asked != active:
        raise InputError(
            f"{COMMAND_LINE}: protocol={asked}: this experiment has no such recipe. The key selects one of the "
            f"recipes of experiments such as microg4m/slow_r50_8x8. Rules of evaluation: evaluation.protocol."
        )


@cache
def _defaults() -> DictConfig:
    # Cached: building the schema's nodes takes six times as long as copying them, and a sweep reads many
    # configurations.
    defaults: DictConfig = OmegaConf.structured(Config())
    return defaults


def _set_window(model: ModelConfig, origins: Mapping[str, str]) -> None:
    window = model_window(model.name, model.window)
    for key in ("num_frames", "sampling_rate"):
        if window is not None and f"model.{key}" not in origins:
            setattr(model, key, getattr(window, key))


def _set_taxonomy(data: DataConfig, origins: Mapping[str, str]) -> None:
    """Set the taxonomy of the source data, else that of the target data, if no layer sets one."""
    own = own_taxonomy(data.source) or own_taxonomy(data.target)
    if own is not None and "data.taxonomy" not in origins:
        data.taxonomy = own


def _set_sizes(data: DataConfig, model: str, origins: Mapping[str, str]) -> None:
    if data.sizes != "published":
        return
    sizes = model_sizes(model, origins.get("data.sizes", "configuration"))
    for key, value in (
        ("image_size", sizes.crop),
        ("train_sides", [sizes.smallest, sizes.largest]),
        ("test_side", sizes.test),
    ):
        if f"data.{key}" not in origins:
            setattr(data, key, value)


def config_text(config: Config) -> str:
    """Return the resolved configuration as YAML for ``fit --config``."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def save_config(config: Config, path: str | Path) -> Path:
    """Write the resolved configuration, so that ``fit --config`` repeats the run."""
    return write_text(path, config_text(config))


_OWNED: dict[str, dict[str, object]] = {
    "model.name": {"model.options": {}},
    "model.head": {"model.head_args": {}},
    "adaptation.name": {
        "adaptation.args": {},
        "adaptation.rotation": None,
        "adaptation.test_time": None,
        "adaptation.test_time_args": {},
    },
    "adaptation.test_time": {"adaptation.test_time_args": {}},
}
"""Keys that a new name resets: for each name, the default values of the keys that belong to it."""

_ORDER = {name: place for place, name in enumerate(_OWNED)}
_FREE = {key for owned in _OWNED.values() for key, empty in owned.items() if empty == {}} | {
    "data.source_options",
    "data.target_options",
}
"""Keys that hold arbitrary mappings; the model or method checks these."""


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)


def _set(config: DictConfig, key: str, value: Any, where: str) -> None:
    try:
        # A lone surrogate can be read but not written to the run folder.
        json.dumps([key, value], default=str, ensure_ascii=False).encode()
        OmegaConf.update(config, key, value, force_add=_is_free(key), merge=not isinstance(value, list))
    except OmegaConfBaseException as error:
        raise InputError(f"{where}: {key}={value!r} is invalid: expected {_expected(key)}.") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {key}={value!r} is invalid: {first_line(error)}") from error


def canonical_key(key: str, value: Any, where: str) -> str:
    """Return the schema's name of a key; ``adaptation=dann`` is short for ``adaptation.name=dann``."""
    if key in sections():
        if key in _named_sections() and not isinstance(value, dict):
            return f"{key}.name"
        if value is None or value == {}:
            return key
        raise InputError(
            f"{where}: {key!r} is a section. Set one of its keys: "
            f"{', '.join(name for name in schema_keys() if name.startswith(f'{key}.'))}."
        )
    if _is_free(key) or key in schema_keys():
        return key
    guesses = _nearest_keys(key)
    if not guesses:
        raise InputError(f"{where}: unknown key {key!r}. Sections: {', '.join(sections())}.")
    raise InputError(f"{where}: unknown key {key!r}. Did you mean {' or '.join(map(repr, guesses))}?")


def _nearest_keys(key: str) -> list[str]:
    """Return the keys with the nearest name in any section; among several, those with the nearest section.

    The name has priority, since a correct name in a wrong section is the more common error.
    """
    section, _, leaf = key.rpartition(".")
    keys = _with_nearest(leaf, {name: name.rpartition(".")[2] for name in (*schema_keys(), *_named_sections())})
    return _with_nearest(section, {name: name.rpartition(".")[0] for name in keys}) or keys


def _with_nearest(word: str, parts: Mapping[str, str]) -> list[str]:
    guess = nearest(word, parts.values())
    return [name for name, part in parts.items() if part == guess]


def _named_sections() -> list[str]:
    """Return the sections that are short for their key ``name``, as in ``adaptation=dann``."""
    return [section for section in sections() if f"{section}.name" in schema_keys()]


def _expected(key: str) -> str:
    section, _, leaf = key.rpartition(".")
    schema = nested_schema(Config, section) if section else Config
    kind = {item.name: item.type for item in fields(schema or Config)}.get(leaf, "another type")
    return str(kind)


def _to_object(merged: DictConfig, where: str) -> Config:
    try:
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise InputError(f"{where}: {first_line(error)}") from error
