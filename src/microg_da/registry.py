"""Registries of named objects, one file each: one registry line says where an object is and what it is.

A registry is a table of text, so that listing it imports nothing; the object behind a name is imported when
it is first asked for. Code outside the package is named by an entry point of its package, or as
``package.module:Name``: see ``docs/plugins.md``.
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
        target: where the object is, as ``"package.module:attribute"``.
        summary: one line for people, shown by ``python -m microg_da list``.
        facts: further columns of that listing, e.g. ``{"parameters": "31,736,946"}``.
    """

    target: str
    summary: str
    facts: dict[str, str] | None = None


class Registry:
    """An ordered table from names to :class:`Entry`.

    The names are those of the table, then those of the entry points of installed packages. ``package.module:Name`` is
    not among them, and can be used in place of a name.

    Args:
        kind: what the names name, in the singular; used in error messages.
        entries: the table.
        group: the group of entry points that add names; None for none.
        check: ``"module:function"`` of a function ``(name, found) -> None`` that raises
            :class:`~microg_da.errors.InputError` if an object from outside the package is not what the name should
            name.
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
        """Whether a name is of the table, and not of another package."""
        return name in self._entries

    def knows(self, name: str) -> bool:
        """Whether a name is one of the registry's, or of the form ``package.module:Name``."""
        return is_path(name) or name in self

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match a shell-style pattern, in registry order."""
        return [name for name in self if fnmatch.fnmatch(name, pattern)]

    def entry(self, name: str, where: str = "") -> Entry:
        """The line of ``name``; for ``package.module:Name``, one that is made of it. Nothing is imported.

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
        """Import and return the object that ``name`` stands for.

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
        """Add a line at run time, for code that lives outside this package."""
        self._entries[name] = Entry(target, summary, facts or None)

    def _outside(self) -> dict[str, Entry]:
        """The lines that entry points of installed packages add; a name of the table cannot be taken."""
        if self.group is None:
            return {}
        return {
            name: entry
            for name, entry in _entry_points(self.group, tuple(sys.path)).items()
            if name not in self._entries
        }


def is_path(name: str) -> bool:
    """Whether a name is of the form ``package.module:Name``."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def short_name(name: str) -> str:
    """A name that may be part of a file name: of ``package.module:Name`` the last word."""
    return name.replace(":", ".").rpartition(".")[2] if is_path(name) else name


def import_object(target: str, what: str) -> Any:
    """Import ``"package.module:attribute"``.

    Args:
        target: where the object is.
        what: begins the message of an error, e.g. ``"adaptation 'package.module:Name'"``.

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
            f"{what}: there is no module {error.name}. Install its package, or add its folder to PYTHONPATH."
        ) from error
    except Exception as error:  # the module is the user's, and may fail in any way
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
    """The lines of a group, as installed packages name them.

    Args:
        group: of entry points.
        path: where packages are looked for; a change of it is the reason to look again.
    """
    found: dict[str, Entry] = {}
    for point in metadata.entry_points(group=group):
        package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "another package"
        if point.name in found and found[point.name].target != point.value:
            _log.warning("%s: two packages name %r; %s is used", group, point.name, found[point.name].target)
        found.setdefault(point.name, Entry(point.value, f"from the package {package}"))
    return found
