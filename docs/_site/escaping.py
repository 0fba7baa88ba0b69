"""Plain text as Markdown."""

from __future__ import annotations

import re

_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_SPECIAL = re.compile(r"([\\*_\[\]<>|#])")


def escape(text: str) -> str:
    """Text in which nothing but code between backticks is marked."""
    parts = _CODE.split(text)
    return "".join(part if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts))


def code(text: str) -> str:
    """Text as code, whatever it holds."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def sentence(text: str) -> str:
    """Text with a capital at its start, unless that is a name, and a full stop at its end."""
    first = text.split(" ", 1)[0]
    start = text[:1].upper() + text[1:] if first.islower() and re.fullmatch(r"[a-z-]+[,:;]?", first) else text
    return start if start.endswith((".", "?", "!")) else f"{start}."
