"""The folder of a made data set: complete clips, tables and provenance."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from microg_da import __version__
from microg_da.data.annotations import BOX, write_annotations
from microg_da.data.ava import Facts, write_facts
from microg_da.data.frames import index_video
from microg_da.data.splits import Division, write_split
from microg_da.errors import InputError
from microg_da.files import inside, replacing, write_json
from microg_da.taxonomy import Taxonomy, write_label_map
from microg_da.types import SPLITS, Split
from microg_da.video.writer import Mp4Writer
from microg_da.weightless.clips import Made, Row
from microg_da.weightless.plan import ClipPlan
from microg_da.weightless.request import Format, short_hash

PROVENANCE = "weightless.json"
PEOPLE = "people.csv"
JPEG_QUALITY = 95
VIDEO_QUALITY = 16
FORMAT = 1

_PARTIAL = ".partial-"
_CLIPS = "clips"


@dataclass(frozen=True)
class Folder:
    """The folder of a data set that is being made.

    ``clips/<name>.json`` is written last and marks a clip as complete.

    Attributes:
        root: the folder.
    """

    root: Path

    def begin(self, record: dict[str, object]) -> None:
        """Create the folder, or check that it belongs to the same request, to complete it.

        Args:
            record: the settings that determine the data set.

        Raises:
            InputError: if the folder contains other files, or cannot be written.
        """
        value = {"format": FORMAT, "version": __version__, "hash": short_hash(record), **record}
        path = self.root / PROVENANCE
        if path.is_file():
            self._check_same(path, value)
            return
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise InputError(f"{self.root}: the folder contains other files. Choose an empty or a new folder.")
        write_json(path, {**value, "complete": False})

    def has_clip(self, name: str) -> bool:
        """Return whether a clip exists and is complete."""
        return self._clip_path(name).is_file()

    def write_clip(self, plan: ClipPlan, made: Made, form: Format) -> None:
        """Write the frames of a clip atomically, then its people.

        Raises:
            InputError: if the clip cannot be written.
        """
        if form == "frames":
            self._write_frames(plan.name, made.frames)
        else:
            self._write_video(plan, made.frames)
        write_json(
            self._clip_path(plan.name),
            {
                "made_of": plan.video_id,
                "first_frame": plan.first + 1,
                "background": made.background,
                "people": [row._asdict() for row in made.rows],
            },
        )

    def read_rows(self, name: str) -> list[Row]:
        """Read the people of a clip.

        Raises:
            InputError: if the file is damaged.
        """
        path = self._clip_path(name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            rows = [Row(**row) for row in value["people"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: the file is damaged ({error!r}). Remove it; the clip is then made again."
            ) from error
        return [row._replace(box=_four(row.box), actions=tuple(row.actions)) for row in rows]

    def read_frames(self, name: str, numbers: Sequence[int]) -> list[np.ndarray]:
        """Read frames of a clip by distinct ascending numbers from 0, with channels blue, green, red."""
        folder = self.root / "frames" / name
        if folder.is_dir():
            return [_read_picture(folder / _frame_name(name, number)) for number in numbers]
        video = index_video(str(self.root / "videos" / f"{name}.mp4"))
        return list(video.decode(np.array(numbers)))

    def finish(self, plans: Sequence[ClipPlan], taxonomy: Taxonomy, skipped: dict[str, str]) -> tuple[Division, int]:
        """Write the tables after all clips.

        Returns:
            The split, and the number of labelled people.
        """
        table = pd.concat([pd.DataFrame(self._table(plan)) for plan in plans], ignore_index=True)
        splits = {plan.name: plan.split for plan in plans}
        annotations = self.root / "annotations"
        for split in SPLITS:
            rows = table[table.video_id.map(splits) == split]
            if len(rows):
                write_annotations(rows, annotations / f"ava_{split}.csv")
        write_label_map(taxonomy, annotations / "label_map.pbtxt")
        rates = {round(plan.fps, 3) for plan in plans}
        write_facts(Facts("frames", 0.0, rates.pop() if len(rates) == 1 else None), self.root)
        clips: dict[Split, tuple[str, ...]] = {
            split: tuple(sorted(name for name, of in splits.items() if of == split)) for split in SPLITS
        }
        division = Division("published", clips)
        write_split(division, annotations / "split.json")
        people = self._write_people(plans)
        path = self.root / PROVENANCE
        facts = {"clips": len(plans), "people": people, "skipped": skipped, "split_hash": division.hash}
        write_json(path, {**_read_provenance(path), **facts, "versions": _versions(), "complete": True})
        return division, people

    def _table(self, plan: ClipPlan) -> Iterator[dict[str, object]]:
        for row in self.read_rows(plan.name):
            for action in dict.fromkeys(row.actions):
                yield {
                    "video_id": plan.name,
                    "frame_stamp": row.frame + 1,
                    **dict(zip(BOX, row.box, strict=True)),
                    "action_id": action,
                    "person_id": row.person,
                    "source_video": plan.source_video,
                    "up": row.up,
                }

    def _write_people(self, plans: Sequence[ClipPlan]) -> int:
        """Write the origin of each person."""
        rows = [
            (plan.name, row.frame + 1, row.person, round(row.up, 3), row.video, row.number)
            for plan in plans
            for row in self.read_rows(plan.name)
        ]
        columns = ["video_id", "frame_stamp", "person_id", "up", "from_video_id", "from_person_id"]
        with replacing(self.root / PEOPLE) as temporary:
            pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False, lineterminator="\n")
        return len(rows)

    def _write_frames(self, name: str, frames: Iterator[np.ndarray]) -> None:
        folder = inside(self.root / "frames", name)
        partial = folder.with_name(f"{_PARTIAL}{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)  # an incomplete clip without people
        partial.mkdir(parents=True)
        try:
            for number, image in enumerate(frames):
                path = partial / _frame_name(name, number)
                if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                    raise InputError(f"{path}: cannot write the file. The disk may be full.")
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _write_video(self, plan: ClipPlan, frames: Iterator[np.ndarray]) -> None:
        path = inside(self.root / "videos", f"{plan.name}.mp4")
        with replacing(path) as temporary:
            first = next(frames)
            with Mp4Writer(temporary, first.shape[:2], plan.fps, VIDEO_QUALITY) as writer:
                for number, image in enumerate(_chain(first, frames)):
                    writer.add(image, number / plan.fps)

    def _clip_path(self, name: str) -> Path:
        return inside(self.root / _CLIPS, f"{name}.json")

    def _check_same(self, path: Path, value: dict[str, object]) -> None:
        found = _read_provenance(path)
        if found.get("hash") != value["hash"] or found.get("format") != FORMAT:
            raise InputError(
                f"{self.root}: the folder contains a data set with other settings: {_difference(found, value)}. "
                f"Choose another folder, or use the same settings to complete the data set."
            )


def _read_provenance(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read the file ({error}). Choose another folder.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: not the record of a data set. Choose another folder.")
    return value


def _difference(found: dict[str, Any], asked: dict[str, Any]) -> str:
    """Return the first difference between two records."""
    mine, theirs = (({**value, **(value.get("options") or {})}) for value in (asked, found))
    for name in mine:
        if name not in ("options", "hash", "version") and mine[name] != theirs.get(name):
            return f"{name} is {theirs.get(name)!r}, requested is {mine[name]!r}"
    return "the record has another structure"


def _versions() -> dict[str, str]:
    return {"microg_da": __version__, "numpy": np.__version__, "opencv": cv2.__version__}


def _four(box: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return x1, y1, x2, y2


def _read_picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    if picture is None:
        raise InputError(
            f"{path}: not readable as a picture. Remove the file of the clip in clips/; the clip is then made again."
        )
    return picture


def _frame_name(name: str, number: int) -> str:
    return f"{name}_{number + 1:06d}.jpg"


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest
