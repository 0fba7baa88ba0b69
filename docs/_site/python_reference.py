"""Python API reference: a directive for mkdocstrings for every public name."""

from __future__ import annotations

import sys

import microg_da

_HEAD = """# Python API

`from microg_da import NAME` imports each name on this page with only its own dependencies.
[Python examples](../api.md) has an example for each name, grouped by subject.

"""


def render() -> str:
    """Return the page as Markdown."""
    return _HEAD + "\n".join(_entry(name) for name in microg_da.__all__ if name != "__version__")


def _entry(name: str) -> str:
    # mkdocstrings reads source files, which do not contain the lazy names of the package.
    place = f"{microg_da._PUBLIC[name]}.{name}"
    return f"::: {place}\n    options:\n      heading: microg_da.{name}\n      toc_label: {name}\n"


if __name__ == "__main__":
    sys.stdout.write(render())
