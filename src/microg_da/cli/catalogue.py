"""Lists of available names, read from the registries without importing the named objects."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from microg_da.errors import InputError, unknown_name
from microg_da.files import to_json
from microg_da.registry import Registry


@dataclass(frozen=True)
class Kind:
    """One kind of named object.

    Attributes:
        summary: one line of text.
        read: returns the entries, each with a ``name``, a ``summary`` and further columns.
    """

    summary: str
    read: Callable[[], list[dict[str, str]]]


def entries(what: str | None, pattern: str = "*") -> list[dict[str, str]]:
    """Return the entries of one kind whose names match a pattern, or the kinds themselves.

    Args:
        what: a key of :data:`KINDS`; None for the kinds.
        pattern: a shell-style pattern.

    Raises:
        InputError: if the kind does not exist, or none of its names matches.
    """
    if what is None:
        return [{"name": name, "summary": kind.summary} for name, kind in KINDS.items()]
    if what not in KINDS:
        raise unknown_name("kind to list", what, KINDS)
    found = KINDS[what].read()
    matching = [entry for entry in found if fnmatch.fnmatch(entry["name"], pattern)]
    if not matching and found:
        raise unknown_name(f"name or pattern among {what}", pattern, [entry["name"] for entry in found])
    return matching


def print_catalogue(what: str | None, pattern: str = "*", *, as_json: bool = False) -> None:
    """Print :func:`entries` as a table, or as one JSON object ``{"what", "entries"}``."""
    found = entries(what, pattern)
    if as_json:
        print(to_json({"what": what, "entries": [{k: _value(k, text) for k, text in e.items()} for e in found]}))
        return
    _print_table(found)
    if what is None:
        print("\npython -m microg_da list KIND [PATTERN] shows the names of one kind.")


def _value(column: str, text: str) -> str | float:
    """Convert the text of a number, with or without thousands separators, to a number; return other text unchanged."""
    if column not in ("name", "summary"):
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(text.replace(",", ""))
    return text


def _print_table(found: list[dict[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from microg_da.terminal import output_console, print_table

    columns = list(dict.fromkeys(key for entry in found for key in entry))
    # The name is first and the summary last, so that the short columns between them are aligned.
    columns = ["name", *(c for c in columns if c not in ("name", "summary")), "summary"]
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        numeric = not any(isinstance(_value(column, entry.get(column, "")), str) for entry in found)
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(column, justify=justify, no_wrap=column != "summary", overflow="fold")
    group = found[0]["name"].rpartition("/")[0] if found else ""
    for entry in found:
        if entry["name"].rpartition("/")[0] != group:
            table.add_row()
            group = entry["name"].rpartition("/")[0]
        table.add_row(*(Text(entry.get(column, ""), style="bold" if column == "name" else "") for column in columns))
    print_table(table, output_console())


def _registry(target: str) -> Callable[[], list[dict[str, str]]]:
    """Read the registry at ``"module:attribute"``."""
    module, _, attribute = target.partition(":")

    def read() -> list[dict[str, str]]:
        registry: Registry = getattr(import_module(module), attribute)
        lines = [(name, registry.entry(name)) for name in registry]
        return [{"name": name, "summary": entry.summary, **(entry.facts or {})} for name, entry in lines]

    return read


def _experiments() -> list[dict[str, str]]:
    from microg_da.config.experiments import experiment_files

    return _described("experiment", experiment_files())


def _sweeps() -> list[dict[str, str]]:
    from microg_da.config.experiments import sweep_files

    return _described("sweep", sweep_files())


def _described(kind: str, files: dict[str, Path]) -> list[dict[str, str]]:
    """Return YAML files by name, each with its ``description``."""
    import yaml

    from microg_da.config.experiments import YAML_ERRORS

    found = []
    for name, path in files.items():
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, *YAML_ERRORS) as error:
            raise InputError(f"cannot read the {kind} {path}: {' '.join(str(error).split())}") from error
        description = content.get("description", "") if isinstance(content, dict) else ""
        found.append({"name": name, "summary": str(description), "file": str(path)})
    return found


def _taxonomies() -> list[dict[str, str]]:
    from microg_da.taxonomy import GROUP_NAMES, TAXONOMIES, get_taxonomy

    found = []
    for name in TAXONOMIES:
        taxonomy = get_taxonomy(name)
        groups = [taxonomy.group(action_id) for action_id in taxonomy.ids]
        parts = ", ".join(f"{groups.count(key)} {title}" for key, title in GROUP_NAMES.items() if key in groups)
        found.append({"name": name, "summary": parts, "classes": str(len(taxonomy))})
    return found


def _keys() -> list[dict[str, str]]:
    from microg_da.config.keys import describe_keys

    return [
        {"name": key.name, "type": key.kind, "default": key.default_text, "summary": key.plain_meaning}
        for key in describe_keys()
    ]


KINDS = {
    "models": Kind("detectors, for the key model.name", _registry("microg_da.models:MODELS")),
    "adaptations": Kind(
        "methods that adapt to the target domain, for the key adaptation.name",
        _registry("microg_da.adaptation:ADAPTATIONS"),
    ),
    "validators": Kind(
        "scores without labels, for the key selection: validator:NAME", _registry("microg_da.validation:VALIDATORS")
    ),
    "keys": Kind("configuration keys, with type, default and meaning", _keys),
    "experiments": Kind("experiments, for fit --experiment", _experiments),
    "sweeps": Kind("sweep files, for sweep and for wandb sweep", _sweeps),
    "data": Kind("kinds of data, for the keys data.source and data.target", _registry("microg_da.data:DATA")),
    "taxonomies": Kind("sets of action classes, for the key data.taxonomy", _taxonomies),
}
"""All kinds of names that can be listed; a new registry is one line here."""
