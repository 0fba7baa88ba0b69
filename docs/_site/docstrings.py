"""Changes of docstrings for mkdocstrings: examples as a section, Sphinx roles as plain code."""

from __future__ import annotations

import re
from typing import Any

import griffe


class SphinxRoles(griffe.Extension):
    """Rewrites markup that griffe's parser of Google's style does not support."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r":(?:class|func|meth|mod|data|attr|exc):`~?", "`", text)
