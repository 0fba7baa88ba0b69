"""Every key of the configuration with its type, its default and its meaning, for people and editors.

The schema is the only place where these are written: types and defaults are those of the dataclasses' fields, meanings
stand under ``Attributes`` in the dataclasses' docstrings.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache

import yaml

from microg_da.config.checks import CHOICES, LIMITS, Limit
from microg_da.config.schema import Config
from microg_da.config.structure import nested_schema, sections


@dataclass(frozen=True)
class Key:
    """One key of the configuration.

    Attributes:
        name: with dots.
        annotation: its type as the schema writes it, e.g. ``float | None``.
        default: its value where nothing sets it.
        meaning: in one or a few sentences, with marks around names: ``lr``.
        choices: the values it may have; None for any of its type.
        limit: the bounds of a number; None for none.
    """

    name: str
    annotation: str
    default: object
    meaning: str
    choices: tuple[str, ...] | None
    limit: Limit | None

    @property
    def kind(self) -> str:
        """Its type or its values, for people: ``float or null``, ``cosine|constant|steps``."""
        parts = [_KINDS.get(part.strip(), part.strip()) for part in self.annotation.split("|")]
        if self.choices is not None:
            parts = ["|".join(self.choices), *parts[1:]]
        return " or ".join(parts)

    @property
    def default_text(self) -> str:
        """The default as YAML writes it on one line."""
        return yaml.safe_dump(self.default, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()

    @property
    def plain_meaning(self) -> str:
        """The meaning without marks."""
        return self.meaning.replace("``", "")


_KINDS = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "true|false",
    "None": "null",
    "Any": "any",
    "list[str]": "list of texts",
    "list[int]": "list of integers",
    "list[float]": "list of numbers",
    "dict[str, Any]": "mapping",
}


@cache
def describe_keys() -> tuple[Key, ...]:
    """Every key, in the order of the schema.

    Raises:
        KeyError: for a key without a meaning.
    """
    found = [_describe(Config, item, "") for item in fields(Config) if nested_schema(Config, item.name) is None]
    for section in sections():
        nested = nested_schema(Config, section)
        assert nested is not None
        found += [_describe(nested, item, f"{section}.") for item in fields(nested)]
    return tuple(found)


def attribute_meanings(described: type) -> dict[str, str]:
    """The entries under ``Attributes`` in the docstring of a class, a text for each attribute.

    Args:
        described: a class with a docstring in Google's style.
    """
    _, _, listed = inspect.cleandoc(described.__doc__ or "").partition("Attributes:\n")
    listed = re.split(r"\n(?=\S)", listed)[0]  # other headings begin at the margin
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", listed, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _describe(owner: type, item: Field[object], prefix: str) -> Key:
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    name = f"{prefix}{item.name}"
    meaning = attribute_meanings(owner)[item.name]
    return Key(name, str(item.type), default, meaning, CHOICES.get(name), LIMITS.get(name))
