"""Typed arguments of methods and heads: checks a mapping from a configuration against a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microg_da.errors import InputError, unknown_name


def typed_arguments(schema: type, given: Mapping[str, Any], owner: str, key: str) -> Any:
    """Return an object of a dataclass in which the given values replace the defaults.

    Args:
        schema: the dataclass.
        given: values by field name.
        owner: the method or head that takes the arguments, for error messages.
        key: the configuration key that contains them.

    Raises:
        InputError: for an unknown name or a value of the wrong type.
    """
    made = OmegaConf.structured(schema)
    for name, value in given.items():
        if name not in made:
            raise unknown_name(f"argument of {owner}", str(name), list(made), key)
        try:
            OmegaConf.update(made, name, value, merge=False)  # converts a whole number to a float silently
        except OmegaConfBaseException as error:
            kind = next(field.type for field in fields(schema) if field.name == name)
            raise InputError(f"{key}.{name}={value!r} is invalid: expected {kind}.") from error
    return OmegaConf.to_object(made)
