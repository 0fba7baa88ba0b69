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
"""How a system says that a disk is full, broken or not to be written to."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; it takes the name ``path`` if the block ends well, else it goes.

    Raises:
        InputError: if the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept whole (.csv.gz), since writers choose a format by it.
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", suffix="".join(path.suffixes[-2:]), dir=path.parent)
        os.close(descriptor)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Choose a folder you may write to."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; results are meant to be read by others as any other file is.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def inside(root: str | Path, name: str) -> Path:
    """The file or folder that data names below a folder.

    Raises:
        InputError: if it leaves the folder: by ``..``, by an absolute path, or by a link that leads elsewhere.
    """
    root, path = Path(root), Path(root) / name
    resolved, top = path.resolve(), root.resolve()
    if resolved == top or not resolved.is_relative_to(top):
        raise InputError(f"{name!r} leaves {root}: names in data must stay below their folder; link all of it instead.")
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text in one step; returns the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write JSON in one step (indented; NaN becomes null); returns the path."""
    return write_text(path, json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def to_json(value: Any) -> str:
    """One line of strict JSON, NaN and infinities as null."""
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
