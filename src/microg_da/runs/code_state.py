"""Which code a run was made with: enough to tell two versions apart, and to find the one that was used."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from microg_da import __version__

_PACKAGE = Path(__file__).resolve().parents[1]


def code_state(package: Path = _PACKAGE) -> dict[str, Any]:
    """What this package is at the moment.

    Args:
        package: the folder of its sources.

    Returns:
        ``version``; ``sources``, a SHA-256 of all its files, the same for the same code wherever it lies; and, where
        it lies in its own git repository, ``commit`` and ``modified``, whether the sources differ from that commit.
    """
    commit = modified = None
    # A package that is installed into somebody else's repository is not part of it.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        commit = (_git(package, "rev-parse", "HEAD") or "").strip() or None
        modified = bool(_git(package, "status", "--porcelain", "--", "."))
    return {"version": __version__, "commit": commit, "modified": modified, "sources": _hash_of_sources(package)}


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None if it is not there or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _hash_of_sources(package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(package).as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
