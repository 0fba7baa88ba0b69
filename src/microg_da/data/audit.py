"""What is wrong or leaking in a data set on disk, and what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from rich.progress import Progress

from microg_da.data.annotations import BOX, KEYFRAME
from microg_da.data.dataset_files import Tree
from microg_da.data.fingerprints import near_duplicates
from microg_da.data.frames import FrameStore
from microg_da.data.options import TreeOptions
from microg_da.data.splits import SIDES, Split
from microg_da.errors import InputError
from microg_da.taxonomy import GROUP_NAMES
from microg_da.terminal import tracked

FEW_EXAMPLES = 5
# A person narrower or lower than this share of the picture is a few pixels: more likely a slip than a person.
SMALLEST_SIDE = 0.01
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One kind of problem.

    Attributes:
        name: what was looked for, e.g. ``"duplicate rows"``.
        count: how often it was found; 0 if it was not.
        detail: one line for people.
        examples: the first few places.
    """

    name: str
    count: int
    detail: str
    examples: tuple[str, ...] = ()


class AlikePair(NamedTuple):
    """Two clips that look alike, and the side of each; None where a clip is on no side."""

    first: str
    second: str
    sides: tuple[str | None, str | None]

    @property
    def across(self) -> bool:
        """Whether they are on two sides."""
        return None not in self.sides and self.sides[0] != self.sides[1]


@dataclass(frozen=True)
class Audit:
    """The result of :func:`audit`.

    Attributes:
        source: the data.
        split: the scheme and hash of the division that was examined; empty where the data is not divided.
        counts: how many clips, annotations, … there are.
        persons_per_clip: how many clips have one person, two, ….
        sides: clips, keyframes, boxes and labels of each side; without rows where the data is not divided.
        classes: a row per action id: name, group, and labels in all, per side and per domain.
        findings: what was looked for, found or not.
        alike: clips that look alike, those on two sides first.
    """

    source: str
    split: str
    counts: dict[str, int]
    persons_per_clip: dict[int, int]
    sides: pd.DataFrame
    classes: pd.DataFrame
    findings: tuple[Finding, ...]
    alike: tuple[AlikePair, ...] = ()

    @property
    def found_first(self) -> tuple[Finding, ...]:
        """All findings, those that found nothing last."""
        return tuple(sorted(self.findings, key=lambda finding: not finding.count))

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that found something."""
        return tuple(finding for finding in self.findings if finding.count)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "source": self.source,
            "split": self.split,
            "counts": self.counts,
            "persons_per_clip": self.persons_per_clip,
            "sides": self.sides.reset_index(names="side").to_dict("records"),
            "classes": self.classes.to_dict("records"),
            "findings": [vars(finding) for finding in self.findings],
            "alike": [pair._asdict() for pair in self.alike],
        }


def audit(
    tree: Tree,
    split: Split | None,
    *,
    source: str = "",
    frames: FrameStore | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Examine a data set.

    Args:
        tree: its tables, read with ``check_boxes=False`` so that impossible boxes can be counted.
        split: the division to examine, see :func:`split_of`; None where there is none.
        source: what to call the data.
        frames: its frames, if missing and near-identical clips are to be looked for.
        progress: a started bar, which shows how many clips have been looked at.
    """
    labels = tree.annotations if tree.actions is None else tree.actions
    pictures, alike = _pictures(tree, split, frames, progress)
    return Audit(
        source=source or str(tree.root),
        split=f"{split.scheme} ({split.hash})" if split else "",
        counts=_counts(tree, labels),
        persons_per_clip=_persons_per_clip(labels),
        sides=_sides(tree, split),
        classes=_classes(tree, split, labels),
        findings=(*_leaks(tree, split), *_faults(tree, labels), *_rare(tree, split), *pictures),
        alike=alike,
    )


def split_of(tree: Tree, options: TreeOptions, *, chosen: bool) -> Split | None:
    """The division to examine.

    Args:
        tree: the data set.
        options: what was asked for.
        chosen: whether a scheme was asked for. Without one, the data set's own division is taken as far as it goes.

    Returns:
        the division; None if no scheme was asked for and no file of the data set divides it.

    Raises:
        InputError: if the scheme that was asked for cannot be made.
    """
    if chosen or options.scheme != "published" or tree.published.notna().all():
        return tree.split(options)
    if tree.published.isna().all():
        return None
    clips = {side: tuple(sorted(tree.published.index[tree.published == side])) for side in SIDES}
    return Split("published", clips)


def _counts(tree: Tree, labels: pd.DataFrame) -> dict[str, int]:
    counts = {
        "clips": labels.video_id.nunique(),
        "source videos": tree.sources.nunique(),
        "annotations": len(labels),
        "boxes": len(tree.annotations.drop_duplicates([*KEYFRAME, *BOX])),
        "keyframes": len(tree.annotations.drop_duplicates(KEYFRAME)),
        "classes": labels.action_id.nunique(),
    }
    if tree.domains is not None:
        domain = labels.video_id.map(tree.domains)
        counts |= {f"annotations, {name}": int((domain == name).sum()) for name in ("real", "simulated")}
    return counts


def _persons_per_clip(labels: pd.DataFrame) -> dict[int, int]:
    persons = labels.groupby("video_id").person_id.nunique()
    clips = persons.value_counts().sort_index()
    return dict(zip(clips.index.tolist(), clips.tolist(), strict=True))


def _sides(tree: Tree, split: Split | None) -> pd.DataFrame:
    if split is None:
        return pd.DataFrame(columns=["clips", "keyframes", "boxes", "labels"])
    side = tree.annotations.video_id.map(split.sides)
    tables = {name: tree.annotations[side == name] for name in SIDES}
    return pd.DataFrame(
        {
            "clips": {name: table.video_id.nunique() for name, table in tables.items()},
            "keyframes": {name: len(table.drop_duplicates(KEYFRAME)) for name, table in tables.items()},
            "boxes": {name: len(table.drop_duplicates([*KEYFRAME, *BOX])) for name, table in tables.items()},
            "labels": {name: len(table) for name, table in tables.items()},
        }
    )


def _classes(tree: Tree, split: Split | None, labels: pd.DataFrame) -> pd.DataFrame:
    taxonomy = tree.taxonomy
    ids = pd.Index(taxonomy.ids, name="action_id")
    table = pd.DataFrame({"name": taxonomy.names, "group": taxonomy.groups}, index=ids)
    table["labels"] = labels.action_id.value_counts().reindex(ids, fill_value=0)
    columns: list[tuple[tuple[str, ...], pd.DataFrame, pd.Series]] = []
    if split is not None:
        columns.append((SIDES, tree.annotations, tree.annotations.video_id.map(split.sides)))
    if tree.domains is not None:
        columns.append((("real", "simulated"), labels, labels.video_id.map(tree.domains)))
    for names, rows, kind in columns:
        for name in names:
            table[name] = rows.action_id[kind == name].value_counts().reindex(ids, fill_value=0)
    return table.reset_index()


def _leaks(tree: Tree, split: Split | None) -> list[Finding]:
    if split is None:
        return []
    nowhere = tree.sources.index.difference(split.sides.index).tolist()
    found = [Finding("clips on no side", len(nowhere), "labelled, but in no part of the split", _few(nowhere))]
    for side in ("val", "test"):
        shared = split.shared_source_videos(side, tree.sources)
        detail = (
            f"{shared.clips} of {shared.of_clips} {side} clips come from {shared.source_videos} source videos that are "
            f"also in train"
        )
        found.append(Finding(f"{side} clips whose source video is in train", shared.clips, detail))
    return found


def _faults(tree: Tree, labels: pd.DataFrame) -> list[Finding]:
    boxes = tree.annotations[BOX].to_numpy()
    size = boxes[:, 2:] - boxes[:, :2]
    outside = ((boxes < 0) | (boxes > 1)).any(axis=1)
    empty = (size <= 0).any(axis=1)
    tiny = ~empty & (size < SMALLEST_SIDE).any(axis=1)
    doubled = labels[labels.duplicated()]
    without_box = _missing_from(labels, tree.annotations, ["video_id", "person_id"])
    without_any = _missing_from(labels, tree.annotations, ["video_id"])
    without_label = _missing_from(tree.annotations, labels, ["video_id", "person_id"])
    return [
        _rows("duplicate rows", doubled, "rows that repeat an earlier one"),
        _rows(
            "persons without a box",
            without_box.drop_duplicates(["video_id", "person_id"]),
            "labelled, but not to be found in the picture",
        ),
        _rows(
            "clips without a box",
            without_any.drop_duplicates("video_id"),
            "labelled, but no person of theirs has a box",
        ),
        _rows(
            "persons without a label",
            without_label.drop_duplicates(["video_id", "person_id"]),
            "boxed, but not labelled",
        ),
        _rows("boxes without area", tree.annotations[empty], "x1 < x2 and y1 < y2 are needed"),
        _rows("boxes outside the image", tree.annotations[outside], "coordinates are fractions in [0, 1]"),
        _rows("boxes of hardly any size", tree.annotations[tiny], f"a side below {SMALLEST_SIDE:.0%} of the picture"),
    ]


def _rare(tree: Tree, split: Split | None) -> list[Finding]:
    parts = {"the data": tree.annotations.action_id}
    if split is not None:
        side = tree.annotations.video_id.map(split.sides)
        parts = {name: tree.annotations.action_id[side == name] for name in SIDES}
    found = []
    for name, actions in parts.items():
        counts = actions.value_counts().reindex(tree.taxonomy.ids, fill_value=0)
        few = counts[(counts > 0) & (counts < FEW_EXAMPLES)]
        for what, ids in (("no example", counts.index[counts == 0]), (f"1 to {FEW_EXAMPLES - 1} examples", few.index)):
            examples = tuple(f"{number} {tree.taxonomy.label(number)}" for number in ids)
            detail = f"{len(ids)} of {len(tree.taxonomy)} classes"
            found.append(Finding(f"classes with {what} in {name}", len(ids), detail, examples))
    return found


def _pictures(
    tree: Tree, split: Split | None, frames: FrameStore | None, progress: Progress | None
) -> tuple[list[Finding], tuple[AlikePair, ...]]:
    """What only the frames can tell."""
    if frames is None:
        return [], ()
    clips = tree.sources.index.tolist()
    missing = frames.missing(clips)
    present = [clip for clip in clips if clip not in missing]
    walked = present if progress is None else tracked(present, progress, "looking at clips", len(present))
    pairs, unreadable = near_duplicates(frames, walked)
    sides = {} if split is None else split.sides.to_dict()
    alike = sorted((AlikePair(a, b, (sides.get(a), sides.get(b))) for a, b in pairs), key=lambda pair: not pair.across)
    across = [(pair.first, pair.second) for pair in alike if pair.across]
    found = [
        Finding("clips without frames", len(missing), f"{len(missing)} clips have no frames", _few(missing.values())),
        Finding("clips that cannot be read", len(unreadable), "a frame cannot be decoded", _few(unreadable.values())),
        Finding("near-identical clips", len(pairs), f"{len(pairs)} pairs look alike", _pairs(pairs)),
    ]
    if split is not None:
        detail = f"{len(across)} pairs look alike"
        found.append(Finding("near-identical clips on two sides", len(across), detail, _pairs(across)))
    return found, tuple(alike)


def group_table(classes: pd.DataFrame) -> pd.DataFrame:
    """Labels per group: all, per side, per domain."""
    numbers = classes.drop(columns=["action_id", "name"]).groupby("group", sort=False).sum()
    return numbers.rename(index=GROUP_NAMES)


def frames_of(tree: Tree, decode: str) -> FrameStore | None:
    """The frames of a tree, or None where it has only tables."""
    try:
        return tree.frames(decode)
    except InputError:
        return None


def _missing_from(table: pd.DataFrame, other: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    known = pd.MultiIndex.from_frame(other[columns])
    return table[~pd.MultiIndex.from_frame(table[columns]).isin(known)]


def _rows(name: str, rows: pd.DataFrame, detail: str) -> Finding:
    columns = [column for column in ("video_id", "person_id", "action_id") if column in rows]
    examples = rows[columns].head(EXAMPLES).astype(str).agg(" ".join, axis=1).tolist() if len(rows) else []
    return Finding(name, len(rows), detail, tuple(examples))


def _few(texts: Any) -> tuple[str, ...]:
    return tuple(list(texts)[:EXAMPLES])


def _pairs(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return _few(f"{a} = {b}" for a, b in pairs)
