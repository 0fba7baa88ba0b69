"""Reading of captions and answers, and matching of predictions with references.

An item is a clip (task ``caption``) or one question of a clip (task ``vqa``). Tables are DataFrames with the
columns ``video_id, question, text``; ``question`` is empty for captions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from microg_da.errors import InputError, unknown_name
from microg_da.text.normalise import is_absent, is_not_mentioned, one_line

TASKS = ("caption", "vqa")
MISSING = ("error", "empty")

# English interrogatives. A question without an interrogative is a yes/no question.
_INTERROGATIVES = ("what", "who", "how", "where", "why", "which", "when")


@dataclass(frozen=True)
class References:
    """The items of a task.

    Attributes:
        table: ``video_id, question, text`` and derived columns: ``source`` (the source video), ``number`` (the number
            of the clip in it), ``answerable`` (the answer is not "Not mentioned"), ``qtype``.
        task: ``"caption"`` or ``"vqa"``.
        notes: notes about irregular items in the file, as sentences.
    """

    table: pd.DataFrame
    task: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Coverage:
    """Coverage of the items by predictions.

    Attributes:
        items: number of items.
        predicted: number of items with a prediction.
        absent: number of predictions that are empty or a literal ``nan``.
        unknown: number of predictions without an item.
    """

    items: int
    predicted: int
    absent: int
    unknown: int

    def __str__(self) -> str:
        parts = [f"predictions for {self.predicted:,} of {self.items:,} items ({self.predicted / self.items:.1%})"]
        if self.absent:
            parts.append(f"{self.absent:,} of them empty or nan")
        if self.unknown:
            parts.append(f"{self.unknown:,} without a reference")
        return ", ".join(parts)


def read_references(path: str | Path, task: str) -> References:
    """Read reference captions or answers. Absent texts (empty or ``nan``) are skipped, with a note.

    Raises:
        InputError: if the file or the task is invalid, or no reference has text.
    """
    table, notes = read_texts(path, task)
    absent = table["text"].map(is_absent)
    if absent.any():
        named = ", ".join(table.loc[absent, "video_id"].unique()[:3])
        notes.append(f"ignored {absent.sum()} of {len(table):,} references that are empty or a literal nan ({named})")
    table = table[~absent].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{path}: all references for task {task!r} are empty. Give another file or --task.")
    clip = table["video_id"].str.rpartition("_")
    table["source"] = clip[0].where(clip[1] != "", table["video_id"])
    table["number"] = pd.to_numeric(clip[2], errors="coerce")
    table["answerable"] = ~table["text"].map(is_not_mentioned)
    table["qtype"] = table["question"].map(question_type)
    return References(table, task, notes)


def question_type(question: str) -> str:
    """Return the interrogative of a question, at any position (*who*, *in which*), else ``yes/no``."""
    if not question:
        return ""
    words = [word.strip(",.?'\"").partition("'")[0] for word in question.lower().split()]
    return next((word for word in words if word in _INTERROGATIVES), "yes/no")


def match(
    predictions: pd.DataFrame, references: References, missing: str = "error", where: str | Path = "predictions"
) -> tuple[list[str], Coverage]:
    """Return the prediction for every item, in the order of the references. Absent predictions become empty texts.

    Args:
        predictions: table ``video_id, question, text`` from :func:`read_texts`.
        references: the items.
        missing: ``"error"``, or ``"empty"`` to replace missing predictions by empty texts.
        where: the file of the predictions, for error messages.

    Raises:
        InputError: if predictions are missing and ``missing`` is ``"error"``.
    """
    if missing not in MISSING:
        raise unknown_name("--missing", missing, MISSING)
    given = dict(zip(_keys(predictions), predictions["text"], strict=True))
    keys = list(_keys(references.table))
    silent = [key for key in keys if key not in given]
    coverage = Coverage(
        items=len(keys),
        predicted=len(keys) - len(silent),
        absent=sum(is_absent(given[key]) for key in keys if key in given),
        unknown=len(given.keys() - set(keys)),
    )
    if silent and missing == "error":
        video_id, question = silent[0]
        raise InputError(
            f"{where}: {coverage}; the first missing item is {video_id!r}{f', {question!r}' if question else ''}. "
            "Complete the file, or use --missing empty to score missing predictions as empty texts."
        )
    texts = (given.get(key, "") for key in keys)
    return ["" if is_absent(text) else text for text in texts], coverage


def read_texts(path: str | Path, task: str) -> tuple[pd.DataFrame, list[str]]:
    """Read captions or answers in the authors' formats.

    Captions are ``{video_id: text}``, or a list of records with ``video_id`` and ``caption``. Answers are a list of
    records ``{"video_id": …, "qa_pairs": [{"Q": …, "A": …}, …]}``. A repeated item counts once.

    Returns:
        The table ``video_id, question, text``, and notes about repeated items.

    Raises:
        InputError: if the file cannot be read, has another structure, or has two different texts for an item.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    records = _load(path)
    items: dict[tuple[str, str], tuple[str, str, str]] = {}
    repeated = 0
    for item in (_captions if task == "caption" else _answers)(records, str(path)):
        video_id, question, text = item
        key = (video_id, one_line(question))
        repeated += key in items
        known = items.setdefault(key, item)[2]
        if known != text:
            raise InputError(
                f"{path}: two different texts for {video_id!r}{f', {question!r}' if question else ''}: "
                f"{known[:60]!r} and {text[:60]!r}. Keep one."
            )
    table = pd.DataFrame(list(items.values()), columns=["video_id", "question", "text"], dtype=str)
    return table, _repetitions(records, repeated)


def _load(path: str | Path) -> object:
    def keep_first(pairs: list[tuple[str, object]]) -> dict[str, object]:
        # JSON allows repeated keys, and Python's reader silently keeps the last value.
        found: dict[str, object] = {}
        for key, value in pairs:
            if found.setdefault(key, value) != value:
                raise InputError(f"{path}: the key {key!r} occurs twice with different values. Keep one.")
        return found

    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        # Tables write a bare NaN for a missing text; it is read like the text "nan".
        return json.loads(text, object_pairs_hook=keep_first, parse_constant=str)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Give a JSON file.") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON: {error.msg}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        # Python's reader fails on numbers with thousands of digits and on very deep nesting.
        raise InputError(f"{path}: not readable as JSON: {error}.") from error


def _captions(records: object, where: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(records, dict):
        for video_id, caption in records.items():
            yield _text(video_id, where), "", _text(caption, f"{where}, {video_id!r}")
        return
    for place, record in _records(records, where, "an object {video_id: caption}, or a list of records"):
        yield _field(record, "video_id", place), "", _field(record, "caption", place)


def _answers(records: object, where: str) -> Iterator[tuple[str, str, str]]:
    for place, record in _records(records, where, "a list of records with video_id and qa_pairs"):
        video_id = _field(record, "video_id", place)
        pairs = record.get("qa_pairs")
        for pair_place, pair in _records(pairs, f"{place} ({video_id}), qa_pairs", "a list of objects with Q and A"):
            yield video_id, _field(pair, "Q", pair_place), _field(pair, "A", pair_place)


def _records(value: object, where: str, expected: str) -> Iterator[tuple[str, dict[str, object]]]:
    if not isinstance(value, list):
        raise InputError(f"{where}: expected {expected}, found {_kind(value)}.")
    for index, record in enumerate(value):
        place = f"{where}, entry {index + 1}"
        if not isinstance(record, dict):
            raise InputError(f"{place}: expected an object, found {_kind(record)}.")
        yield place, record


def _field(record: dict[str, object], key: str, place: str) -> str:
    if key not in record:
        raise InputError(f"{place}: the key {key!r} is missing; found {', '.join(map(repr, record)) or 'no keys'}.")
    return _text(record[key], f"{place}, {key}")


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place}: expected text, found {_kind(value)}.")
    # JSON may contain lone surrogates, which cannot be tokenised or printed.
    return value.encode("utf-8", "replace").decode()


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _repetitions(records: object, repeated: int) -> list[str]:
    notes = []
    if isinstance(records, list):
        counts = Counter(record["video_id"] for record in records)
        twice = [f"{video_id} in {count} records" for video_id, count in counts.items() if count > 1]
        if twice:
            notes.append(f"{len(twice)} clips occur in several records: {', '.join(twice[:3])}")
    if repeated:
        notes.append(f"{repeated} repeated items count once")
    return notes


def _keys(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(table["video_id"], table["question"].map(one_line), strict=True)
