"""The data of a run, with only one batch drawn from each split."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace

from microg_da.config import Config, TrainingConfig
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.data.options import Source, parse_source
from microg_da.synthetic.cache import cache_file
from microg_da.synthetic.source import SyntheticOptions, plan_split
from microg_da.synthetic.spec import SyntheticSpec
from microg_da.types import DOMAINS, SPLITS, Clip, ClipSource, Domain, Split


class FewClips(DomainDatasets):
    """The data of a run with only one batch of each split drawn. Its counts are those of the whole run.

    Data from files is opened as in the run: frames are decoded when they are read.

    Args:
        config: the configuration of the run.
        processes: number of processes that share the clips of the run.

    Attributes:
        full: the configuration of the run.
        processes: number of processes that share the clips of the run.
        drawing: seconds and number of clips that were drawn.
    """

    def __init__(self, config: Config, processes: int = 1) -> None:
        self.full = config
        self.processes = processes
        self.drawing: list[tuple[float, int]] = []
        data = replace(
            config.data,
            source=_without_drawing_options(config.data.source),
            target=_without_drawing_options(config.data.target),
        )
        extra = config.adaptation.extra_source
        adaptation = replace(config.adaptation, extra_source=None if extra is None else _without_drawing_options(extra))
        few = replace(
            config.synthetic,
            train_clips=config.training.batch_size,
            val_clips=1,
            test_clips=config.evaluation.batch_size,
            workers=0,
            cache=False,
        )
        super().__init__(replace(config, data=data, synthetic=few, adaptation=adaptation))

    def spec(self, domain: Domain, split: Split) -> tuple[SyntheticSpec, SyntheticOptions] | None:
        """Return the specification of a split as the run draws it; None for data from files."""
        return self._spec(self.full.data.source if domain == "source" else self.full.data.target, split)

    def _spec(self, text: str, split: Split) -> tuple[SyntheticSpec, SyntheticOptions] | None:
        config, source = self.full, parse_source(text)
        if not source.is_drawn:
            return None
        return plan_split(
            source.path,
            split=split,
            num_frames=config.model.num_frames,
            sampling_rate=config.model.sampling_rate,
            image_size=config.data.image_size,
            **{**config.synthetic.options(split), **source.options},
        )

    def count(self, domain: Domain, split: Split) -> int:
        """Return the number of clips of the run in a split."""
        planned = self.spec(domain, split)
        if planned is not None:
            return planned[0].num_clips
        return len(self.get(domain, split, labelled=False))

    def share(self, domain: Domain, split: Split) -> int:
        """Return the number of clips of a split that one process reads."""
        return math.ceil(self.count(domain, split) / self.processes)

    def training_clips(self, data: StageData, domain: Domain) -> int:
        """Return the number of training clips of a domain that the run reads in an epoch of a stage."""
        clips = self.count(domain, "train")
        text = self.full.adaptation.extra_source
        if text is None or not data.extra or domain != "source":
            return clips
        planned = self._spec(text, "train")
        return clips + (len(self.extra or ()) if planned is None else planned[0].num_clips)

    def steps_per_epoch(self, data: StageData, training: TrainingConfig) -> int:
        """Return the number of full batches of the larger domain, or the stage's limit if it is lower."""
        domains = {domain for domain in (data.labelled, data.unlabelled, data.also_labelled) if domain is not None}
        shares = (math.ceil(self.training_clips(data, domain) / self.processes) for domain in domains)
        steps = max(max(share // training.batch_size, 1) for share in shares)
        return min(steps, training.max_batches_per_epoch or steps)

    def drawing_seconds(self) -> float:
        """Return the seconds to draw clips that are not in the cache, with as many processes as the run has."""
        if not self.drawing:
            return 0.0
        # The first draw also imports libraries and fills tables.
        per_clip = min(seconds / clips for seconds, clips in self.drawing)
        return sum(
            spec.num_clips * per_clip / max(min(options.workers, os.cpu_count() or 1), 1)
            for spec, options in self._drawn()
            if not (options.cache and cache_file(spec).exists())
        )

    def held_mib(self) -> float:
        """Return the memory for the frames of every split that the run draws, in MiB."""
        return sum(spec.num_clips * 3 * spec.num_frames * spec.size**2 for spec, _ in self._drawn()) / 2**20

    def _drawn(self) -> Iterator[tuple[SyntheticSpec, SyntheticOptions]]:
        """Yield the splits that the run draws."""
        planned = [self.spec(domain, split) for domain in DOMAINS for split in SPLITS]
        if self.full.adaptation.extra_source is not None:
            planned.append(self._spec(self.full.adaptation.extra_source, "train"))
        yield from (each for each in planned if each is not None)

    def _make(self, domain: Domain, split: Split, labelled: bool) -> ClipSource[Clip]:
        start = time.perf_counter()
        dataset = super()._make(domain, split, labelled)
        if self.spec(domain, split) is not None:
            self.drawing.append((time.perf_counter() - start, len(dataset)))
        return dataset


def _without_drawing_options(text: str) -> str:
    """Return the SOURCE without the options of drawn clips, such as their number."""
    source = parse_source(text)
    if not source.is_drawn:
        return text
    kept = {key: value for key, value in source.options.items() if key not in ("num_clips", "workers", "cache")}
    return str(Source(source.kind, source.path, kept))
