"""Finds experiment files, and parses files and command lines into dotted keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microg_da.errors import InputError, first_line, unknown_name

COMMAND_LINE = "command line"
YAML_ERRORS = (yaml.YAMLError, OmegaConfBaseException, ValueError, LookupError, AttributeError, RecursionError)
"""Errors of the YAML reader. For `0x_`, `!!bool x` or a thousand brackets, PyYAML raises built-in exceptions."""


@dataclass(frozen=True)
class Layer:
    """Keys and values from one file or from the command line.

    Attributes:
        where: the file or the command line, for error messages.
        values: by dotted key.
        condition: a key and a value; the layer applies if the key has this value. None: it always applies.
    """

    where: str
    values: dict[str, object]
    condition: tuple[str, object] | None = None


def parse_overrides(words: Sequence[str]) -> dict[str, object]:
    """Parse command-line words into ``{dotted key: value}``; values are YAML scalars, lists or mappings.

    A word that begins with ``{`` is a JSON object of keys and values. Nested mappings are flattened.
    """
    flat: dict[str, object] = {}
    rest = list(words)
    for word in rest:
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise InputError(f"{COMMAND_LINE}: {word!r} is not UTF-8.")
    while rest:
        word = rest.pop(0)
        if word.startswith("{"):
            flat |= _flatten(_json_object(word), lambda key: False)
            continue
        key, equals, text = word.removeprefix("--").partition("=")
        if not equals:
            if not word.startswith("--"):
                raise InputError(
                    f"{COMMAND_LINE}: {word!r} is not of the form key=value. Write, for example, training.epochs=5."
                )
            if not rest or rest[0].startswith("--"):
                raise InputError(f"{COMMAND_LINE}: --{key} needs a value. Write --{key}=VALUE or --{key} VALUE.")
            text = rest.pop(0)
        try:
            value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[index,call-overload]
        except YAML_ERRORS as error:
            raise InputError(f"{COMMAND_LINE}: {key}={text!r} is not a YAML value: {first_line(error)}") from error
        flat |= _flatten({key.strip(): _python_none(value)}, lambda key: False)
    return flat


def _json_object(text: str) -> dict[str, object]:
    try:
        content: dict[str, object] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{COMMAND_LINE}: {text!r} is not JSON: {first_line(error)}.") from error
    return content


def _python_none(value: Any) -> Any:
    """Return the value, with ``None`` as null, since W&B's agents write values as Python prints them."""
    if isinstance(value, dict):
        return {key: _python_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_python_none(inner) for inner in value]
    return None if value == "None" else value


def experiment_files() -> dict[str, Path]:
    """Return all named experiments; nearer folders come first and take precedence."""
    return _named_files("experiments", "experiments")


def sweep_files() -> dict[str, Path]:
    """Return all named sweeps; nearer folders come first and take precedence."""
    return _named_files("sweeps", "sweep_files")


def _named_files(folder: str, packaged: str) -> dict[str, Path]:
    """Return YAML files by name, from the working folder, from a checkout and from the installed package.

    A file in a subfolder is named with the subfolder, as in ``microg4m/slow_r50_8x8``. Files whose name begins with an
    underscore are bases of other files and have no name.
    """
    package = Path(__file__).resolve().parents[1]
    found: dict[str, Path] = {}
    for place in (Path.cwd() / folder, package.parents[1] / folder, package / packaged):
        for path in sorted(place.glob("**/*.yaml")):
            name = path.relative_to(place).with_suffix("")
            if not any(part.startswith(("_", ".")) for part in name.parts):
                found.setdefault(name.as_posix(), path)
    # Files in no subfolder first, then those of each subfolder together.
    return dict(sorted(found.items(), key=lambda item: item[0].rpartition("/")))


def find_experiment(name: str) -> Path:
    """Return the YAML file of an experiment, by name or by path."""
    return _find("experiment", name, experiment_files())


def experiment_name(path: Path) -> str:
    """Return the name of an experiment's file; for an unnamed file, the file name without suffix."""
    named = {file.resolve(): name for name, file in experiment_files().items()}
    return named.get(path.resolve(), path.stem)


def find_sweep(name: str) -> Path:
    """Return the YAML file of a sweep, by name or by path."""
    return _find("sweep", name, sweep_files())


def _find(kind: str, name: str, files: dict[str, Path]) -> Path:
    if name in files:
        return files[name]
    path = Path(name)
    if name.endswith((".yaml", ".yml")) or ("/" in name and _is_file(path)):
        if not _is_file(path):
            raise InputError(f"no {kind} file at {path}. Give a path that exists, or a name: {', '.join(files)}.")
        return path
    raise unknown_name(kind, name, files)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long for a file name
        return False


def read_layers(path: Path, is_free: Callable[[str], bool], seen: tuple[Path, ...] = ()) -> list[Layer]:
    """Return the layers of an experiment, after those of its ``base:``.

    A section under ``when:``, as in ``when: {protocol=published: {…}}``, is a separate layer with a condition.

    Args:
        path: the YAML file.
        is_free: returns whether the mapping of a key is one value (the arguments of a method) and not a section.
        seen: the files that led here, to detect a cycle.
    """
    if path.resolve() in seen:
        raise InputError(
            f"{path}: `base` forms a cycle that returns to this file. Remove `base` from one of the experiments."
        )
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error
    except YAML_ERRORS as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values at the top, found a {type(content).__name__}.")
    base = content.pop("base", None)
    if base is None:
        below = []
    elif isinstance(base, str):
        sibling = path.parent / f"{base}.yaml"
        below = read_layers(sibling if _is_file(sibling) else find_experiment(base), is_free, (*seen, path.resolve()))
    else:
        raise InputError(f"{path}: `base` must be the name or path of an experiment, got {base!r}.")
    conditional = _conditional_layers(path, content.pop("when", None), is_free)
    return [*below, Layer(str(path), dict(_flatten(content, is_free))), *conditional]


def _conditional_layers(path: Path, when: object, is_free: Callable[[str], bool]) -> list[Layer]:
    """Return the layers under ``when:``."""
    if when is None:
        return []
    if not isinstance(when, dict):
        raise InputError(f"{path}: `when` must map conditions to sections, got {when!r}.")
    layers = []
    for condition, content in when.items():
        if not isinstance(condition, str) or "=" not in condition or not isinstance(content, dict):
            raise InputError(
                f"{path}: when: {condition!r}: expected a condition key=value with the keys to set, as in "
                f"`when: {{protocol=published: {{model: {{roi_stride: published}}}}}}`."
            )
        key, _, text = condition.partition("=")
        (value,) = parse_overrides([f"value={text}"]).values()
        layers.append(Layer(str(path), dict(_flatten(content, is_free)), (key.strip(), value)))
    return layers


def _flatten(content: dict[Any, Any], is_free: Callable[[str], bool], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and not is_free(name):
            yield from _flatten(value, is_free, f"{name}.")
        else:
            yield name, value
