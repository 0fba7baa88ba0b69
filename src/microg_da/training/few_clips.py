"""The data of a run, of which only one batch of a split is drawn."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from microg_da.config import Config
from microg_da.data.datamodule import DomainDatasets
from microg_da.data.options import Source, parse_source
from microg_da.synthetic.source import SyntheticOptions, plan_split
from microg_da.synthetic.spec import SyntheticSpec
from microg_da.types import Domain, Split


class FewClips(DomainDatasets):
    """The data of a run, of which only one batch of a split is drawn.

    Data from files is opened as the run opens it: frames are decoded when they are asked for.

    Attributes:
        full: the configuration of the run.
        drawing: seconds and clips of what was drawn.
    """

    def __init__(self, config: Config) -> None:
        self.full = config
        self.drawing: list[tuple[float, int]] = []
        data = replace(config.data, source=_undrawn(config.data.source), target=_undrawn(config.data.target))
        few = replace(
            config.synthetic,
            train_clips=config.training.batch_size,
            val_clips=1,
            test_clips=config.evaluation.batch_size,
            workers=0,
            cache=False,
        )
        super().__init__(replace(config, data=data, synthetic=few))

    def spec(self, domain: Domain, split: Split) -> tuple[SyntheticSpec, SyntheticOptions] | None:
        """The clips of a split as the run draws them; None for data from files."""
        config = self.full
        source = parse_source(config.data.source if domain == "source" else config.data.target)
        if source.kind != "synthetic":
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
        """The clips that the run has in a split."""
        planned = self.spec(domain, split)
        if planned is not None:
            return planned[0].num_clips
        return len(self.get(domain, split, labelled=False))

    def _make(self, domain: Domain, split: Split, labelled: bool) -> Any:
        start = time.perf_counter()
        dataset = super()._make(domain, split, labelled)
        if self.spec(domain, split) is not None:
            self.drawing.append((time.perf_counter() - start, len(dataset)))
        return dataset


def _undrawn(text: str) -> str:
    """The SOURCE without what says how many clips are drawn, and how."""
    source = parse_source(text)
    if source.kind != "synthetic":
        return text
    kept = {key: value for key, value in source.options.items() if key not in ("num_clips", "workers", "cache")}
    return str(Source(source.kind, source.path, kept))
