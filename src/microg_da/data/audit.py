"""Errors, leaks and contents of a data set on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from rich.progress import Progress

from microg_da.data.annotations import BOX, KEYFRAME
from microg_da.data.dataset_files import DatasetFiles
from microg_da.data.fingerprints import near_duplicates
from microg_da.data.frames import FrameStore
from microg_da.data.options import FileOptions
from microg_da.data.splits import EVALUATED, Division
from microg_da.errors import InputError
from microg_da.taxonomy import GROUP_NAMES
from microg_da.terminal import tracked
from microg_da.types import FOOTAGE, SPLITS

FEW_EXAMPLES = 5
# A box with a side below this fraction of the frame has a few pixels, and is probably an error.
SMALLEST_SIDE = 0.01
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One kind of problem.

    Attributes:
        name: the kind of problem, e.g. ``"duplicate rows"``.
        count: number of occurrences, may be 0.
        detail: one line of text.
        examples: the first few occurrences.
    """

    name: str
    count: int
    detail: str
    examples: tuple[str, ...] = ()


class AlikePair(NamedTuple):
    """Two similar clips and their splits; None for a clip without a split."""

    first: str
    second: str
    splits: tuple[str | None, str | None]

    @property
    def across(self) -> bool:
        """Whether the clips are in different splits."""
        return None not in self.splits and self.splits[0] != self.splits[1]


@dataclass(frozen=True)
class Audit:
    """The result of :func:`audit`.

    Attributes:
        source: the data.
        split: the scheme and hash of the division that was examined; empty where the data is not divided.
        counts: how many clips, annotations, … there are.
        persons_per_clip: how many clips have one person, two, ….
        splits: clips, keyframes, boxes and labels of each split; without rows where the data is not divided.
        classes: a row per action id: name, group, and labels in all, per split and per footage.
        findings: all checked problems, including those without occurrences.
        alike: pairs of similar clips, those in different splits first.
    """

    source: str
    split: str
    counts: dict[str, int]
    persons_per_clip: dict[int, int]
    splits: pd.DataFrame
    classes: pd.DataFrame
    findings: tuple[Finding, ...]
    alike: tuple[AlikePair, ...] = ()

    @property
    def found_first(self) -> tuple[Finding, ...]:
        """All findings, those without occurrences last."""
        return tuple(sorted(self.findings, key=lambda finding: not finding.count))

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings with occurrences."""
        return tuple(finding for finding in self.findings if finding.count)

    def as_dict(self) -> dict[str, object]:
        """Return the audit in JSON types."""
        return {
            "source": self.source,
            "split": self.split,
            "counts": self.counts,
            "persons_per_clip": self.persons_per_clip,
            "splits": self.splits.reset_index(names="split").to_dict("records"),
            "classes": self.classes.to_dict("records"),
            "findings": [vars(finding) for finding in self.findings],
            "alike": [pair._asdict() for pair in self.alike],
        }


def audit(
    files: DatasetFiles,
    division: Division | None,
    *,
    source: str = "",
    frames: FrameStore | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Examine a data set.

    Args:
        files: its tables, read with ``check_boxes=False`` so that impossible boxes can be counted.
        division: the division to examine, see :func:`division_of`; None where there is none.
        source: the name of the data.
        frames: its frames, if missing and near-identical clips are to be looked for.
        progress: a started progress bar for clips.
    """
    labels = files.annotations if files.actions is None else files.actions
    pictures, alike = _pictures(files, division, frames, progress)
    return Audit(
        source=source or str(files.root),
        split=f"{division.scheme} ({division.hash})" if division else "",
        counts=_counts(files, labels),
        persons_per_clip=_persons_per_clip(labels),
        splits=_splits(files, division),
        classes=_classes(files, division, labels),
        findings=(*_leaks(files, division), *_faults(files, labels), *_rare(files, division), *pictures),
        alike=alike,
    )


def division_of(files: DatasetFiles, options: FileOptions, *, chosen: bool) -> Division | None:
    """The division to examine.

    Args:
        files: the data set.
        options: the requested options.
        chosen: whether a scheme was requested. If not, the data set's own split is used as far as it exists.

    Returns:
        the division; None if no scheme was requested and the data set has no split files.

    Raises:
        InputError: if the requested scheme cannot be applied.
    """
    if chosen or files.scheme_of(options) != "published" or files.published.notna().all():
        return files.split(options)
    if files.published.isna().all():
        return None
    clips = {split: tuple(sorted(files.published.index[files.published == split])) for split in SPLITS}
    return Division("published", clips)


def _counts(files: DatasetFiles, labels: pd.DataFrame) -> dict[str, int]:
    counts = {
        "clips": labels.video_id.nunique(),
        "source videos": files.sources.nunique(),
        "annotations": len(labels),
        "boxes": len(files.annotations.drop_duplicates([*KEYFRAME, *BOX])),
        "keyframes": len(files.annotations.drop_duplicates(KEYFRAME)),
        "classes": labels.action_id.nunique(),
    }
    if files.footage is not None:
        footage = labels.video_id.map(files.footage)
        counts |= {f"annotations, {name}": int((footage == name).sum()) for name in FOOTAGE}
    return counts


def _persons_per_clip(labels: pd.DataFrame) -> dict[int, int]:
    persons = labels.groupby("video_id").person_id.nunique()
    clips = persons.value_counts().sort_index()
    return dict(zip(clips.index.tolist(), clips.tolist(), strict=True))


def _splits(files: DatasetFiles, division: Division | None) -> pd.DataFrame:
    if division is None:
        return pd.DataFrame(columns=["clips", "keyframes", "boxes", "labels"])
    split = files.annotations.video_id.map(division.splits)
    tables = {name: files.annotations[split == name] for name in SPLITS}
    return pd.DataFrame(
        {
            "clips": {name: table.video_id.nunique() for name, table in tables.items()},
            "keyframes": {name: len(table.drop_duplicates(KEYFRAME)) for name, table in tables.items()},
            "boxes": {name: len(table.drop_duplicates([*KEYFRAME, *BOX])) for name, table in tables.items()},
            "labels": {name: len(table) for name, table in tables.items()},
        }
    )


def _classes(files: DatasetFiles, division: Division | None, labels: pd.DataFrame) -> pd.DataFrame:
    taxonomy = files.taxonomy
    ids = pd.Index(taxonomy.ids, name="action_id")
    table = pd.DataFrame({"name": taxonomy.names, "group": taxonomy.groups}, index=ids)
    table["labels"] = labels.action_id.value_counts().reindex(ids, fill_value=0)
    columns: list[tuple[tuple[str, ...], pd.DataFrame, pd.Series]] = []
    if division is not None:
        columns.append((SPLITS, files.annotations, files.annotations.video_id.map(division.splits)))
    if files.footage is not None:
        columns.append((FOOTAGE, labels, labels.video_id.map(files.footage)))
    for names, rows, kind in columns:
        for name in names:
            table[name] = rows.action_id[kind == name].value_counts().reindex(ids, fill_value=0)
    return table.reset_index()


def _leaks(files: DatasetFiles, division: Division | None) -> list[Finding]:
    if division is None:
        return []
    nowhere = files.sources.index.difference(division.splits.index).tolist()
    found = [Finding("clips in no split", len(nowhere), "labelled, but in no split", _few(nowhere))]
    for split in EVALUATED:
        shared = division.shared_source_videos(split, files.sources)
        detail = (
            f"{shared.clips} of {shared.of_clips} {split} clips come from {shared.source_videos} source videos that "
            f"are also in train"
        )
        found.append(Finding(f"{split} clips whose source video is in train", shared.clips, detail))
    return found


def _faults(files: DatasetFiles, labels: pd.DataFrame) -> list[Finding]:
    boxes = files.annotations[BOX].to_numpy()
    size = boxes[:, 2:] - boxes[:, :2]
    outside = pd.Series(((boxes < 0) | (boxes > 1)).any(axis=1), index=files.annotations.index)
    empty = (size <= 0).any(axis=1)
    tiny = ~empty & (size < SMALLEST_SIDE).any(axis=1)
    doubled = labels[labels.duplicated()]
    without_box = _missing_from(labels, files.annotations, ["video_id", "person_id"])
    without_any = _missing_from(labels, files.annotations, ["video_id"])
    without_label = _missing_from(files.annotations, labels, ["video_id", "person_id"])
    return [
        _rows("duplicate rows", doubled, "rows that repeat an earlier one"),
        _rows(
            "persons without a box",
            without_box.drop_duplicates(["video_id", "person_id"]),
            "labelled, but without a box",
        ),
        _rows(
            "clips without a box",
            without_any.drop_duplicates("video_id"),
            "labelled, but none of their people has a box",
        ),
        _rows(
            "persons without a label",
            without_label.drop_duplicates(["video_id", "person_id"]),
            "boxed, but not labelled",
        ),
        _rows("boxes without area", files.annotations[empty], "x1 < x2 and y1 < y2 are needed"),
        _rows("boxes outside the image", files.annotations[outside], "coordinates are fractions in [0, 1]"),
        _rows("very small boxes", files.annotations[tiny], f"a side below {SMALLEST_SIDE:.0%} of the picture"),
    ]


def _rare(files: DatasetFiles, division: Division | None) -> list[Finding]:
    parts = {"the data": files.annotations.action_id}
    if division is not None:
        split = files.annotations.video_id.map(division.splits)
        parts = {name: files.annotations.action_id[split == name] for name in SPLITS}
    found = []
    for name, actions in parts.items():
        counts = actions.value_counts().reindex(files.taxonomy.ids, fill_value=0)
        few = counts[(counts > 0) & (counts < FEW_EXAMPLES)]
        for what, ids in (("no example", counts.index[counts == 0]), (f"1 to {FEW_EXAMPLES - 1} examples", few.index)):
            examples = tuple(f"{number} {files.taxonomy.label(number)}" for number in ids)
            detail = f"{len(ids)} of {len(files.taxonomy)} classes"
            found.append(Finding(f"classes with {what} in {name}", len(ids), detail, examples))
    return found


def _pictures(
    files: DatasetFiles, division: Division | None, frames: FrameStore | None, progress: Progress | None
) -> tuple[list[Finding], tuple[AlikePair, ...]]:
    """Findings that need the frames."""
    if frames is None:
        return [], ()
    clips = files.sources.index.tolist()
    missing = frames.missing(clips)
    present = [clip for clip in clips if clip not in missing]
    walked = present if progress is None else tracked(present, progress, "reading clips", len(present))
    pairs, unreadable = near_duplicates(frames, walked)
    split_of_clip = {} if division is None else division.splits.to_dict()
    alike = sorted(
        (AlikePair(a, b, (split_of_clip.get(a), split_of_clip.get(b))) for a, b in pairs),
        key=lambda pair: not pair.across,
    )
    across = [(pair.first, pair.second) for pair in alike if pair.across]
    found = [
        Finding("clips without frames", len(missing), f"{len(missing)} clips have no frames", _few(missing.values())),
        Finding("clips that cannot be read", len(unreadable), "a frame cannot be decoded", _few(unreadable.values())),
        Finding("near-identical clips", len(pairs), f"{len(pairs)} similar pairs", _pairs(pairs)),
    ]
    if division is not None:
        detail = f"{len(across)} similar pairs"
        found.append(Finding("near-identical clips in two splits", len(across), detail, _pairs(across)))
    return found, tuple(alike)


def group_table(classes: pd.DataFrame) -> pd.DataFrame:
    """Labels per group: all, per split, per footage."""
    numbers = classes.drop(columns=["action_id", "name"]).groupby("group", sort=False).sum()
    return numbers.rename(index=GROUP_NAMES)


def frames_of(files: DatasetFiles, decode: str) -> FrameStore | None:
    """Return the frames of a data set, or None if it has only tables."""
    try:
        return files.frames(decode)
    except InputError:
        return None


def _missing_from(table: pd.DataFrame, other: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    known = pd.MultiIndex.from_frame(other[columns])
    return table[~pd.MultiIndex.from_frame(table[columns]).isin(known)]


def _rows(name: str, rows: pd.DataFrame, detail: str) -> Finding:
    columns = [column for column in ("video_id", "person_id", "action_id") if column in rows]
    examples = rows[columns].head(EXAMPLES).astype(str).agg(" ".join, axis=1).tolist() if len(rows) else []
    return Finding(name, len(rows), detail, tuple(examples))


def _few(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(list(texts)[:EXAMPLES])


def _pairs(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return _few(f"{a} = {b}" for a, b in pairs)
