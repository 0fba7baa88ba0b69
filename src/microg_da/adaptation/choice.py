"""Text form of a method and its arguments: ``roll_tta``, or ``roll_tta?rolls=4&combine=logits``."""

from __future__ import annotations

from dataclasses import dataclass, field

from microg_da.adaptation import ADAPTATIONS
from microg_da.config.experiments import parse_overrides
from microg_da.errors import InputError


@dataclass(frozen=True)
class MethodChoice:
    """A method with arguments.

    Attributes:
        name: a name from ``list adaptations``.
        args: the arguments that differ from the defaults.
    """

    name: str
    args: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.args.items())])


def parse_method(text: str, where: str = "") -> MethodChoice:
    """Parse a method and its arguments, with values in YAML. The names of arguments are not checked.

    Raises:
        InputError: for an unknown method, or an argument that is not of the form ``key=value``.
    """
    name, question, query = text.partition("?")
    ADAPTATIONS.entry(name, where=where)
    pairs = query.split("&") if question else []
    for pair in pairs:
        key, equals, _ = pair.partition("=")
        if not key or not equals:
            raise InputError(
                f"{where} {text}: {pair!r} is not of the form key=value. Write ?key=value&key=value.".strip()
            )
    return MethodChoice(name, parse_overrides(pairs))
