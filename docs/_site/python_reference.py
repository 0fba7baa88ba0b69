"""The page of the Python interface: every public name, for mkdocstrings to describe from its docstring."""

from __future__ import annotations

import sys

import microg_da

_HEAD = """# Python API

`from microg_da import NAME` gives every name below and imports only what that name needs. The examples of all names,
grouped by subject, are in [Python examples](../api.md).

"""


def render() -> str:
    """The page as Markdown."""
    return _HEAD + "\n".join(_entry(name) for name in microg_da.__all__ if name != "__version__")


def _entry(name: str) -> str:
    # mkdocstrings reads sources, in which the package's lazy names do not stand.
    place = f"{microg_da._PUBLIC[name]}.{name}"
    return f"::: {place}\n    options:\n      heading: microg_da.{name}\n      toc_label: {name}\n"


if __name__ == "__main__":
    sys.stdout.write(render())
