"""Division of clips into train, val and test: as published, or by source video.

MicroG-4M's published 7:1:2 split shuffles clips, so that every test clip has neighbours from the same source
video in train. The ``by-source`` schemes keep each source video in one split, and distribute classes and footage as
evenly as possible (see :func:`stratify_groups`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from microg_da.data import SCHEMES
from microg_da.data.annotations import source_videos
from microg_da.data.stratify import stratify_groups
from microg_da.errors import InputError
from microg_da.files import write_json
from microg_da.types import SPLITS, Split

FRACTIONS = (0.7, 0.1, 0.2)
EVALUATED: tuple[Split, ...] = ("val", "test")


@dataclass(frozen=True)
class Division:
    """A division of clips into train, val and test.

    Attributes:
        scheme: the name of the scheme that made it.
        clips: for each split its clips' ``video_id``, sorted.
        settings: the arguments of the scheme: ``seed``, ``fold``, …
    """

    scheme: str
    clips: dict[Split, tuple[str, ...]]
    settings: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        splits = pd.Series([split for split in SPLITS for _ in self.clips[split]], dtype=object)
        ids = pd.Series([clip for split in SPLITS for clip in self.clips[split]], dtype=object)
        twice = ids[ids.duplicated()]
        if len(twice):
            both = ", ".join(splits[ids == twice.iloc[0]])
            raise InputError(
                f"scheme {self.scheme!r}: {twice.nunique()} clips are in more than one split, e.g. {twice.iloc[0]} in "
                f"{both}. Remove each clip from one of the lists."
            )

    @property
    def hash(self) -> str:
        """A hash of twelve hexadecimal digits that depends only on the clips of each split."""
        text = json.dumps({split: list(self.clips[split]) for split in SPLITS}, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def splits(self) -> pd.Series:
        """The split of every clip, indexed by ``video_id``."""
        pairs = {clip: split for split in SPLITS for clip in self.clips[split]}
        return pd.Series(pairs, name="split", dtype=object)

    def shared_source_videos(self, evaluated: Split, sources: pd.Series) -> Shared:
        """Overlap of the split ``evaluated`` with train.

        Args:
            evaluated: ``"val"`` or ``"test"``.
            sources: the source video of each ``video_id``.
        """
        train = set(sources.reindex(self.clips["train"]).dropna())
        clips = sources.reindex(self.clips[evaluated]).dropna()
        known = clips[clips.isin(train)]
        return Shared(evaluated, known.nunique(), clips.nunique(), len(known), len(clips))

    def leak_warning(self, sources: pd.Series) -> str | None:
        """Return one line if an evaluated split shares source videos with train, else None."""
        shared = [self.shared_source_videos(split, sources) for split in EVALUATED]
        leaks = [str(each) for each in shared if each.clips]
        if not leaks:
            return None
        return f"split {self.scheme!r} shares source videos with train: {'; '.join(leaks)}"


@dataclass(frozen=True)
class Shared:
    """The part of an evaluated split whose source videos are also in train."""

    split: Split
    source_videos: int
    of_source_videos: int
    clips: int
    of_clips: int

    def __str__(self) -> str:
        return (
            f"{self.split} {self.clips} of {self.of_clips} clips "
            f"({self.source_videos} of {self.of_source_videos} source videos)"
        )


def make_split(
    scheme: str,
    annotations: pd.DataFrame,
    *,
    sources: pd.Series | None = None,
    footage: pd.Series | None = None,
    published: pd.Series | None = None,
    seed: int = 0,
    folds: int = 5,
    fold: str | int | None = None,
) -> Division:
    """Divide the clips of an annotation table.

    Args:
        scheme: one of :data:`microg_da.data.SCHEMES`, or ``package.module:function``.
        annotations: one row per label, with ``video_id`` and ``action_id``.
        sources: the source video of each ``video_id``; None for the text before its last ``_``.
        footage: ``"real"`` or ``"simulated"`` for each ``video_id``; distributed evenly if given.
        published: the split of each ``video_id`` in the data set's own files.
        seed: seed of the stratification, which breaks ties.
        folds: number of folds of ``by-source-kfold``.
        fold: the test fold (an index from 0), or the test film of ``leave-one-film-out``.

    Raises:
        InputError: if the data lacks what the scheme needs.
    """
    make = SCHEMES.load(scheme)
    clips = _clip_table(annotations, sources, footage, published)
    division = make(clips=clips, annotations=annotations, seed=seed, folds=folds, fold=fold)
    if not isinstance(division, Division):
        raise InputError(f"split scheme {scheme!r}: expected a Division, its function returned {division!r}.")
    return division


def published(clips: pd.DataFrame, **_: object) -> Division:
    """The data set's own division."""
    if clips.published.isna().any():
        missing = clips.index[clips.published.isna()]
        raise InputError(
            f"scheme published: {len(missing)} clips are in no split file of the data set, e.g. {missing[0]}. "
            f"Use scheme by-source, or add them to a file under annotations/."
        )
    return _divide("published", clips.published, {})


def by_source(clips: pd.DataFrame, annotations: pd.DataFrame, *, seed: int, **_: object) -> Division:
    """Divide clips in proportion 70 : 10 : 20 without dividing source videos."""
    parts = _stratify(clips, annotations, FRACTIONS, seed)
    return _divide("by-source", parts.map(dict(enumerate(SPLITS))), {"seed": seed})


def by_source_kfold(
    clips: pd.DataFrame, annotations: pd.DataFrame, *, seed: int, folds: int, fold: str | int | None
) -> Division:
    """Use fold ``fold`` of ``folds`` for test, the next for val and the others for train."""
    test = fold_number(fold, folds)
    parts = _stratify(clips, annotations, [1 / folds] * folds, seed)
    names = dict.fromkeys(range(folds), "train") | {(test + 1) % folds: "val", test: "test"}
    return _divide("by-source-kfold", parts.map(names), {"seed": seed, "folds": folds, "fold": test})


def leave_one_film_out(
    clips: pd.DataFrame, annotations: pd.DataFrame, *, seed: int, fold: str | int | None, **_: object
) -> Division:
    """Use film ``fold`` for test and the others for train, of which an eighth of the clips is val."""
    films = sorted(set(clips.source_video[clips.footage == "simulated"]))
    if not films:
        raise InputError("scheme leave-one-film-out: this data set has no clip that is known to be simulated")
    if fold not in films:
        raise InputError(f"scheme leave-one-film-out: fold={fold!r} is invalid: expected a film, one of {films}")
    rest = clips[clips.source_video != fold]
    parts = _stratify(rest, annotations, [7 / 8, 1 / 8], seed)
    splits = parts.map({0: "train", 1: "val"}).reindex(clips.index, fill_value="test")
    return _divide("leave-one-film-out", splits, {"seed": seed, "fold": fold})


def write_split(division: Division, path: str | Path) -> Path:
    """Write a division as JSON with its hash, one clip per line."""
    value: dict[str, object] = {
        "scheme": division.scheme,
        "settings": division.settings,
        "hash": division.hash,
        **{split: list(division.clips[split]) for split in SPLITS},
    }
    return write_json(path, value)


def read_split(path: str | Path) -> Division:
    """Read a split file.

    Raises:
        InputError: if it is not a split file, a clip is in two splits, or the file was edited.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        clips = {split: tuple(sorted(map(str, value[split]))) for split in SPLITS}
        division = Division(str(value["scheme"]), clips, dict(value["settings"]))
        recorded = value["hash"]
    except OSError as error:
        raise InputError(f"{path}: cannot read the split file: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: not a split file ({error!r}). `python -m microg_da split` writes one: JSON with "
            f"scheme, settings, hash and the lists train, val, test."
        ) from error
    if recorded != division.hash:
        raise InputError(
            f"{path}: its clips have hash {division.hash}, but the file says {recorded}: it was changed after "
            f"it was made. Make it again with `python -m microg_da split`, or correct the hash if the change was meant."
        )
    return division


def _divide(scheme: str, splits: pd.Series, settings: dict[str, object]) -> Division:
    clips = {split: tuple(sorted(splits.index[splits == split])) for split in SPLITS}
    return Division(scheme, clips, settings)


def hold_out(annotations: pd.DataFrame, seed: int = 0, sources: pd.Series | None = None) -> tuple[str, ...]:
    """Return a stratified eighth of the videos, for validation if a data set has no val split.

    Args:
        annotations: one row per label.
        seed: seed of the stratification.
        sources: the source video of each ``video_id``, which is not divided; None for uncut videos.
    """
    videos = pd.Index(annotations.video_id.unique())
    clips = _clip_table(annotations, sources=videos.to_series() if sources is None else sources)
    parts = _stratify(clips, annotations, [7 / 8, 1 / 8], seed)
    return tuple(sorted(parts.index[parts == 1]))


def _clip_table(
    annotations: pd.DataFrame,
    sources: pd.Series | None = None,
    footage: pd.Series | None = None,
    published: pd.Series | None = None,
) -> pd.DataFrame:
    """Return one row per clip: ``source_video``, ``footage`` and ``published`` split, if known."""
    ids = pd.Index(np.sort(annotations.video_id.astype(object).unique()), name="video_id")
    if ids.empty:
        raise InputError("no clips to split: the annotation table is empty")
    return pd.DataFrame(
        {
            "source_video": source_videos(ids.to_series()) if sources is None else sources.reindex(ids),
            "footage": None if footage is None else footage.reindex(ids),
            "published": None if published is None else published.reindex(ids),
        },
        index=ids,
    )


def _stratify(clips: pd.DataFrame, annotations: pd.DataFrame, fractions: Sequence[float], seed: int) -> pd.Series:
    """The part (an index into ``fractions``) of every clip."""
    groups, names = pd.factorize(clips.source_video, sort=True)
    if len(names) < len(fractions):
        raise InputError(
            f"{len(names)} source videos cannot be put into {len(fractions)} parts without dividing one. "
            f"Use scheme published, fewer folds, or more source videos."
        )
    labels = annotations.drop_duplicates(["video_id", "person_id", "action_id"])
    labels = labels[labels.video_id.isin(clips.index)]
    per_class = _counts(groups[clips.index.get_indexer(pd.Index(labels.video_id))], labels.action_id, len(names))
    per_footage = _counts(groups, clips.footage.fillna("unknown"), len(names))
    size = np.bincount(groups, minlength=len(names))[:, None]
    part_of_group = stratify_groups([size, per_footage, per_class], fractions, seed=seed)
    return pd.Series(part_of_group[groups], index=clips.index)


def _counts(groups: np.ndarray, values: pd.Series, num_groups: int) -> np.ndarray:
    codes, kinds = pd.factorize(values, sort=True)
    table = np.zeros((num_groups, len(kinds)))
    np.add.at(table, (groups, codes), 1)
    return table


def fold_number(fold: str | int | None, folds: int) -> int:
    """Return the number of the test fold; the first by default.

    Raises:
        InputError: if there are too few folds, or the fold does not exist.
    """
    if folds < 3:
        raise InputError(f"folds={folds}: by-source-kfold needs at least 3 folds: for test, val and train")
    try:
        number = int(0 if fold is None else fold)
    except ValueError:
        number = -1
    if not 0 <= number < folds:
        raise InputError(f"fold={fold!r}: expected a whole number from 0 to {folds - 1}")
    return number
