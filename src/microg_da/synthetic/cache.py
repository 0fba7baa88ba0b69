"""Cache of drawn clips on disk, so that repeated runs start quickly.

The cache has one uncompressed ``.npz`` file for each specification and version of the renderer. An unreadable file is
ignored: the clips are drawn again and the file is replaced.
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
"""Maximum size of the folder. The oldest files are removed first."""


def cache_folder() -> Path:
    """Return ``$MICROG_DA_CACHE``, else ``microg_da/synthetic`` in the user's cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "microg_da" / "synthetic"


def cache_file(spec: SyntheticSpec) -> Path:
    """Return the path of the stored clips of a specification."""
    digest = hashlib.sha256(spec_text(spec).encode()).hexdigest()
    return cache_folder() / f"{spec.domain}-{spec.split}-{digest[:16]}.npz"


def spec_text(spec: SyntheticSpec) -> str:
    """Return a text that identifies the clips of a specification."""
    return repr((RENDERER_VERSION, sorted((key, value) for key, value in asdict(spec).items() if value is not None)))


def read(spec: SyntheticSpec, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, np.ndarray] | None:
    """Read the arrays of ``spec``; None if there is no intact file with these ``shapes`` (None: any length)."""
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
    """Store the arrays of ``spec``; return the file, or None if it cannot be written."""
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
