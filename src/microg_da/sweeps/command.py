"""The command of a sweep file, expanded as W&B's agent expands it."""

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
    """The words of one trial's command line.

    Args:
        command: the file's ``command``. A macro counts only where it is a whole word, but ``${envvar:NAME}``.
        program: the file's ``program``.
        args: the trial's parameters; nested ones are mappings.
        args_json_file: the path that ``${args_json_file}`` stands for; the caller writes the file.
        interpreter: what ``${interpreter}`` stands for.
        environment: variables of ``${envvar:NAME}``; an unknown one leaves its name, as with W&B.

    Raises:
        InputError: for a macro that W&B does not have, which its agent would drop without a word.
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
