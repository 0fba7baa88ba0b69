"""Checks of a data SOURCE before it is opened: its form, its options, its folder."""

from __future__ import annotations

from pathlib import Path

from microg_da.config import Config
from microg_da.data import SCHEMES
from microg_da.data.options import Source, parse_options, parse_source
from microg_da.errors import InputError, unknown_name
from microg_da.taxonomy import get_taxonomy
from microg_da.types import Domain

_FRAME_FOLDERS = {"frames": ("frames",), "video": ("videos",), "auto": ("frames", "videos")}


def check_source(domain: Domain | None, text: str, config: Config, labelled: bool) -> None:
    """Check the form, the options and the folder of a SOURCE.

    Args:
        domain: its domain; None for ``adaptation.extra_source``.
        text: the SOURCE.
        config: contains default options, which options in the SOURCE override.
        labelled: whether the run trains on its labels.
    """
    source = parse_source(text)
    if source.is_drawn:
        _check_synthetic(source.path, source.options, config)
    else:
        _check_files(text, source, {**config.file_options(domain), **source.options}, labelled)


def _check_synthetic(domain: str, options: dict[str, str], config: Config) -> None:
    from microg_da.data.options import check_drawn
    from microg_da.data.windows import window_problem
    from microg_da.synthetic.source import plan_split
    from microg_da.synthetic.spec import CLIP_FRAMES, SCENES, SMALLEST_SIZE

    check_drawn(f"synthetic:{domain}", get_taxonomy(config.data.taxonomy))
    size = config.data.image_size
    if size < SMALLEST_SIZE:
        raise InputError(f"data.image_size={size} is too small for synthetic clips: expected {SMALLEST_SIZE} or more.")
    model = config.model
    for split in SCENES:
        spec, _ = plan_split(
            domain,
            split=split,
            num_frames=model.num_frames,
            sampling_rate=model.sampling_rate,
            image_size=size,
            **{**config.synthetic.options(split), **options},
        )
        if not spec.num_clips:
            raise InputError(f"synthetic:{domain}: num_clips={spec.num_clips}: expected at least 1.")
    window_problem(model, f"synthetic:{domain}", CLIP_FRAMES)


def _check_files(text: str, source: Source, options: dict[str, object], labelled: bool) -> None:
    if source.is_outside:
        from microg_da.data.sources import opens_clips

        if opens_clips(source):  # only its function defines its options
            return
    chosen = parse_options(options, where=text, kind=source.kind)
    root = Path(source.path).expanduser()
    if not root.is_dir():
        raise InputError(f"{text}: folder {root} not found. Give the folder of the data set.")
    if chosen.scheme != "auto" and not SCHEMES.knows(chosen.scheme) and not Path(chosen.scheme).is_file():
        raise unknown_name("split scheme or split file", chosen.scheme, SCHEMES, text)
    if chosen.scheme == "by-source-kfold":
        from microg_da.data.splits import fold_number

        fold_number(chosen.fold, chosen.folds)
    reads_frames = source.kind != "folder" and not source.is_outside
    if reads_frames and not any((root / folder).is_dir() for folder in _FRAME_FOLDERS[chosen.decode]):
        needed = " or ".join(f"{folder}/" for folder in _FRAME_FOLDERS[chosen.decode])
        raise InputError(f"{text}: {root} has no folder {needed}, which decode={chosen.decode} reads.")
    if labelled and chosen.boxes == "detected" and source.kind != "folder":
        raise InputError(
            f"{text}: boxes=detected has no labels, and this run trains on labels of this data. Use boxes=ground-truth."
        )
