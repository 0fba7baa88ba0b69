"""Opens the data of a SOURCE, ``name:path?key=value&key=value``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from microg_da.data import DATA
from microg_da.data.annotations import BOX, KEYFRAME
from microg_da.data.dataset import ClipDataset, Timing, multi_hot
from microg_da.data.dataset_files import DatasetFiles
from microg_da.data.frames import FrameStore
from microg_da.data.gravity import RolledVideos, RollPlan
from microg_da.data.masks import MASKS, MaskFiles
from microg_da.data.options import FileOptions, Request, Source, check_drawn, parse_options, parse_source
from microg_da.data.outside import check_call, reads_files
from microg_da.data.splits import Division
from microg_da.errors import InputError, unknown_name
from microg_da.taxonomy import AVA, Taxonomy, get_taxonomy, transfer
from microg_da.transforms.camera import RollDistribution
from microg_da.transforms.view import PUBLISHED_SCALE, CentreViews, RandomViews, WholeViews
from microg_da.types import SPLITS, Clip, ClipSource, Split
from microg_da.zoo import usual_test_side

_log = logging.getLogger(__name__)


def open_source(
    source: str,
    *,
    split: Split,
    taxonomy: Taxonomy | str,
    num_frames: int,
    sampling_rate: int,
    image_size: int,
    labelled: bool,
    train: bool,
    seed: int = 0,
    scale: Sequence[float] = PUBLISHED_SCALE,
    check_length: Callable[[int | None], None] | None = None,
    **options: Any,
) -> ClipSource[Clip]:
    """Open one split of a data source.

    Args:
        source: e.g. ``synthetic:earth``, ``microg4m:ROOT?footage=simulated``.
        split: ``train``, ``val`` or ``test``.
        taxonomy: the classes, in the order of the label columns.
        num_frames: T, frames in a window.
        sampling_rate: τ, the distance between them in frames.
        image_size: side of the square training crop, in pixels.
        labelled: whether clips have labels; otherwise labels are discarded.
        train: whether to use random views instead of whole frames.
        seed: seed of all random values.
        scale: range of the zoom of training views, for data from files; see
            :class:`~microg_da.transforms.view.RandomViews`.
        check_length: called with the number of frames of the shortest clip (None if unknown) before clips are rendered;
            may raise an error.
        options: options as after ``?``, which override them; see :class:`microg_da.data.options.FileOptions`.

    Returns:
        The clips: :class:`~microg_da.types.LabelledClip` with labels, else
        :class:`~microg_da.types.Clip`.

    Raises:
        InputError: if the source, an option or the data is wrong.
    """
    parsed = parse_source(source)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    request: Request = {
        "split": split,
        "taxonomy": get_taxonomy(taxonomy),
        "num_frames": num_frames,
        "sampling_rate": sampling_rate,
        "image_size": image_size,
        "labelled": labelled,
        "train": train,
    }
    chosen = {**options, **parsed.options}
    if opens_clips(parsed):
        if parsed.is_drawn:
            check_drawn(source, request["taxonomy"])
        open_split: Callable[..., ClipSource[Clip]] = DATA.load(parsed.kind)
        named = {**request, "check_length": check_length, "seed": seed, **chosen}
        check_call(str(parsed), open_split, parsed.path, **named)
        return open_split(parsed.path, **named)
    dataset = open_files(parsed, **request, seed=seed, scale=scale, options=chosen)
    if check_length is not None:
        check_length(dataset.shortest_clip())
    return dataset


def open_dataset(
    source: str,
    split: Split = "test",
    *,
    taxonomy: Taxonomy | str = "microg50",
    num_frames: int = 8,
    sampling_rate: int = 2,
    image_size: int = 96,
    labelled: bool = False,
    train: bool = False,
    seed: int = 0,
    **options: Any,
) -> ClipSource[Clip]:
    """Open one split of a data source; the default window and size are those of the small networks.

    Example:
        >>> from microg_da import open_dataset
        >>> clips = open_dataset("synthetic:microgravity?num_clips=2&workers=0", image_size=48)
        >>> clip = clips[0]
        >>> clip.frames.shape, len(clip.boxes) == len(clip.people)
        (torch.Size([3, 8, 48, 48]), True)
        >>> sorted(clips.annotations().columns)[:3]
        ['action_id', 'frame_stamp', 'person_id']

    Args:
        source: e.g. ``synthetic:earth``, ``microg4m:ROOT?footage=simulated``, ``package.module:function:PATH``.
        split: ``train``, ``val`` or ``test``.
        taxonomy: the classes, in the order of the label columns.
        num_frames: T, frames in a window.
        sampling_rate: τ, the distance between them in frames.
        image_size: side of the square training crop, in pixels.
        labelled: whether clips have labels.
        train: whether to use random views instead of whole frames.
        seed: seed of all random values.
        options: as after ``?``.

    Returns:
        A data set for torch's ``DataLoader`` (``collate_fn`` is :func:`microg_da.data.batches.collate_clips`), with its
        annotation table.

    Raises:
        InputError: if the source, an option or the data is wrong.
    """
    return open_source(
        source,
        split=split,
        taxonomy=taxonomy,
        num_frames=num_frames,
        sampling_rate=sampling_rate,
        image_size=image_size,
        labelled=labelled,
        train=train,
        seed=seed,
        **options,
    )


def opens_clips(source: Source) -> bool:
    """Return whether the opener of a source returns clips, and not the tables of a folder."""
    return source.is_drawn or (source.is_outside and not reads_files(DATA.load(source.kind)))


def read_dataset_files(
    source: str | Source, options: dict[str, object] | None = None, *, check_boxes: bool = True
) -> tuple[DatasetFiles, FileOptions]:
    """Return the tables of a source that is read from files.

    Args:
        source: e.g. ``microg4m:ROOT``.
        options: options as after ``?``, which override them.
        check_boxes: False to accept invalid boxes, for an audit.

    Raises:
        InputError: if the source is not read from files, its folder does not exist, or the data is invalid.
    """
    parsed = parse_source(source) if isinstance(source, str) else source
    if parsed.is_drawn:
        raise InputError(f"{parsed}: synthetic data has no files; give a SOURCE such as ava:PATH or microg4m:PATH")
    if opens_clips(parsed):
        raise InputError(f"{parsed}: its function opens clips and has no tables. Give a SOURCE with tables.")
    chosen = parse_options({**(options or {}), **parsed.options}, where=str(parsed), kind=parsed.kind)
    root = Path(parsed.path).expanduser()
    if not root.is_dir():
        raise InputError(f"{parsed}: folder {root} not found")
    read: Callable[..., DatasetFiles] = DATA.load(parsed.kind)
    check_call(str(parsed), read, root, chosen, check_boxes=check_boxes)
    return read(root, chosen, check_boxes=check_boxes), chosen


def open_files(
    source: Source,
    *,
    split: Split,
    taxonomy: Taxonomy,
    num_frames: int,
    sampling_rate: int,
    image_size: int,
    labelled: bool,
    train: bool,
    seed: int,
    scale: Sequence[float],
    options: dict[str, object],
) -> ClipDataset:
    """Clips read from files; see :func:`open_source`."""
    files, chosen = read_dataset_files(source, options)
    _check_numbering(files.taxonomy, taxonomy, source)
    division = files.split(chosen)
    annotations = _select(files, division, split, chosen, source)
    people, labels = _people(files, annotations, split, chosen, taxonomy, labelled=labelled)
    frames = files.frames(chosen.decode)
    left_out = _check_frames(frames.missing(sorted(set(people.video_id))), chosen, source)
    timing = Timing(files.stamp, files.start, chosen.fps or files.fps, late=chosen.window == "published")
    readable = ~people.video_id.isin(left_out).to_numpy()
    people, labels = people[readable], None if labels is None else labels[readable]
    if people.empty:
        raise InputError(f"{source}: no clip of the {split} split can be read: {next(iter(left_out.values()))}")
    ground_truth = annotations[annotations.action_id.isin(taxonomy.ids) & ~annotations.video_id.isin(left_out)]
    if chosen.gravity == "rolled":
        rolled = _roll(files, frames, annotations, timing, chosen)
        frames, people, ground_truth = rolled, rolled.turn(people), rolled.turn(ground_truth)
    whole = WholeViews(chosen.test_side or usual_test_side(image_size))
    return ClipDataset(
        people,
        labels,
        frames=frames,
        timing=timing,
        num_frames=num_frames,
        sampling_rate=sampling_rate,
        views=_views(chosen, whole, split, image_size, scale, train=train),
        test_views=whole,
        seed=seed,
        skip=chosen.on_error == "skip",
        ground_truth=ground_truth.reset_index(drop=True),
        description=_describe(source, split, division, people),
        warnings=_warnings(files, division, taxonomy),
        split_hash=division.hash,
        left_out=left_out,
    )


def _check_numbering(own: Taxonomy, asked: Taxonomy, source: Source) -> None:
    """Check that the ids have the same meaning in the classes of the run.

    A label map may repeat the classes of another numbering, so that equal names are sufficient.
    """
    shared = [action_id for action_id in asked.ids if action_id in own]
    same = shared and all(own.label(action_id) == asked.label(action_id) for action_id in shared)
    if own.numbering == asked.numbering or (same and AVA in (own.numbering, asked.numbering)):
        return
    ours, theirs = (sorted(set(one.names) - set(other.names)) for one, other in ((own, asked), (asked, own)))
    only = [
        f"{', '.join(names[:5])} in {who} alone" for names, who in ((ours, "the data"), (theirs, asked.name)) if names
    ]
    raise InputError(
        f"{source}: its action ids are those of taxonomy {own.name}, which are not those of {asked.name} "
        f"({'; '.join(only) or 'the same names in another order'}). Both domains of a run need the same classes: set "
        f"data.taxonomy={own.name}, or write the same classes.txt into folders of clips."
    )


def _views(
    options: FileOptions, whole: WholeViews, split: Split, image_size: int, scale: Sequence[float], *, train: bool
) -> RandomViews | WholeViews | CentreViews:
    """Return the views of the frames of a split."""
    if train:
        smallest, largest = scale
        keeps = options.outside == "keep"
        return RandomViews(image_size, options.min_side, options.max_side, (smallest, largest), keeps_everybody=keeps)
    if split == "val" and options.val_view == "centre":
        return CentreViews(whole.short_side)
    return whole


def _select(
    files: DatasetFiles, division: Division, split: Split, options: FileOptions, source: Source
) -> pd.DataFrame:
    """The annotations of one split and footage."""
    chosen = files.annotations[files.annotations.video_id.isin(division.clips[split])]
    if options.footage != "all":
        if files.footage is None:
            raise InputError(f"{source}: footage={options.footage}, but this data does not define which clips are real")
        chosen = chosen[chosen.video_id.map(files.footage) == options.footage]
    if chosen.empty:
        footage = "" if options.footage == "all" else f" with footage={options.footage}"
        raise InputError(
            f"{source}: the {split} split of scheme {division.scheme!r} has no clips{footage}. Choose another."
        )
    return chosen.reset_index(drop=True)


def _people(
    files: DatasetFiles,
    annotations: pd.DataFrame,
    split: Split,
    options: FileOptions,
    taxonomy: Taxonomy,
    *,
    labelled: bool,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Return the boxes of clips, and their labels if requested."""
    if options.boxes == "detected" and files.read_detected is not None:
        if labelled:
            raise InputError(
                "boxes=detected: detected boxes have no labels, so that a model cannot be trained on them as a "
                "labelled source. Use boxes=ground-truth there."
            )
        found = files.read_detected()
        found = found[(found.score >= options.score_threshold) & found.video_id.isin(annotations.video_id)]
        if found.empty:
            raise InputError(f"boxes=detected: no box of the {split} split scores {options.score_threshold:g} or more")
        return found[[*KEYFRAME, *BOX]].drop_duplicates().reset_index(drop=True), None
    people, labels = multi_hot(annotations, taxonomy)
    if not labels.any():
        raise InputError(f"no label of the {split} split is in taxonomy {taxonomy.name!r}. Check data.taxonomy.")
    return people, labels if labelled else None


def _roll(
    files: DatasetFiles, frames: FrameStore, annotations: pd.DataFrame, timing: Timing, options: FileOptions
) -> RolledVideos:
    """Return the videos of a split from rolled cameras."""
    plan = RollPlan(RollDistribution.parse(options.gravity_rolls, "gravity_rolls"), options.gravity_seed)
    masks = MaskFiles(files.root / MASKS) if (files.root / MASKS).is_dir() else None
    return RolledVideos(frames, annotations, replace(timing, late=False), plan, masks)


def _check_frames(missing: dict[str, str], options: FileOptions, source: Source) -> dict[str, str]:
    if missing and options.on_error == "raise":
        first = next(iter(missing.values()))
        raise InputError(f"{first} ({len(missing)} videos of {source} are missing; on_error=skip ignores them)")
    return missing


def _describe(source: Source, split: Split, division: Division, people: pd.DataFrame) -> str:
    keyframes = people[KEYFRAME].drop_duplicates()
    return (
        f"{source}, {split} of scheme {division.scheme} ({division.hash}): {keyframes.video_id.nunique():,} videos, "
        f"{len(keyframes):,} keyframes, {len(people):,} boxes"
    )


def _warnings(files: DatasetFiles, division: Division, taxonomy: Taxonomy) -> tuple[str, ...]:
    lines = [*files.notes]
    if leak := division.leak_warning(files.sources):
        lines.append(leak)
        if leak not in _warned:
            _warned.add(leak)
            _log.warning(leak)
    changed = transfer(files.taxonomy, taxonomy).changed
    if changed:
        lines.append(
            f"action ids {', '.join(map(str, changed))} have other meanings in the data than in {taxonomy.name}"
        )
    return tuple(lines)


# Several data sets share one split; the warning is shown once.
_warned: set[str] = set()
