"""Creation of a weightless data set by several processes, with support for interrupted runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from joblib import Parallel, delayed

from microg_da.data.dataset import Timing
from microg_da.data.dataset_files import DatasetFiles
from microg_da.data.masks import MASKS, MaskFiles
from microg_da.data.options import FileOptions
from microg_da.data.sources import read_dataset_files
from microg_da.data.splits import Division
from microg_da.errors import InputError
from microg_da.terminal import message_console, progress_bar
from microg_da.weightless.backgrounds import find_pictures
from microg_da.weightless.clips import make_rolled
from microg_da.weightless.contact_sheet import write_contact_sheet
from microg_da.weightless.floating import Guest, choose_guests, make_floating
from microg_da.weightless.folder import Folder
from microg_da.weightless.footage import Footage
from microg_da.weightless.plan import ClipPlan, group_by_split, plan_clips
from microg_da.weightless.request import Request, short_hash
from microg_da.weightless.segmenter import open_segmenter


@dataclass(frozen=True)
class Summary:
    """Result of making a data set.

    Attributes:
        made: number of clips made by this call.
        present: number of clips that already existed.
        people: number of labelled people in all clips.
        skipped: unreadable videos or clips, which are not in the tables, with the reason.
        contact_sheet: a picture of some of the clips.
        division: the split of the clips.
    """

    made: int
    present: int
    people: int
    skipped: dict[str, str]
    contact_sheet: Path
    division: Division


@dataclass(frozen=True)
class _Studio:
    """The inputs with which any process can make a clip."""

    footage: Footage
    pictures: tuple[str, ...]
    request: Request
    folder: Folder
    skip: bool

    def make(self, plan: ClipPlan, guests: Sequence[Guest]) -> tuple[str, str | None]:
        """Make and write a clip; return its name, and the reason if the clip is skipped."""
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        try:
            if self.request.mode == "rolled":
                made = make_rolled(plan, self.footage, self.request)
            else:
                made = make_floating(plan, guests, self.footage, self.pictures, self.request)
            self.folder.write_clip(plan, made, self.request.format)
        except InputError as error:
            if not self.skip:
                raise
            return plan.name, str(error)
        return plan.name, None


def make_data_set(
    source: str, out: str | Path, request: Request, *, workers: int | None = None, progress: bool = True
) -> Summary:
    """Make a weightless data set from a data set that was filmed on Earth.

    All inputs are checked before the first file is written. An interrupted call can be repeated to make the missing
    clips. The result does not depend on the number of workers.

    Args:
        source: a SOURCE with files, e.g. ``jhmdb:ROOT``.
        out: the folder to create or to complete.
        request: the options of the data set.
        workers: number of processes; None for the number of cores.
        progress: show a progress bar on standard error.

    Raises:
        InputError: if the source, an option or the folder is invalid, or a video cannot be read and the SOURCE does not
            set ``on_error=skip``.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}: expected 1 or more")
    files, options = read_dataset_files(source)
    _check_source(source, files, options)
    skip = options.on_error == "skip"
    division = files.split(options)
    footage = _footage(files, options, request)
    pictures = find_pictures(request.backgrounds) if request.backgrounds is not None else ()
    timing = Timing(files.stamp, files.start, options.fps or files.fps)
    plans, skipped = plan_clips(files, division, footage.frames, timing, request.max_frames, skip)
    plans = _with_masks(plans, footage, skipped, skip)
    folder = Folder(Path(out))
    folder.begin(_record(source, files, division, request))
    studio = _Studio(footage, pictures, request, folder, skip)
    todo = [plan for plan in plans if not folder.has_clip(plan.name)]
    for name, problem in _make_all(studio, todo, plans, workers or os.cpu_count() or 1, progress):
        if problem is not None:
            skipped[name] = problem
    there = [plan for plan in plans if plan.name not in skipped]
    if not there:
        raise InputError(f"{source}: no clip can be made. First error: {next(iter(skipped.values()))}")
    made_division, people = folder.finish(there, files.taxonomy, skipped)
    sheet = write_contact_sheet(folder, there, files.taxonomy)
    made = len([plan for plan in todo if plan.name not in skipped])
    return Summary(made, len(there) - made, people, skipped, sheet, made_division)


def _check_source(source: str, files: DatasetFiles, options: FileOptions) -> None:
    if options.gravity != "as-filmed":
        raise InputError(f"{source}: gravity={options.gravity} is not compatible with this command. Remove the option")
    if options.boxes == "detected" and files.read_detected is not None:
        raise InputError(f"{source}: boxes={options.boxes} has no labels. Use boxes=ground-truth")


def _footage(files: DatasetFiles, options: FileOptions, request: Request) -> Footage:
    own = files.root / MASKS
    given = request.masks or (own if own.is_dir() and request.segmenter is None else None)
    if request.segmenter is not None:
        open_segmenter(str(request.segmenter))
    footage = Footage(
        files.frames(options.decode), None if given is None else MaskFiles(given), request.segmenter, request.short_side
    )
    if request.mode == "floating" and not footage.knows_people:
        raise InputError(
            f"{files.root}: mode floating needs masks of people, but the data set has no folder masks/. "
            f"Give --masks DIR with <video_id>.npz in it, or --segmenter ONNX."
        )
    return footage


def _with_masks(plans: list[ClipPlan], footage: Footage, skipped: dict[str, str], skip: bool) -> list[ClipPlan]:
    """Return the clips whose videos have masks, if masks are used; add the other clips to ``skipped``."""
    if footage.masks is None:
        return plans
    missing = footage.masks.missing(sorted({plan.video_id for plan in plans}))
    if missing and not skip:
        raise InputError(
            f"{next(iter(missing.values()))} ({len(missing)} videos have no masks; add on_error=skip to the SOURCE to "
            f"skip these videos)"
        )
    skipped |= missing
    left = [plan for plan in plans if plan.video_id not in missing]
    if not left:
        raise InputError(
            f"{footage.masks.root}: the folder has no masks of the videos. First error: {next(iter(missing.values()))}"
        )
    return left


def _record(source: str, files: DatasetFiles, division: Division, request: Request) -> dict[str, object]:
    """Return the values that determine the data set."""
    table = files.annotations.sort_values(list(files.annotations.columns)).to_csv(index=False)
    return {
        "source": source,
        "annotations_hash": short_hash(table),
        "split": {"scheme": division.scheme, "hash": division.hash},
        "taxonomy": files.taxonomy.name,
        "options": request.record(),
    }


def _make_all(
    studio: _Studio, todo: Sequence[ClipPlan], plans: Sequence[ClipPlan], workers: int, progress: bool
) -> Iterator[tuple[str, str | None]]:
    console = message_console()
    console.quiet = not progress
    by_split = group_by_split(plans)
    jobs = [(plan, _guests(studio.request, plan, by_split[plan.split])) for plan in todo]
    with progress_bar(console) as bar:
        task = bar.add_task(f"make {studio.request.mode} clips", total=len(jobs))
        if workers == 1 or len(jobs) < 2:
            results: Iterator[tuple[str, str | None]] = (studio.make(plan, guests) for plan, guests in jobs)
        else:
            # joblib starts new processes, because a fork would copy the locks of torch's and OpenCV's threads.
            pool = Parallel(n_jobs=min(workers, len(jobs)), return_as="generator_unordered", max_nbytes=None)
            results = pool(delayed(studio.make)(plan, guests) for plan, guests in jobs)
        for result in results:
            bar.advance(task)
            yield result


def _guests(request: Request, plan: ClipPlan, others: Sequence[ClipPlan]) -> list[Guest]:
    return choose_guests(plan, others, request) if request.mode == "floating" else []
