"""A LightningDataModule that needs only a configuration."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from microg_da.config import Config
from microg_da.data.datamodule import DomainDatasets, StageData, UnaugmentedClips
from microg_da.types import ClipBatch, Domain, Split


class ClipDataModule(StageData):
    """The clips of a configuration, for any Lightning trainer.

    A training batch is ``{"source": LabelledClipBatch, "target": ClipBatch}``; all others are a
    :class:`~microg_da.types.ClipBatch`. Target clips have no labels: scores are computed from the annotation table.

    Example:
        >>> from microg_da import ClipDataModule, load_config
        >>> config = load_config("ava2microg", [
        ...     "data.image_size=48", "training.batch_size=4", "synthetic.train_clips=8", "synthetic.val_clips=4",
        ...     "synthetic.test_clips=4", "synthetic.workers=0",
        ... ])
        >>> data = ClipDataModule(config)
        >>> batch = next(iter(data.test_dataloader()))
        >>> len(batch), batch.domain, batch.frames.dtype
        (4, 'target', torch.uint8)

    Args:
        config: the data, the window, the size of frames and of batches.
        labelled: the domain whose labels train the model, or None.
        unlabelled: the domain whose clips are used in training without labels, or None.
        validate_on: the domain whose validation split is scored. Selection by target scores makes an oracle.
        test_on: the domain whose test split is tested and predicted.
    """

    def __init__(
        self,
        config: Config,
        *,
        labelled: Domain | None = "source",
        unlabelled: Domain | None = "target",
        validate_on: Domain = "source",
        test_on: Domain = "target",
    ) -> None:
        super().__init__(
            DomainDatasets(config),
            labelled=labelled,
            unlabelled=unlabelled,
            validate_on=validate_on,
            batch_size=config.training.batch_size,
            seed=config.seed,
        )
        self.test_on = test_on

    @property
    def class_rates(self) -> tuple[float, ...]:
        """Return the fraction of labelled source training people with each class, for ``create_adaptation``."""
        return self.datasets.class_rates

    def test_dataloader(self) -> DataLoader[ClipBatch]:
        """The test split of ``test_on``."""
        return self.test_loader(self.test_on)

    def predict_dataloader(self) -> DataLoader[ClipBatch]:
        """The test split of ``test_on``."""
        return self.test_loader(self.test_on)

    def scored_domain(self, split: Split) -> Domain:
        """Return the domain that is scored on a split."""
        return self.test_on if split == "test" else self.validate_on or "source"

    def training_clips(self, device: torch.device | str) -> tuple[UnaugmentedClips, UnaugmentedClips]:
        """Return training clips of source and target in order, without augmentation, for methods that need them."""
        return self.unaugmented_clips("source", device), self.unaugmented_clips("target", device)
