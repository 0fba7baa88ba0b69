"""Command-line reference, generated from the argument parsers."""

from __future__ import annotations

import argparse
import sys
from unittest import mock

from escaping import code, escape, sentence

from microg_da.cli import COMMANDS, command_parser
from microg_da.cli.help import EXAMPLES

_HEAD = """# Command line

Run a command as `python -m microg_da COMMAND`, or as `microg_da COMMAND` if the package is installed. This page
contains the text of `--help`. [Commands](../commands.md) explains configuration keys, tests, comparisons and shell
completion.

"""


def render() -> str:
    """Return the page as Markdown."""
    # argparse uses the width of the terminal, and since Python 3.14 also its colours.
    with mock.patch.dict("os.environ", COLUMNS="100", NO_COLOR="1"):
        table = "\n".join(f"| [`{name}`](#{name}) | {escape(summary)} |" for name, summary in COMMANDS.items())
        sections = "\n".join(_section(name) for name in COMMANDS)
    return f"{_HEAD}| command | purpose |\n|---|---|\n{table}\n\n{sections}"


def _section(name: str) -> str:
    parser = command_parser(name)
    usage = parser.format_usage().replace("\n" + " " * len("usage: "), "\n").removeprefix("usage: ").strip()
    parts = [f"## `{name}` {{ #{name} }}", escape(parser.description or ""), f"```text\n{usage}\n```"]
    for group in parser._action_groups:
        shown = [_argument(parser, action) for action in group._group_actions if _is_shown(action)]
        if shown:
            title = (group.title or "").capitalize()
            parts += [f"**{escape(title)}**", "\n".join(shown)]
    own, _, _ = (parser.epilog or "").partition("examples:")
    if own.strip():
        parts.append(escape(" ".join(own.replace("%%", "%").split())))
    examples = "\n".join(f"python -m microg_da {example}" for example in EXAMPLES[name])
    parts.append(f"**Examples**\n\n```bash\n{examples}\n```")
    return "\n\n".join(parts) + "\n"


def _is_shown(action: argparse.Action) -> bool:
    return action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    name = formatter._format_action_invocation(action)
    text = formatter._expand_help(action) if action.help else ""
    required = "Required. " if action.option_strings and action.required else ""
    return f"{code(name)}\n:   {required}{escape(sentence(text))}\n"


if __name__ == "__main__":
    sys.stdout.write(render())
