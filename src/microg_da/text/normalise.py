"""Conversion of text to a single line, and recognition of missing answers."""

from __future__ import annotations

import re

NOT_MENTIONED = "Not mentioned."

# Soft hyphen, zero-width spaces, joiners and marks, byte order mark: invisible, but tokens for programs.
_ZERO_WIDTH = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


def one_line(text: str) -> str:
    """Return the text without zero-width characters, with white space and line breaks reduced to single spaces."""
    return " ".join(_ZERO_WIDTH.sub("", text).split())


def is_absent(text: str) -> bool:
    """Return whether a text is missing: empty, or the ``nan`` that tables write for a missing text."""
    return one_line(text).lower() in ("", "nan")


def is_not_mentioned(answer: str) -> bool:
    """Return whether an answer is only "Not mentioned"."""
    return one_line(answer).lower().rstrip(".") == "not mentioned"
