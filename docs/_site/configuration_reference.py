"""Configuration reference, generated from the schema."""

from __future__ import annotations

import inspect
import re
import sys
from itertools import groupby

from escaping import code, escape, sentence

from microg_da.config import Config
from microg_da.config.keys import Key, describe_keys
from microg_da.config.structure import nested_schema

_HEAD = """# Configuration

This page lists the keys of experiment files, of `config.yaml` and of the command line, with type, default and meaning.
`python -m microg_da list keys 'training.*'` prints the same information. An experiment file sets keys by section. On
the command line a key includes its section: `training.lr=0.01`.

"""


def render() -> str:
    """Return the page as Markdown."""
    sections = [_section(name, list(keys)) for name, keys in groupby(describe_keys(), key=_section_name)]
    return _HEAD + "\n".join(sections)


def _section_name(key: Key) -> str:
    return key.name.rpartition(".")[0]


def _section(name: str, keys: list[Key]) -> str:
    title = f"## `{name}` {{ #{name} }}" if name else "## Keys without a section { #run }"
    schema = nested_schema(Config, name) if name else None
    summary = re.split(r"\n\nAttributes:", inspect.cleandoc(schema.__doc__ or ""))[0] if schema else ""
    return "\n\n".join(part for part in (title, escape(summary), "\n".join(map(_key, keys))) if part) + "\n"


def _key(key: Key) -> str:
    limit = f" Expected: {escape(key.limit.expected)}." if key.limit else ""
    return (
        f'{code(key.name)} <span id="{key.name}" class="key-type">{escape(key.kind)}, default {code(key.default_text)}'
        f"</span>\n:   {escape(sentence(key.meaning))}{limit}\n"
    )


if __name__ == "__main__":
    sys.stdout.write(render())
