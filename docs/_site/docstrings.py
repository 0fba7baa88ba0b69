"""Docstrings as mkdocstrings reads them: examples as a section, and roles of Sphinx without their marks."""

from __future__ import annotations

import re
from typing import Any

import griffe


class SphinxRoles(griffe.Extension):
    """Rewrites what Google's style, as griffe reads it, does not know."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r":(?:class|func|meth|mod|data|attr|exc):`~?", "`", text)
