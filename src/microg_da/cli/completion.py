"""`completion`: shell completion of commands, options, configuration keys and names."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "microg_da"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `completion`."""
    parser.epilog = (
        "The script completes the command microg_da. To complete `python -m microg_da` in bash and zsh, run "
        "activate-global-python-argcomplete once instead."
    )
    parser.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")


def run(args: argparse.Namespace) -> int:
    """Print the script that the shell runs."""
    from argcomplete.shell_integration import shellcode

    print(shellcode([PROGRAM], shell=args.shell), end="")
    return 0


def is_asked_by_shell() -> bool:
    """Return whether a shell started this process to complete a line."""
    return "_ARGCOMPLETE" in os.environ


def word_at(names: Iterable[str]) -> str | None:
    """Return the first of the given names that occurs on the line to complete."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT") or 0)]
    finished = line.split()[1:] if line.endswith((" ", "\t")) else line.split()[1:-1]
    return next((word for word in finished if word in set(names)), None)


def answer(parser: argparse.ArgumentParser, chosen: argparse.ArgumentParser | None, accepts_keys: bool) -> None:
    """Print the possible completions of the line, and end the process.

    Args:
        parser: the parser of the program.
        chosen: the parser of the command on the line; None if the line has none yet.
        accepts_keys: whether configuration keys may follow.
    """
    import argcomplete

    for action in chosen._actions if chosen is not None else ():
        name = next((option for option in action.option_strings if option in _NAMES), action.dest)
        if name in _NAMES and action.choices is None:
            action.completer = _complete_names(_NAMES[name])  # type: ignore[attr-defined]
    if chosen is not None and accepts_keys:
        keys = chosen.add_argument("keys", nargs="*")
        keys.completer = complete_key  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, exit_method=sys.exit, always_complete_options="long")


def complete_key(prefix: str, **_: Any) -> list[str]:
    """Complete ``training.e`` to ``training.epochs=``, and ``training.schedule=c`` to ``training.schedule=cosine``."""
    from microg_da.config import schema_keys
    from microg_da.config.keys import describe_keys
    from microg_da.config.structure import sections

    name, equals, _value = prefix.partition("=")
    short = {section: f"{section}.name" for section in sections() if f"{section}.name" in schema_keys()}
    if not equals:
        return [f"{key}=" for key in (*schema_keys(), *short)]
    full = short.get(name, name)
    if full in _NAMED_KEYS:
        return [f"{name}={value}" for value in _NAMED_KEYS[full]()]
    key = next((key for key in describe_keys() if key.name == full), None)
    if key is None:
        return []
    values = key.choices or (("true", "false") if key.annotation == "bool" else ())
    return [f"{name}={value}" for value in values]


def _complete_names(names: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """Return the matching names; the shell adds files if other values are valid as well."""

    def complete(prefix: str, **_: Any) -> list[str]:
        return [name for name in names() if name.startswith(prefix)]

    return complete


def _models() -> Iterable[str]:
    from microg_da.models import MODELS

    return MODELS


def _adaptations() -> Iterable[str]:
    from microg_da.adaptation import ADAPTATIONS

    return ADAPTATIONS


def _experiments() -> Iterable[str]:
    from microg_da.config.experiments import experiment_files

    return experiment_files()


def _sweeps() -> Iterable[str]:
    from microg_da.config.experiments import sweep_files

    return sweep_files()


def _kinds() -> Iterable[str]:
    from microg_da.cli.catalogue import KINDS

    return KINDS


def _sources() -> Iterable[str]:
    from microg_da.data import DATA

    return ("synthetic:earth", "synthetic:microgravity", *(f"{kind}:" for kind in DATA if kind != "synthetic"))


def _taxonomies() -> Iterable[str]:
    from microg_da.taxonomy import TAXONOMIES

    return TAXONOMIES


def _protocols() -> Iterable[str]:
    from microg_da.config.checks import CHOICES

    return CHOICES["evaluation.protocol"]


def _variants() -> Iterable[str]:
    from microg_da.types import VARIANTS

    return VARIANTS


def _splits() -> Iterable[str]:
    from microg_da.types import SPLITS

    return SPLITS


def _schemes() -> Iterable[str]:
    from microg_da.data import SCHEMES

    return SCHEMES


_NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "--experiment": _experiments,
    "--model": _models,
    "--data": _sources,
    "--protocol": _protocols,
    "--scheme": _schemes,
    "--split": _splits,
    "--sweep": _sweeps,
    "--taxonomy": _taxonomies,
    "--variant": _variants,
    "sweep": _sweeps,
    "what": _kinds,
}
"""The names that are valid after an option or as an argument."""

_NAMED_KEYS: dict[str, Callable[[], Iterable[str]]] = {
    "model.name": _models,
    "adaptation.name": _adaptations,
    "adaptation.test_time": _adaptations,
    "data.source": _sources,
    "data.target": _sources,
    "data.taxonomy": _taxonomies,
}
