"""Loaders for a training stage: labelled clips of one domain, unlabelled clips of the other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from typing import Any, Literal, TypedDict, cast, overload

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from rich.progress import Progress
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from microg_da.config import AugmentConfig, Config
from microg_da.data.batches import SameSizeBatches, collate_clips
from microg_da.data.dataset import multi_hot
from microg_da.data.joined import JoinedClips, shared_source_videos
from microg_da.data.options import parse_source
from microg_da.data.sources import open_source, opens_clips
from microg_da.data.stored_clips import StoredMaps
from microg_da.data.windows import window_problem
from microg_da.errors import InputError
from microg_da.taxonomy import get_taxonomy
from microg_da.terminal import tracked
from microg_da.types import DOMAINS, Clip, ClipBatch, ClipSource, Domain, LabelledClip, Split


class DataFacts(TypedDict):
    """Entries about the data in a run's record; ``data`` and ``fps`` are by ``domain/split``."""

    data: dict[str, str]
    split_hash: str | None
    fps: dict[str, float | None]
    warnings: tuple[str, ...]


class _Batches(TypedDict, total=False):
    """How a loader makes batches: of one size in the order of a sampler, or as a sampler of batches says."""

    batch_size: int
    sampler: EpochSampler
    drop_last: bool
    batch_sampler: SameSizeBatches


class DomainDatasets:
    """The data sets of an experiment, opened on first use.

    Target labels must be requested explicitly: a data set opened with ``labelled=False`` contains no labels, so that
    none of its batches can have any.

    Args:
        config: the configuration of the experiment.

    Attributes:
        maps: feature maps that replace frames in stages and tests; None for frames.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._open: dict[tuple[Domain, Split, bool], ClipSource[Any]] = {}
        self._window_warnings: list[str] = []
        self.maps: StoredMaps | None = None
        self._extra: ClipSource[LabelledClip] | None = None

    @overload
    def get(self, domain: Domain, split: Split, *, labelled: Literal[True]) -> ClipSource[LabelledClip]: ...

    @overload
    def get(self, domain: Domain, split: Split, *, labelled: bool) -> ClipSource[Clip]: ...

    def get(self, domain: Domain, split: Split, *, labelled: bool) -> ClipSource[Any]:
        """The data set of one domain and split, with or without labels."""
        key = (domain, split, labelled)
        if key not in self._open:
            self._open[key] = self._make(*key)
        return self._open[key]

    def tested(self, domain: Domain, split: Split, *, labelled: bool = False, extra: bool = False) -> ClipSource[Clip]:
        """Return the clips of a split in test views; ``extra`` as in :class:`StageData`."""
        clips = self._with_extra(domain, self.get(domain, split, labelled=labelled), extra)
        if split == "train":
            clips = clips.in_test_views()
        return clips if self.maps is None else self.maps.as_tested(domain, split, clips)

    def trained(
        self, domain: Domain, augment: AugmentConfig, *, labelled: bool, extra: bool = False
    ) -> ClipSource[Clip]:
        """Return the training clips of a domain; those of a feature store are already augmented."""
        clips = self._with_extra(domain, self.get(domain, "train", labelled=labelled), extra)
        return clips if self.maps is None else self.maps.as_trained(domain, clips, augment)

    @property
    def extra(self) -> ClipSource[LabelledClip] | None:
        """The training clips of ``adaptation.extra_source``, with labels; None if it is not set."""
        source = self.config.adaptation.extra_source
        if self._extra is None and source is not None:
            opened = self._open_source("adaptation.extra_source", source, None, "train", labelled=True)
            self._extra = cast("ClipSource[LabelledClip]", opened)
        return self._extra

    def _with_extra(self, domain: Domain, clips: ClipSource[Clip], extra: bool) -> ClipSource[Clip]:
        if not extra or domain != "source" or self.extra is None:
            return clips
        return JoinedClips([clips, self.extra])

    def open_for_fit(self) -> None:
        """Open all data of a run, so that errors in the data occur before training.

        Files are opened first, so that their errors occur before clips are rendered.
        """
        adapts = self.config.adaptation.name != "source_only"
        trains: list[tuple[Domain, Split, bool]] = []
        if adapts or self.config.checkpoint is None:
            trains += [("source", "train", True), ("source", "val", False)]
        if adapts:
            trains.append(("target", "train", False))
        opened = [*trains, *((domain, "test", False) for domain in DOMAINS)]
        for domain, split, labelled in sorted(opened, key=lambda each: parse_source(self.source(each[0])).is_drawn):
            self.get(domain, split, labelled=labelled)
        if adapts and self.extra is not None:
            self._check_extra(self.extra)

    def source(self, domain: Domain) -> str:
        """The SOURCE of a domain."""
        return self.config.data.source if domain == "source" else self.config.data.target

    @cached_property
    def class_rates(self) -> tuple[float, ...]:
        """The share of labelled source training people who have each class of the taxonomy."""
        taxonomy = get_taxonomy(self.config.data.taxonomy)
        _, labels = multi_hot(self.get("source", "train", labelled=True).annotations(), taxonomy)
        return tuple(labels.mean(axis=0).tolist())

    def facts(self) -> DataFacts:
        """Return the entries of a run's record on the opened data: descriptions, hashes of splits, warnings."""
        opened = {f"{domain}/{split}": dataset for (domain, split, _), dataset in self._open.items()}
        if self._extra is not None:
            opened["source/train, extra"] = self._extra
        warnings = [warning for dataset in opened.values() for warning in dataset.warnings]
        hashes = {name: dataset.split_hash for name, dataset in opened.items()}
        return {
            "data": {name: dataset.description for name, dataset in opened.items()},
            "split_hash": next((value for value in hashes.values() if value), None),
            "fps": {name: dataset.fps for name, dataset in opened.items()},
            "warnings": tuple(dict.fromkeys([*warnings, *self._window_warnings])),
        }

    def skipped(self) -> pd.DataFrame:
        """The clips that could not be read: ``domain, split, video_id, frame_stamp, reason``."""
        tables = [
            dataset.skipped().assign(domain=domain, split=split) for (domain, split, _), dataset in self._open.items()
        ]
        if self._extra is not None:
            tables.append(self._extra.skipped().assign(domain="source", split="train"))
        columns = ["domain", "split", "video_id", "frame_stamp", "reason"]
        skipped: pd.DataFrame = pd.concat([pd.DataFrame(columns=columns), *tables])[columns]
        return skipped.drop_duplicates(ignore_index=True)

    def release(self, domain: Domain, split: Split) -> None:
        """Close a data set to free the memory of its frames."""
        for labelled in (False, True):
            self._open.pop((domain, split, labelled), None)

    def _make(self, domain: Domain, split: Split, labelled: bool) -> ClipSource[Clip]:
        return self._open_source(f"data.{domain}", self.source(domain), domain, split, labelled=labelled)

    def _check_extra(self, extra: ClipSource[LabelledClip]) -> None:
        """Raise an error if people of the extra clips are also tested or validated."""
        tested: tuple[tuple[Domain, Split], ...] = (("source", "val"), ("source", "test"), ("target", "test"))
        for domain, split in tested:
            if shared := shared_source_videos(extra, self.get(domain, split, labelled=False)):
                raise InputError(
                    f"adaptation.extra_source={self.config.adaptation.extra_source}: its train split and the {split} "
                    f"split of data.{domain} share {len(shared)} source videos, e.g. {shared[0]!r}, so that labelled "
                    "people would be tested. Add scheme=FILE with the split of data.source."
                )

    def _open_source(
        self, key: str, source: str, domain: Domain | None, split: Split, *, labelled: bool
    ) -> ClipSource[Clip]:
        config = self.config
        parsed = parse_source(source)
        # Functions of other packages that open clips define their own options.
        own = parsed.is_drawn or not opens_clips(parsed)
        options = config.source_options(domain, parsed.kind, split) if own else {}
        dataset = open_source(
            source,
            split=split,
            taxonomy=config.data.taxonomy,
            num_frames=config.model.num_frames,
            sampling_rate=config.model.sampling_rate,
            image_size=config.data.image_size,
            labelled=labelled,
            train=split == "train",
            check_length=partial(self._check_window, source),
            **{"seed": config.seed, **options},
        )
        if not len(dataset):
            raise InputError(f"{key}={source}: the {split} split has no clips. Check the split and its files.")
        return dataset

    def _check_window(self, source: str, length: int | None) -> None:
        """Raise an error or add a note if the window is longer than the clips."""
        problem = window_problem(self.config.model, source, length)
        if problem is not None:
            self._window_warnings.append(f"{problem}: their first and last frames are repeated")


class EpochSampler(DistributedSampler[Clip]):
    """The order of an epoch, which depends only on seed and epoch; also sets the epoch of the data set.

    Args:
        clips: the data set.
        options: options of torch's :class:`~torch.utils.data.DistributedSampler`.
    """

    def __init__(self, clips: ClipSource[Clip], **options: Any) -> None:
        super().__init__(_as_dataset(clips), **options)
        self._clips = clips

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        super().set_epoch(epoch)
        self._clips.set_epoch(epoch)


def _as_dataset(clips: ClipSource[Clip]) -> Dataset[Clip]:
    """Return the same object as torch's type, which needs only length and items."""
    return cast("Dataset[Clip]", clips)


class UnaugmentedClips:
    """All training clips of a domain in test views, in every process; opened with the first batch.

    Args:
        data: the data sets.
        domain: the domain; only source clips have labels.
        device: the device of the batches.
        progress: a started progress bar for iterations.
    """

    def __init__(
        self, data: StageData, domain: Domain, device: torch.device | str, progress: Progress | None = None
    ) -> None:
        self.data = data
        self.domain = domain
        self.device = device
        self.progress = progress

    def shown_in(self, progress: Progress) -> UnaugmentedClips:
        """Return the same clips, shown as a task of ``progress`` while they are iterated."""
        return UnaugmentedClips(self.data, self.domain, self.device, progress)

    def __iter__(self) -> Iterator[ClipBatch]:
        clips = self.data.unaugmented(self.domain)
        batch_size = self.data.datasets.config.evaluation.batch_size
        loader = self.data._loader(clips, self.domain, batch_size, shuffle=False, shared=False)
        batches: Iterable[ClipBatch] = (batch.to(self.device) for batch in loader)
        if self.progress is not None:
            batches = tracked(batches, self.progress, f"reading {self.domain} clips", len(loader))
        yield from batches


class StageData(pl.LightningDataModule):
    """The data that one training stage reads.

    Args:
        datasets: the experiment's data.
        labelled: the domain whose labels train the model, or None.
        unlabelled: the domain whose clips are used without labels, or None.
        also_labelled: a second domain whose labels train the model: the target, for oracles.
        validate_on: the domain whose validation split is scored, or None.
        observe: also read both domains' validation clips without labels, for label-free validators.
        extra: whether the training clips of ``adaptation.extra_source`` are added to those of the source.
        batch_size: clips of each domain in a step.
        seed: seed of the order of clips.

    Attributes:
        augment: augmentation of training clips from a feature store; frames are augmented in the batch.
    """

    def __init__(
        self,
        datasets: DomainDatasets,
        *,
        labelled: Domain | None = "source",
        unlabelled: Domain | None = None,
        also_labelled: Domain | None = None,
        validate_on: Domain | None = "source",
        observe: bool = False,
        extra: bool = False,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.datasets = datasets
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.also_labelled = also_labelled
        self.validate_on = validate_on
        self.observe = observe
        self.extra = extra
        self.batch_size = batch_size
        self.seed = seed
        self.augment = datasets.config.augment

    def train_dataloader(self) -> CombinedLoader:
        """Return batches ``{"source": ClipBatch, "target": ClipBatch}``; an epoch is a pass over the larger domain.

        The first of two domains has the key ``source`` in any case; a stage without source clips has only the key
        ``target``.
        """
        loaders = {}
        if self.labelled is not None:
            loaders["source"] = self._train_loader(self.labelled, labelled=True)
        if self.unlabelled is not None:
            loaders["target"] = self._train_loader(self.unlabelled, labelled=False)
        if self.also_labelled is not None:
            loaders["target"] = self._train_loader(self.also_labelled, labelled=True)
        return CombinedLoader(loaders, mode="max_size_cycle")

    def val_dataloader(self) -> list[DataLoader[ClipBatch]]:
        """Return the validation split of ``validate_on``, and with ``observe`` those of both domains."""
        domains = DOMAINS if self.observe else tuple(domain for domain in DOMAINS if domain == self.validate_on)
        return [self.test_loader(domain, "val") for domain in domains]

    def test_loader(self, domain: Domain, split: Split = "test") -> DataLoader[ClipBatch]:
        """Return each clip of a split once, in order and without labels."""
        dataset = self.datasets.tested(domain, split)
        return self._loader(dataset, domain, self.datasets.config.evaluation.batch_size, shuffle=False)

    def unaugmented_clips(self, domain: Domain, device: torch.device | str = "cpu") -> UnaugmentedClips:
        """Return training clips of a domain in order, without augmentation; target clips have no labels."""
        return UnaugmentedClips(self, domain, device)

    def unaugmented(self, domain: Domain) -> ClipSource[Clip]:
        """Return the data set of :meth:`unaugmented_clips`."""
        return self.datasets.tested(domain, "train", labelled=domain == "source", extra=self.extra)

    def _train_loader(self, domain: Domain, *, labelled: bool) -> DataLoader[ClipBatch]:
        clips = self.datasets.trained(domain, self.augment, labelled=labelled, extra=self.extra)
        return self._loader(clips, domain, self.batch_size, shuffle=True)

    def _loader(
        self, clips: ClipSource[Clip], domain: Domain, batch_size: int, *, shuffle: bool, shared: bool = True
    ) -> DataLoader[ClipBatch]:
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer and shared else (1, 0)
        # Used for one process as well: the order depends only on seed and epoch, so that a resumed run has the same
        # batches.
        sampler = EpochSampler(clips, num_replicas=world, rank=rank, shuffle=shuffle, seed=self.seed)
        # Maps of a feature store are read by the detector, so that workers are not needed.
        workers = self.datasets.config.data.num_workers if self.datasets.maps is None else 0
        # A last batch of one clip would distort batch statistics; a part smaller than a batch must still be trained on.
        drop_last = shuffle and len(sampler) >= batch_size
        batches: _Batches = {"batch_size": batch_size, "sampler": sampler, "drop_last": drop_last}
        if not shuffle and (sizes := clips.frame_sizes()) is not None:
            # Whole frames have the aspect ratio of their video, and a batch has one size.
            batches = {"batch_sampler": SameSizeBatches(sampler, batch_size, sizes)}
        with warnings.catch_warnings():
            # The advice at the start of a run replaces this warning, and names the key.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            return DataLoader(
                cast("Dataset[Any]", clips),  # a loader yields the results of `collate_fn`
                **batches,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=self._on_gpu(),
                collate_fn=partial(collate_clips, domain=domain),
                # A loader draws from torch's generator in some passes. Their number depends on workers and on resuming,
                # and would affect later random values.
                generator=torch.Generator().manual_seed(self.seed),
            )

    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
