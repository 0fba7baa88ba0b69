"""Version, commit and hash of the code that makes a run."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from microg_da import __version__

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class CodeState:
    """State of this package at one moment.

    Attributes:
        version: version of the package.
        commit: commit of the git repository of the sources; None if the sources are not in their repository.
        modified: whether the sources differ from that commit; None without a commit.
        sources: SHA-256 of all source files, independent of the folder.
    """

    version: str
    commit: str | None
    modified: bool | None
    sources: str


def code_state(package: Path = _PACKAGE) -> CodeState:
    """Return the current state of the code.

    Args:
        package: the folder of the sources.
    """
    commit = modified = None
    # A package that is installed inside another repository is not part of that repository.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        commit = (_git(package, "rev-parse", "HEAD") or "").strip() or None
        modified = bool(_git(package, "status", "--porcelain", "--", "."))
    return CodeState(__version__, commit, modified, _hash_of_sources(package))


def _git(folder: Path, *words: str) -> str | None:
    """Return the output of git; None if git is missing or fails."""
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
