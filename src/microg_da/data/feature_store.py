"""Feature maps on disk: one folder for each encoder, data set and view, written once and mapped into memory.

A folder is a complete entry if it contains ``entry.json``, which is written last. Before, ``maps.f16`` grows by chunks,
and ``log.jsonl`` records each chunk, so that an interrupted entry can be continued.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from microg_da.errors import InputError
from microg_da.files import replacing, write_json

STORE_VERSION = 1
"""The version of entries; entries of other versions are made again."""

_MAPS, _LOG, _INDEX, _ENTRY = "maps.f16", "log.jsonl", "index.npz", "entry.json"
_HALF = np.dtype("<f2")


@dataclass(frozen=True)
class ClipRecord:
    """The stored facts of a clip other than its maps.

    Attributes:
        shape: ``(3, T, H, W)`` of its frames.
        places: the indices of the people in the keyframe.
        boxes: ``(K, 4)`` float32 in pixels, before the view rolls or mirrors the clip.
        table_boxes: ``(K, 4)`` float32 in [0, 1], as the table has them.
    """

    shape: tuple[int, ...]
    places: tuple[int, ...]
    boxes: np.ndarray
    table_boxes: np.ndarray


class StoredEntry:
    """A finished entry: the maps of every clip of a data set under one view.

    Args:
        folder: of the entry.

    Raises:
        ValueError: if the entry is damaged; also ``OSError`` and ``KeyError``.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
        if about["version"] != STORE_VERSION or (folder / _MAPS).stat().st_size != about["bytes"]:
            raise ValueError(f"{folder}: not an entry of version {STORE_VERSION}, or its maps are cut off")
        with np.load(folder / _INDEX, allow_pickle=False) as index:
            self._offsets, self._map_shapes, self._frames = (index[name] for name in ("offsets", "maps", "frames"))
            self._first, self._places = index["first"], index["places"]
            self._boxes, self._table_boxes = index["boxes"], index["table_boxes"]
        # An entry without any cells cannot be mapped into memory.
        size = about["bytes"] // _HALF.itemsize
        self._values = np.memmap(folder / _MAPS, _HALF, "r") if size else np.empty(0, _HALF)

    def __len__(self) -> int:
        return len(self._offsets)

    def frame_sizes(self) -> np.ndarray:
        """``(N, 2)``: height and width of the frames of every clip."""
        sizes: np.ndarray = self._frames[:, -2:]
        return sizes

    def maps(self, row: int) -> tuple[Tensor, ...]:
        """The maps ``(C, T', H', W')`` of a clip, one for each pathway, float16; copied out of the file."""
        found, start = [], int(self._offsets[row])
        for shape in self._map_shapes[row]:
            end = start + int(np.prod(shape))
            found.append(torch.from_numpy(np.array(self._values[start:end]).astype(np.float16)).view(*shape.tolist()))
            start = end
        return tuple(found)

    def record(self, row: int) -> ClipRecord:
        """The stored facts of a clip other than its maps."""
        people = slice(self._first[row], self._first[row + 1])
        shape, places = tuple(self._frames[row].tolist()), tuple(self._places[people].tolist())
        return ClipRecord(shape, places, self._boxes[people], self._table_boxes[people])


def open_entry(folder: Path) -> StoredEntry | None:
    """Return the entry in a folder; None if it is missing, unfinished or damaged."""
    try:
        return StoredEntry(folder)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


class EntryWriter:
    """Writes an entry chunk by chunk, and continues one that was interrupted.

    Only one process may write an entry at a time: see :func:`writing`.

    Args:
        folder: of the entry.
        plan: the parameters of the chunks. Chunks of another plan are written again.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        self._lines: list[dict[str, Any]] = []
        header = {"version": STORE_VERSION, **plan}
        folder.mkdir(parents=True, exist_ok=True)
        for name in (_ENTRY, _INDEX):
            (folder / name).unlink(missing_ok=True)
        known = self._read_log()
        if known[:1] == [header]:
            self._lines = known[1:]
        self._rewrite_log([header, *self._lines])
        with (folder / _MAPS).open("ab") as file:
            if file.tell() < self._end:  # the maps of recorded chunks are missing
                self._lines = []
                self._rewrite_log([header])
            file.truncate(self._end)

    @property
    def chunks(self) -> int:
        """How many chunks are written."""
        return len(self._lines)

    @property
    def _end(self) -> int:
        return int(self._lines[-1]["end"]) if self._lines else 0

    def append(self, rows: Sequence[int], records: Sequence[ClipRecord], maps: Sequence[Sequence[Tensor]]) -> None:
        """Write a chunk, and record it once it is on the disk.

        Args:
            rows: the indices of the clips.
            records: the record of each clip.
            maps: the maps of each clip, one for each pathway.

        Raises:
            InputError: if a value is too large for half precision, or the disk cannot be written.
        """
        halves = [[pathway.half() for pathway in clip] for clip in maps]
        if not all(bool(pathway.isfinite().all()) for clip in halves for pathway in clip):
            raise InputError(
                "data.feature_store: outputs of the encoder exceed the range of half precision. Set "
                "data.feature_store=null."
            )
        values = b"".join(pathway.contiguous().numpy().astype(_HALF).tobytes() for clip in halves for pathway in clip)
        line = {
            "rows": list(rows),
            "end": self._end + len(values),
            "maps": [[list(pathway.shape) for pathway in clip] for clip in halves],
            "frames": [list(record.shape) for record in records],
            "places": [list(record.places) for record in records],
            "boxes": [record.boxes.tolist() for record in records],
            "table_boxes": [record.table_boxes.tolist() for record in records],
        }
        try:
            _append(self.folder / _MAPS, values)
            _append(self.folder / _LOG, (json.dumps(line) + "\n").encode())
        except OSError as error:
            raise InputError(
                f"data.feature_store: cannot write {self.folder} ({error.strerror or error}). Free disk space, or use "
                f"another folder. The same command continues from the chunks that are written."
            ) from error
        self._lines.append(line)

    def finish(self, about: dict[str, str]) -> StoredEntry:
        """Complete the entry.

        Args:
            about: metadata of the entry.
        """
        order = np.argsort([row for line in self._lines for row in line["rows"]], kind="stable")
        clips = {name: [each for line in self._lines for each in line[name]] for name in _PER_CLIP}
        cells = np.array([sum(int(np.prod(shape)) for shape in clip) for clip in clips["maps"]], np.int64)
        counts = [len(clips["places"][place]) for place in order]
        with replacing(self.folder / _INDEX) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                offsets=(np.cumsum(cells) - cells)[order],
                maps=np.array(clips["maps"], np.int64)[order],
                frames=np.array(clips["frames"], np.int64)[order],
                first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                places=_joined([clips["places"][place] for place in order], np.int64, ()),
                boxes=_joined([clips["boxes"][place] for place in order], np.float32, (4,)),
                table_boxes=_joined([clips["table_boxes"][place] for place in order], np.float32, (4,)),
            )
        write_json(self.folder / _ENTRY, {"version": STORE_VERSION, "clips": len(order), "bytes": self._end, **about})
        (self.folder / _LOG).unlink(missing_ok=True)
        return StoredEntry(self.folder)

    def _read_log(self) -> list[dict[str, Any]]:
        """Return the complete lines of the log; the last line may be incomplete."""
        try:
            text = (self.folder / _LOG).read_bytes()
            return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
        except (OSError, ValueError):
            return []

    def _rewrite_log(self, lines: Sequence[dict[str, Any]]) -> None:
        with replacing(self.folder / _LOG) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


_PER_CLIP = ("maps", "frames", "places", "boxes", "table_boxes")


def _joined(parts: Sequence[Any], dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(
        [np.empty((0, *shape), dtype), *(np.array(part, dtype).reshape(-1, *shape) for part in parts)]
    )


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing(folder: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Lock a folder for writing entries; wait for another process that holds the lock.

    The system releases the lock when the process ends for any reason.

    Args:
        folder: the folder of the entries.
        waits: called once if another process is writing.

    Raises:
        InputError: if the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waits()
            lock.acquire()
    except OSError as error:
        raise InputError(
            f"data.feature_store: cannot write {folder} ({error.strerror or error}). Choose a folder you may write to."
        ) from error
    try:
        yield
    finally:
        lock.release()


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
