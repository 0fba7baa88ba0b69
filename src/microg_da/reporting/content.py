"""Content that a section passes to its template."""

from __future__ import annotations

from collections.abc import Mapping

Content = Mapping[str, object]
"""Names and values for Jinja, which looks them up without types."""
