"""The sections and keys of the schema."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache

from microg_da.config.schema import Config


@cache
def schema_keys(schema: type = Config, prefix: str = "") -> tuple[str, ...]:
    """Return all dotted keys of the schema, without the sections."""
    keys: list[str] = []
    for item in fields(schema):
        nested = nested_schema(schema, item.name)
        keys += schema_keys(nested, f"{prefix}{item.name}.") if nested else [f"{prefix}{item.name}"]
    return tuple(keys)


@cache
def nested_schema(schema: type, name: str) -> type | None:
    """Return the dataclass of a section, or None for a key."""
    item = next(item for item in fields(schema) if item.name == name)
    return item.default_factory if is_dataclass(item.default_factory) else None


@cache
def sections() -> tuple[str, ...]:
    """Return the names of the sections, in order."""
    return tuple(item.name for item in fields(Config) if nested_schema(Config, item.name))
