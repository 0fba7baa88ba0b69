"""Registries of named objects: one line gives the location and a summary of each object.

A registry is a table of text, so that listing it imports nothing; an object is imported on first use. Code outside the
package is named by an entry point of its package, or as ``package.module:Name``: see ``docs/plugins.md``.
"""

from __future__ import annotations

import fnmatch
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from typing import Any

from microg_da.errors import InputError, first_line, nearest, unknown_name

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One registry line.

    Attributes:
        target: the location of the object, as ``"package.module:attribute"``.
        summary: one line of text, shown by ``python -m microg_da list``.
        facts: further columns of that listing, e.g. ``{"parameters": "31,736,946"}``.
    """

    target: str
    summary: str
    facts: dict[str, str] | None = None


class Registry:
    """An ordered table from names to :class:`Entry`.

    The names of the table come first, then those of entry points of installed packages. ``package.module:Name`` is not
    listed, and is valid in place of a name.

    Args:
        kind: the kind of object, in the singular, for error messages.
        entries: the table.
        group: the group of entry points that add names; None for none.
        check: ``"module:function"`` of a function ``(name, found) -> None`` that raises
            :class:`~microg_da.errors.InputError` if an object from outside the package is of the wrong kind.
    """

    def __init__(
        self, kind: str, entries: dict[str, Entry], *, group: str | None = None, check: str | None = None
    ) -> None:
        self.kind = kind
        self.group = group
        self._entries = dict(entries)
        self._check = check

    def __iter__(self) -> Iterator[str]:
        return iter({**self._entries, **self._outside()})

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._outside()

    def __len__(self) -> int:
        return len({**self._entries, **self._outside()})

    def is_own(self, name: str) -> bool:
        """Return whether a name is in the table, and not from another package."""
        return name in self._entries

    def knows(self, name: str) -> bool:
        """Return whether a name is in the registry or of the form ``package.module:Name``."""
        return is_path(name) or name in self

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names that match a shell-style pattern, in registry order."""
        return [name for name in self if fnmatch.fnmatch(name, pattern)]

    def entry(self, name: str, where: str = "") -> Entry:
        """Return the entry of ``name``, or a new entry for ``package.module:Name``, without importing anything.

        Raises:
            InputError: for an unknown name, with the nearest valid one.
        """
        if name in self._entries:
            return self._entries[name]
        if is_path(name):
            return Entry(name, "")
        outside = self._outside()
        if name not in outside:
            raise unknown_name(self.kind, name, [*self._entries, *outside], where)
        return outside[name]

    def load(self, name: str, where: str = "") -> Any:
        """Import and return the object named ``name``.

        Raises:
            InputError: for an unknown name; for code outside the package also if its module or attribute does not
                exist, the module cannot be imported, or the object is of the wrong kind.
        """
        target = self.entry(name, where).target
        if name in self._entries:
            return _attribute(import_module(target.partition(":")[0]), target)
        found = import_object(target, f"{where + ': ' if where else ''}{self.kind} {name!r}")
        if self._check is not None:
            check = _attribute(import_module(self._check.partition(":")[0]), self._check)
            check(f"{where + ': ' if where else ''}{self.kind} {name!r}", found)
        return found

    def register(self, name: str, target: str, summary: str, **facts: str) -> None:
        """Add an entry at run time, for code outside this package."""
        self._entries[name] = Entry(target, summary, facts or None)

    def _outside(self) -> dict[str, Entry]:
        """Return the entries from entry points of installed packages; these cannot replace a name of the table."""
        if self.group is None:
            return {}
        return {
            name: entry
            for name, entry in _entry_points(self.group, tuple(sys.path)).items()
            if name not in self._entries
        }


def is_path(name: str) -> bool:
    """Return whether a name is of the form ``package.module:Name``."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def short_name(name: str) -> str:
    """Return a name for use in a file name: for ``package.module:Name``, its last word."""
    return name.replace(":", ".").rpartition(".")[2] if is_path(name) else name


def import_object(target: str, what: str) -> Any:
    """Import ``"package.module:attribute"``.

    Args:
        target: the location of the object.
        what: the start of error messages, e.g. ``"adaptation 'package.module:Name'"``.

    Raises:
        InputError: if the module does not exist or cannot be imported, or has no such attribute.
    """
    module = target.partition(":")[0]
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"{what}: the module {module} needs {error.name}, which is not installed.") from error
        raise InputError(
            f"{what}: no module {error.name}. Install its package, or add its folder to PYTHONPATH."
        ) from error
    except Exception as error:  # a module of the user can raise any exception
        raise InputError(
            f"{what}: the module {module} cannot be imported: {type(error).__name__}: {first_line(error)}"
        ) from error
    try:
        return _attribute(imported, target)
    except AttributeError as error:
        public = [name for name in vars(imported) if not name.startswith("_")]
        guess = nearest(target.partition(":")[2], public)
        hint = f" Did you mean {module}:{guess}?" if guess else ""
        raise InputError(f"{what}: the module {module} has no {target.partition(':')[2]}.{hint}") from error


def _attribute(module: Any, target: str) -> Any:
    found = module
    for part in target.partition(":")[2].split("."):
        found = getattr(found, part)
    return found


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, Entry]:
    """Return the entries of a group from installed packages.

    Args:
        group: the group of entry points.
        path: the search path of packages, as the key of the cache.
    """
    found: dict[str, Entry] = {}
    for point in metadata.entry_points(group=group):
        package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "another package"
        if point.name in found and found[point.name].target != point.value:
            _log.warning("%s: two packages name %r; %s is used", group, point.name, found[point.name].target)
        found.setdefault(point.name, Entry(point.value, f"from the package {package}"))
    return found
