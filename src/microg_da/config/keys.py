"""All configuration keys with type, default and meaning, for documentation and editors.

The schema is the only source: types and defaults come from the fields of the dataclasses, meanings from the section
``Attributes`` of their docstrings.
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
        name: the dotted name.
        annotation: its type as the schema writes it, e.g. ``float | None``.
        default: its default value.
        meaning: its description, with names in double backquotes.
        choices: the valid values; None for any value of the type.
        limit: the bounds of a number; None for no bounds.
    """

    name: str
    annotation: str
    default: object
    meaning: str
    choices: tuple[str, ...] | None
    limit: Limit | None

    @property
    def kind(self) -> str:
        """The type or the valid values as text: ``float or null``, ``cosine|constant|steps``."""
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
        """The meaning without backquotes."""
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
    """Return all keys in the order of the schema.

    Raises:
        KeyError: if a key has no description.
    """
    found = [_describe(Config, item, "") for item in fields(Config) if nested_schema(Config, item.name) is None]
    for section in sections():
        nested = nested_schema(Config, section)
        assert nested is not None
        found += [_describe(nested, item, f"{section}.") for item in fields(nested)]
    return tuple(found)


def attribute_meanings(described: type) -> dict[str, str]:
    """Return the text of each attribute under ``Attributes`` in the docstring of a class.

    Args:
        described: a class with a docstring in Google's style.
    """
    _, _, listed = inspect.cleandoc(described.__doc__ or "").partition("Attributes:\n")
    listed = re.split(r"\n(?=\S)", listed)[0]  # other headings are not indented
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", listed, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _describe(owner: type, item: Field[object], prefix: str) -> Key:
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    name = f"{prefix}{item.name}"
    meaning = attribute_meanings(owner)[item.name]
    return Key(name, str(item.type), default, meaning, CHOICES.get(name), LIMITS.get(name))
