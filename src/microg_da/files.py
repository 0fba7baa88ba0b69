"""Atomic writing of files: a reader never sees a half-written file."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from microg_da.errors import InputError

CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})
"""Error numbers of a disk that is full, broken or read-only."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; it is renamed to ``path`` if the block succeeds, and else deleted.

    Raises:
        InputError: if the folder cannot be created or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The full suffix (.csv.gz) is kept, since writers choose a format by it.
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
        os.close(descriptor)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Choose a folder with write permission."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp creates private files; results get the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def inside(root: str | Path, name: str) -> Path:
    """Return the path of a file or folder that data names relative to a folder.

    Raises:
        InputError: if the path is outside the folder: by ``..``, as an absolute path, or through a link.
    """
    root, path = Path(root), Path(root) / name
    resolved, top = path.resolve(), root.resolve()
    if resolved == top or not resolved.is_relative_to(top):
        raise InputError(
            f"{name!r} is outside {root}: names in data must stay below their folder. Link the whole folder instead."
        )
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; return the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write indented JSON atomically, with NaN as null; return the path."""
    return write_text(path, json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def to_json(value: Any) -> str:
    """Return one line of strict JSON, with NaN and infinities as null."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
