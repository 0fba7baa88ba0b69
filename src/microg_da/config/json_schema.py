"""The JSON schema of experiment files, from which editors complete keys and mark errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from microg_da.config.keys import Key, attribute_meanings, describe_keys
from microg_da.config.schema import Config
from microg_da.config.structure import sections

SCHEMA_FILE = "experiment.schema.json"
"""The name of the schema file in the folder of experiments."""

JsonObject = dict[str, object]


def json_schema(names: Mapping[str, Iterable[str]]) -> JsonObject:
    """Return the schema (JSON Schema, draft 7) of experiment files.

    Args:
        names: the registered names that are valid for keys such as ``model.name``. A name with a colon, such as
            ``timm:NAME``, is valid as well.
    """
    keys = {key.name: key for key in describe_keys()}
    top = {name: _of_key(key, names.get(name)) for name, key in keys.items() if "." not in name}
    top["base"] = {"type": "string", "description": "An experiment, by name or path, whose keys this one inherits."}
    meanings = attribute_meanings(Config)
    # A key may also be written with a dot, training.epochs: 5.
    in_one_piece: JsonObject = {rf"^({'|'.join(sections())})\.": {}}
    for section in sections():
        inner = {name.partition(".")[2]: key for name, key in keys.items() if name.startswith(f"{section}.")}
        properties = {leaf: _of_key(key, names.get(key.name)) for leaf, key in inner.items()}
        top[section] = _section(meanings[section], properties)
    settings = {name: {"$ref": f"#/properties/{name}"} for name in top if name != "base"}
    top["when"] = _conditional({"type": "object", "properties": settings, "patternProperties": in_one_piece})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "microg_da experiment",
        "type": "object",
        "properties": top,
        "patternProperties": in_one_piece,
        "additionalProperties": False,
    }


def schema_reference(file: Path, folder: Path) -> str:
    """Return the line that names the schema in a YAML file below the folder of experiments."""
    up = "../" * len(file.relative_to(folder).parts[:-1])
    return f"# yaml-language-server: $schema={up or './'}{SCHEMA_FILE}"


def _conditional(settings: JsonObject) -> JsonObject:
    """Return the schema of the section ``when``, whose keys apply under a condition such as ``protocol=published``."""
    return {
        "description": "Keys that are set only if another key has a value: {protocol=published: {KEY: VALUE}}.",
        "type": "object",
        "patternProperties": {"^[^=]+=": settings | {"additionalProperties": False}},
        "additionalProperties": False,
    }


def _section(meaning: str, properties: Mapping[str, JsonObject]) -> JsonObject:
    mapping: JsonObject = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    if "name" not in properties:
        return {"description": meaning.replace("``", ""), **mapping}
    # `adaptation: dann` is short for `adaptation: {name: dann}`.
    return {"description": meaning.replace("``", ""), "anyOf": [mapping, properties["name"]]}


def _of_key(key: Key, names: Iterable[str] | None) -> JsonObject:
    about: JsonObject = {"description": key.plain_meaning, "default": key.default}
    parts = [part.strip() for part in key.annotation.split("|")]
    if "Any" in parts:
        return about
    null: list[JsonObject] = [{"type": "null"}] if "None" in parts else []
    if names is not None:
        return about | {"anyOf": [{"enum": sorted(names)}, {"type": "string", "pattern": ":"}, *null]}
    if key.choices is not None:
        return about | {"enum": [*key.choices, *([None] if null else [])]}
    kind = _kind(parts[0], key)
    return about | ({"anyOf": [kind, *null]} if null else kind)


def _kind(annotation: str, key: Key) -> JsonObject:
    if annotation.startswith("list["):
        items = _TYPES[annotation.removeprefix("list[").removesuffix("]")] | _bounds(key)
        pair = key.limit is not None and key.limit.pair
        return {"type": "array", "items": items} | ({"minItems": 2, "maxItems": 2} if pair else {})
    return _TYPES[annotation] | _bounds(key)


_TYPES: dict[str, JsonObject] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "dict[str, Any]": {"type": "object"},
}


def _bounds(key: Key) -> JsonObject:
    bounds: JsonObject = {}
    if key.limit is not None and key.limit.low is not None:
        bounds["exclusiveMinimum" if key.limit.above_low else "minimum"] = key.limit.low
    if key.limit is not None and key.limit.high is not None:
        bounds["exclusiveMaximum" if key.limit.below_high else "maximum"] = key.limit.high
    return bounds
