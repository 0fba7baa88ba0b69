"""Conversion of text to one line of a pipe, and the words that mark a missing answer."""

from __future__ import annotations

import re

NOT_MENTIONED = "Not mentioned."

# Soft hyphen, zero-width spaces, joiners and marks, byte order mark: seen by no reader, yet tokens to a program.
_ZERO_WIDTH = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


def one_line(text: str) -> str:
    """The text without zero-width characters, every run of white space (line breaks too) as one space."""
    return " ".join(_ZERO_WIDTH.sub("", text).split())


def is_absent(text: str) -> bool:
    """Whether there is nothing to read: an empty text, or the ``nan`` that a table writes for a missing one."""
    return one_line(text).lower() in ("", "nan")


def is_not_mentioned(answer: str) -> bool:
    """Whether an answer says no more than that the description does not mention it."""
    return one_line(answer).lower().rstrip(".") == "not mentioned"
