"""Kind of the scores in a file of detections: logits or probabilities, stored in a small JSON file next to the CSV.

The kind for ``detections.csv`` is in ``detections.csv.json``, since readers of AVA's format and ``pandas.read_csv`` do
not support comments. The JSON file contains a hash of the CSV, so that it does not apply to a changed file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Literal, get_args

from microg_da.errors import unknown_name
from microg_da.files import write_json

ScoreKind = Literal["logit", "probability"]
SCORE_KINDS: tuple[ScoreKind, ...] = get_args(ScoreKind)

FORMAT = "microg_da detections"

_log = logging.getLogger(__name__)


def sidecar(path: str | Path) -> Path:
    """Return the JSON file with the kind of the scores in a file of detections."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def declare_scores(path: str | Path, kind: ScoreKind | None) -> None:
    """Store the kind of the scores in a file of detections.

    Args:
        path: the complete file of detections.
        kind: the kind of the scores; None removes a stored kind.

    Raises:
        InputError: for an unknown kind, or if the JSON file cannot be written.
    """
    if kind is None:
        if _statement(path) is not None:
            sidecar(path).unlink()
        return
    check_kind(kind)
    write_json(sidecar(path), {"format": FORMAT, "scores": kind, "sha256": _digest(path)})


def declared_scores(path: str | Path) -> ScoreKind | None:
    """The stored kind of a file's scores; None if nothing is stored, or if the file has changed since."""
    statement = _statement(path)
    if statement is None:
        return None
    if statement.get("sha256") != _digest(path):
        _log.warning(
            "%s has changed since %s was written: the kind of scores in the latter is ignored",
            path,
            sidecar(path).name,
        )
        return None
    return check_kind(statement.get("scores"), where=str(sidecar(path)))


def check_kind(kind: object, where: str = "") -> ScoreKind:
    """The kind of scores that a value names; anything else raises :class:`InputError`."""
    if kind == "logit":
        return "logit"
    if kind == "probability":
        return "probability"
    raise unknown_name("kind of scores", str(kind), SCORE_KINDS, where)


def _statement(path: str | Path) -> dict[str, object] | None:
    """Return the content of the JSON file; None if it is missing or from another program."""
    try:
        content = json.loads(sidecar(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None


def _digest(path: str | Path) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
