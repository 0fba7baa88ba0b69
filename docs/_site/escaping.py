"""Conversion of plain text to Markdown."""

from __future__ import annotations

import re

_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_SPECIAL = re.compile(r"([\\*_\[\]<>|#])")


def escape(text: str) -> str:
    """Escape Markdown characters except in code between backticks."""
    parts = _CODE.split(text)
    return "".join(part if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts))


def code(text: str) -> str:
    """Return the text as a code span, also if it contains backticks."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def sentence(text: str) -> str:
    """Return the text as a sentence: capitalise the first word unless it is a name, and add a full stop."""
    first = text.split(" ", 1)[0]
    start = text[:1].upper() + text[1:] if first.islower() and re.fullmatch(r"[a-z-]+[,:;]?", first) else text
    return start if start.endswith((".", "?", "!")) else f"{start}."
