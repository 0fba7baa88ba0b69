"""A class for short code spans, which the style sheet keeps on one line: browsers break lines after each hyphen."""

from __future__ import annotations

import re

LONGEST = 28
"""Largest number of characters of a span that fits the width of a phone."""
_SPAN = re.compile(rf"<code>(?=(?:[^<&]|&\w+;){{1,{LONGEST}}}</code>)")


def on_page_content(html: str, **_: object) -> str:
    """Mark the short code spans of a page."""
    return _SPAN.sub('<code class="short">', html)
