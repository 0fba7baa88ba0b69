"""Expansion of the command of a sweep file, as in W&B's agent."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from microg_da.errors import unknown_name

DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
_MACRO = re.compile(r"^\$\{(.*)\}$")
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


def expand_command(
    command: Sequence[Any],
    program: str,
    args: Mapping[str, object],
    args_json_file: str | Path,
    *,
    interpreter: str = "python",
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the words of one trial's command line.

    Args:
        command: ``command`` of the file. A macro must be a whole word, except ``${envvar:NAME}``.
        program: ``program`` of the file.
        args: the parameters of the trial; nested parameters are mappings.
        args_json_file: the value of ``${args_json_file}``; the caller writes the file.
        interpreter: the value of ``${interpreter}``.
        environment: variables for ``${envvar:NAME}``. An unknown variable is replaced by its name, as in W&B.

    Raises:
        InputError: for an unknown macro, which W&B's agent would drop silently.
    """
    variables = os.environ if environment is None else environment
    macros = {
        "env": [] if sys.platform == "win32" else ["/usr/bin/env"],
        "interpreter": [interpreter],
        "program": [program],
        "args": [f"--{name}={value}" for name, value in args.items()],
        "args_no_equals": [word for name, value in args.items() for word in (f"--{name}", str(value))],
        "args_no_hyphens": [f"{name}={value}" for name, value in args.items()],
        "args_no_boolean_flags": [
            f"--{name}" if value is True else f"--{name}={value}" for name, value in args.items() if value is not False
        ],
        "args_json": [json.dumps(args)],
        "args_json_file": [str(args_json_file)],
        "args_append_hydra": [f"+{name}={value}" for name, value in args.items()],
        "args_override_hydra": [f"++{name}={value}" for name, value in args.items()],
    }
    words: list[str] = []
    for chunk in map(str, command):
        chunk = _VARIABLE.sub(lambda found: variables.get(found[1], found[1]), chunk)
        macro = _MACRO.match(chunk)
        if macro is None:
            words.append(chunk)
        elif macro[1] in macros:
            words += macros[macro[1]]
        else:
            raise unknown_name("macro", chunk, [f"${{{name}}}" for name in (*macros, "envvar:NAME")], "command")
    return words
