"""Computation of the feature maps that a run needs in its feature store."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from microg_da.config import AugmentConfig, Config
from microg_da.data.batches import SameSizeBatches, collate_clips
from microg_da.data.feature_store import (
    ClipRecord,
    EntryWriter,
    StoredEntry,
    free_bytes,
    open_entry,
    writing,
)
from microg_da.data.stored_clips import StorableClips, StoredClips, StoredViews, storable
from microg_da.errors import InputError
from microg_da.inference.encoding import Encoder, encoder_hash, seen_under
from microg_da.models.detector import ActionDetector
from microg_da.terminal import progress_bar
from microg_da.transforms.augmentation import augment_training_batch
from microg_da.transforms.stored_frames import AS_FILMED, StoredView
from microg_da.types import Clip, ClipBatch, ClipKey, ClipSource, Domain, Split

GIB = 2**30


@dataclass(frozen=True)
class Shown:
    """The clips of a data set with one draw of augmentation, before views roll or mirror them.

    Attributes:
        clips: the data set.
        content: the fingerprint of the data set.
        about: description of the clips.
        augment: the augmentation of training clips; None for clips without augmentation, as in tests.
        draw: index among several augmentations of the same clips.
    """

    clips: StorableClips
    content: str
    about: str
    augment: AugmentConfig | None = None
    draw: int = 0

    @cached_property
    def fingerprint(self) -> str:
        """A hash that identifies the pixels and boxes."""
        text = f"{self.content} {self.augment} {self.draw}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def keys(self) -> tuple[ClipKey, ...]:
        """The keyframes, in order."""
        return tuple(self.clips.keys)

    def source(self) -> ClipSource[Clip]:
        """The clips to read."""
        return self.clips if self.augment is None else self.clips.training_draw(self.draw)

    def augmented(self, batch: ClipBatch) -> ClipBatch:
        """Return the augmented batch. Random values depend only on the clips and on the draw."""
        if self.augment is None:
            return batch
        seed = zlib.crc32(repr((self.draw, batch.keys)).encode())
        return augment_training_batch(batch, self.augment, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Wanted:
    """Maps that a run reads.

    Attributes:
        shown: the clips.
        views: the views of the clips, including the original clips.
    """

    shown: Shown
    views: frozenset[StoredView]


class FeatureMaps:
    """The feature maps of a run's clips, read from a store and added to it; see ``data.feature_store``.

    Args:
        detector: the detector with the encoder of the run.
        config: the configuration of the run.
        console: the console for messages.

    Attributes:
        looked_at: the views of training clips without augmentation that methods read. Other views are encoded when they
            are read.
    """

    def __init__(self, detector: ActionDetector, config: Config, console: Console) -> None:
        assert config.data.feature_store is not None
        self.config = config
        self.console = console
        self.encoder = Encoder(detector.backbone, config)
        self.folder = Path(config.data.feature_store).expanduser() / self.encoder.name
        self.looked_at: frozenset[StoredView] = frozenset()
        self._wanted: dict[str, list[Wanted]] = {}
        self._opened: dict[str, list[StoredViews]] = {}

    def check(self, detector: ActionDetector) -> None:
        """Check that the encoder of a detector is the encoder of the stored maps.

        Raises:
            InputError: if the weights differ.
        """
        if not self.encoder.name.endswith(encoder_hash(detector.backbone, self.config)):
            raise InputError(
                "data.feature_store: the encoder of this stage differs from that of the stored feature maps. Set "
                "data.feature_store=null for a run whose stages have different encoders."
            )

    # ------------------------------------------------------------------------------------------------ data sets

    def want_tested(
        self, domain: Domain, split: Split, clips: ClipSource[Clip], views: Iterable[StoredView] = ()
    ) -> None:
        """Request the maps of test clips under further views."""
        key = f"{domain}/{split}"
        known = self._wanted[key][0].views if key in self._wanted else frozenset({AS_FILMED})
        if key not in self._wanted or not known.issuperset(views):
            source = storable(clips)
            self._wanted[key] = [Wanted(Shown(source, source.fingerprint(), key), known.union(views))]
            self._opened.pop(key, None)

    def want_trained(self, domain: Domain, clips: ClipSource[Clip], augment: AugmentConfig) -> None:
        """Request the maps of training clips, with a few augmentations of each clip."""
        key = f"{domain} {augment}"
        if key not in self._wanted:
            source = storable(clips)
            draws = self.config.data.feature_draws if source.draws_at_random or not _is_identity(augment) else 1
            content = source.fingerprint()
            shown = [Shown(source, content, f"{domain}/train", augment, draw) for draw in range(draws)]
            self._wanted[key] = [Wanted(each, frozenset({AS_FILMED})) for each in shown]

    def as_tested(self, domain: Domain, split: Split, clips: ClipSource[Clip]) -> StoredClips:
        """See :class:`~microg_da.data.stored_clips.StoredMaps`."""
        self.want_tested(domain, split, clips, self.looked_at if split == "train" else ())
        self.prepare()
        return StoredClips(storable(clips), self._opened[f"{domain}/{split}"])

    def as_trained(self, domain: Domain, clips: ClipSource[Clip], augment: AugmentConfig) -> StoredClips:
        """See :class:`~microg_da.data.stored_clips.StoredMaps`."""
        self.want_trained(domain, clips, augment)
        self.prepare()
        return StoredClips(storable(clips), self._opened[f"{domain} {augment}"], self.config.seed)

    # -------------------------------------------------------------------------------------------------- filling

    def prepare(self) -> None:
        """Create the requested entries that do not exist.

        Raises:
            InputError: if the disk has too little space, a clip cannot be read, or the folder cannot be written.
        """
        new = {key: wanted for key, wanted in self._wanted.items() if key not in self._opened}
        missing = [(each.shown, absent) for wanted in new.values() for each in wanted if (absent := self._absent(each))]
        if missing:
            self._announce(missing)
            with progress_bar(self.console) as bar, self.encoder.at_work():
                for shown, absent in missing:
                    self._write(shown, absent, bar)
        self._opened.update({key: [self._open(each) for each in wanted] for key, wanted in new.items()})

    def _absent(self, wanted: Wanted) -> list[StoredView]:
        return [view for view in sorted(wanted.views) if open_entry(self._entry(wanted.shown, view)) is None]

    def _open(self, wanted: Wanted) -> StoredViews:
        entries = {view: StoredEntry(self._entry(wanted.shown, view)) for view in wanted.views}
        return StoredViews(entries, wanted.shown.about)

    def _clips_folder(self, shown: Shown) -> Path:
        kind = "tested" if shown.augment is None else f"draw{shown.draw}"
        return self.folder / f"{shown.about.rpartition('/')[2]}-{kind}-{shown.fingerprint}"

    def _entry(self, shown: Shown, view: StoredView) -> Path:
        return self._clips_folder(shown) / (f"roll{view.roll:g}" + ("-mirrored" if view.mirrored else ""))

    def _announce(self, missing: Sequence[tuple[Shown, Sequence[StoredView]]]) -> None:
        """Print the size to write, and raise an error if there is not enough free space."""
        needed = sum(len(views) * self._bytes(shown) for shown, views in missing)
        free = free_bytes(self.folder)
        entries = sum(len(views) for _, views in missing)
        self.console.print(
            f"[bold]•[/bold] feature store: {entries} views of clips to encode, {needed / GIB:.2f} GiB to write to "
            f"{self.folder} ({free / GIB:.1f} GiB free)",
            highlight=False,
            soft_wrap=True,
        )
        if needed > free:
            raise InputError(
                f"data.feature_store={self.config.data.feature_store}: the feature maps of this run need "
                f"{needed / GIB:.2f} GiB, and the disk has {free / GIB:.2f} GiB free. Choose another folder, a lower "
                f"data.feature_draws, or data.feature_store=null."
            )

    def _bytes(self, shown: Shown) -> int:
        """Bytes of one view of the clips."""
        sizes = shown.clips.frame_sizes()
        if sizes is None:
            shape = tuple(shown.clips[0].frames.shape)
            return len(shown.clips) * self.encoder.clip_bytes(shape)
        distinct, counts = np.unique(sizes, axis=0, return_counts=True)
        frames = self.config.model.num_frames
        return sum(
            count * self.encoder.clip_bytes((3, frames, *size))
            for size, count in zip(distinct.tolist(), counts.tolist(), strict=True)
            if all(size)
        )

    def _write(self, shown: Shown, views: Sequence[StoredView], bar: Progress) -> None:
        folder = self._clips_folder(shown)
        with ExitStack() as stack:
            stack.enter_context(writing(folder, partial(self._say_waiting, folder)))
            # Another process may have written them in the meantime.
            views = [view for view in views if open_entry(self._entry(shown, view)) is None]
            chunks = self._chunks(shown)
            plan = {"rows": len(shown.clips), "chunks": zlib.crc32(repr(chunks).encode())}
            writers = {view: EntryWriter(self._entry(shown, view), plan) for view in views}
            done = min((writer.chunks for writer in writers.values()), default=len(chunks))
            task = bar.add_task(f"encoding {shown.about}", total=len(chunks) * len(views), completed=done * len(views))
            for number, batch in enumerate(self._batches(shown, chunks[done:]), done):
                self._check_rows(shown, chunks[number], batch)
                records = list(_records(batch))
                for view, writer in writers.items():
                    if writer.chunks <= number:
                        writer.append(chunks[number], records, self.encoder(seen_under(batch.frames, view)))
                    bar.advance(task)
            for view, writer in writers.items():
                about = {"encoder": self.config.model.name, "data": shown.clips.description, "view": str(view)}
                writer.finish({**about, "clips_of": shown.about, "augment": str(shown.augment)})
            bar.remove_task(task)

    def _chunks(self, shown: Shown) -> list[list[int]]:
        """Return fixed groups of clips that are encoded together, so that an interrupted entry gets equal maps."""
        rows = SequentialSampler(shown.clips)
        sizes = shown.clips.frame_sizes()
        sizes = np.ones((len(shown.clips), 2), int) if sizes is None else sizes
        return list(SameSizeBatches(rows, self.config.evaluation.batch_size, sizes))

    def _batches(self, shown: Shown, chunks: Sequence[Sequence[int]]) -> Iterator[ClipBatch]:
        loader: DataLoader[ClipBatch] = DataLoader(
            cast("Dataset[Any]", shown.source()),
            batch_sampler=chunks,  # type: ignore[arg-type]
            num_workers=self.config.data.num_workers,
            collate_fn=collate_clips,
            generator=torch.Generator().manual_seed(0),
        )
        return (shown.augmented(batch.without_labels()) for batch in loader)

    def _check_rows(self, shown: Shown, rows: Sequence[int], batch: ClipBatch) -> None:
        """Check that no clip was replaced by another clip because it could not be read."""
        for row, key in zip(rows, batch.keys, strict=True):
            if key != (wanted := shown.keys[row]):
                raise InputError(
                    f"data.feature_store: {wanted.video_id}, keyframe {wanted.frame_stamp}, cannot be read, but the "
                    f"store needs all clips. Run `audit`, and remove the clip's rows or repair its file."
                )

    def _say_waiting(self, folder: Path) -> None:
        self.console.print(f"  waiting for another process that writes {folder}", highlight=False, soft_wrap=True)


def _is_identity(augment: AugmentConfig) -> bool:
    """Return whether the augmentation of a batch changes nothing."""
    rolls = augment.rotation_distribution == "uniform" and not augment.rotation and not augment.rotation_spin
    return rolls and not augment.flip and list(augment.scale) == [1.0, 1.0] and not augment.colour


def _records(batch: ClipBatch) -> Iterator[ClipRecord]:
    shape = tuple(batch.frames.shape[1:])
    for number in range(len(batch)):
        here = (batch.clip_index == number).nonzero()[:, 0].tolist()
        boxes, table = (values[here].numpy().astype(np.float32) for values in (batch.boxes, batch.table_boxes))
        yield ClipRecord(shape, tuple(batch.people[person].place for person in here), boxes, table)
