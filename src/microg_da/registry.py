"""Names for things that live in one file each: one registry line says where, and what it is.

A registry is a table of text, so that listing it imports nothing; the object behind a name is imported when
it is first asked for.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from microg_da.errors import unknown_name


@dataclass(frozen=True)
class Entry:
    """One registry line.

    Attributes:
        target: where the object is, as ``"package.module:attribute"``.
        summary: one line for people, shown by ``python -m microg_da list``.
        facts: further columns of that listing, e.g. ``{"parameters": "31,736,946"}``.
    """

    target: str
    summary: str
    facts: dict[str, str] | None = None


class Registry:
    """An ordered table from names to :class:`Entry`.

    Args:
        kind: what the names name, in the singular; used in error messages.
        entries: the table.
    """

    def __init__(self, kind: str, entries: dict[str, Entry]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match a shell-style pattern, in registry order."""
        return [name for name in self._entries if fnmatch.fnmatch(name, pattern)]

    def entry(self, name: str, where: str = "") -> Entry:
        """The line of ``name``; an unknown name raises :class:`InputError` with the nearest valid one."""
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries, where)
        return self._entries[name]

    def load(self, name: str, where: str = "") -> Any:
        """Import and return the object that ``name`` stands for."""
        module, _, attribute = self.entry(name, where).target.partition(":")
        return getattr(import_module(module), attribute)

    def register(self, name: str, target: str, summary: str, **facts: str) -> None:
        """Add a line at run time, for code that lives outside this package."""
        self._entries[name] = Entry(target, summary, facts or None)
