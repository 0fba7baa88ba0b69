"""Rendered clips on disk, so that repeated runs start at once.

One uncompressed ``.npz`` for each specification and version of the renderer. A file that cannot be read, for
whatever reason, counts as absent: the clips are drawn again and the file replaced.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from microg_da.errors import InputError
from microg_da.files import replacing
from microg_da.synthetic.render import RENDERER_VERSION
from microg_da.synthetic.spec import SyntheticSpec

FOLDER_VARIABLE = "MICROG_DA_CACHE"
MOST_BYTES = 4 * 2**30
"""Oldest files go when the folder grows beyond this."""


def cache_folder() -> Path:
    """``$MICROG_DA_CACHE``, else ``microg_da/synthetic`` in the user's cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "microg_da" / "synthetic"


def cache_file(spec: SyntheticSpec) -> Path:
    """Path of the stored clips of a specification."""
    digest = hashlib.sha256(spec_text(spec).encode()).hexdigest()
    return cache_folder() / f"{spec.domain}-{spec.split}-{digest[:16]}.npz"


def spec_text(spec: SyntheticSpec) -> str:
    """Text that changes when the clips of a specification do."""
    return repr((RENDERER_VERSION, sorted((key, value) for key, value in asdict(spec).items() if value is not None)))


def read(spec: SyntheticSpec, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, np.ndarray] | None:
    """The arrays of ``spec``, or None if there is no sound file with these ``shapes`` (None: any length)."""
    path = cache_file(spec)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in shapes}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    sound = all(
        len(array.shape) == len(shapes[name])
        and all(want in (None, have) for have, want in zip(array.shape, shapes[name], strict=True))
        for name, array in arrays.items()
    )
    if not sound:
        return None
    path.touch()
    return arrays


def write(spec: SyntheticSpec, arrays: Mapping[str, np.ndarray]) -> Path | None:
    """Keep the arrays of ``spec``; returns the file, or None where the folder cannot be written or the disk is full."""
    path = cache_file(spec)
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except (OSError, InputError):
        return None
    _prune(path)
    return path


def _prune(keep: Path) -> None:
    """Remove the oldest files above `MOST_BYTES`; other processes write and remove files in the same folder."""
    found = []
    for file in keep.parent.glob("*.npz"):
        with suppress(FileNotFoundError):
            facts = file.stat()
            found.append((facts.st_mtime, facts.st_size, file))
    total = 0
    for _, size, file in sorted(found, reverse=True):
        total += size
        if total > MOST_BYTES and file != keep:
            file.unlink(missing_ok=True)
