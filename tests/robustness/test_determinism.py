"""One seed, one result: again, with any number of worker processes, and in them."""

import random

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_run import TINY
from torch.utils.data import Dataset

from microg_da.config import load_config
from microg_da.data import datamodule
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.inference.trainer import make_trainer
from microg_da.types import Clip, ClipKey

WORDS = ["adaptation=dann", "adaptation.epochs=1", "training.epochs=2"]


@pytest.fixture(scope="module")
def detections(tmp_path_factory, _own_cache):
    """What the adapted detector of a run says, by the number of workers; None stands for a second run without."""
    from microg_da.training.runner import run_experiment as fit

    def run(workers):
        config = load_config("ava2microg", [*TINY[2:], *WORDS, f"data.num_workers={workers or 0}"])
        folder = fit(config, root=tmp_path_factory.mktemp("runs"), name="x").path
        return {domain: pd.read_csv(folder / f"detections/adapted_{domain}.csv.gz") for domain in ("source", "target")}

    return {workers: run(workers) for workers in (None, 0, 1, 2)}


@pytest.mark.parametrize("workers", [None, pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_seed_gives_the_same_detections(detections, workers):
    for domain, table in detections[0].items():
        pd.testing.assert_frame_equal(detections[workers][domain], table)


class Draws(Dataset):
    """Clips whose pixels are drawn from the generators that a data set might use without a seed of its own."""

    def __len__(self):
        return 8

    def set_epoch(self, epoch):
        pass

    def __getitem__(self, index):
        values = [random.random(), np.random.random(), float(torch.rand(()))]  # noqa: NPY002
        frames = torch.tensor(values)[:, None, None, None]
        none = torch.zeros(0, 4)
        return Clip(frames, none, none, ClipKey(f"c_{index}", 1)).with_labels(torch.zeros(0, 50))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_seed_reaches_workers(monkeypatch, tmp_path, workers):
    import pytorch_lightning as pl

    monkeypatch.setattr(datamodule.DomainDatasets, "get", lambda *_, **__: Draws())

    def draw(seed):
        config = load_config("ava2microg", [*TINY[2:], f"data.num_workers={workers}", f"seed={seed}"])
        pl.seed_everything(seed, workers=True, verbose=False)
        data = StageData(DomainDatasets(config), labelled="source", batch_size=2, seed=seed)
        seen = []

        class Module(pl.LightningModule):
            def training_step(self, batch, _):
                seen.append(batch["source"].frames.flatten(1))

            def configure_optimizers(self):
                return None

        module = Module()
        module.unused = torch.nn.Linear(1, 1)
        make_trainer(config.trainer, root=tmp_path, max_epochs=1, limit_val_batches=0).fit(module, datamodule=data)
        return torch.cat(seen)

    first = draw(0)
    assert torch.equal(first, draw(0))
    assert not torch.equal(first, draw(1))
    # No clip repeats another's numbers, as it would if all processes began from one state.
    assert len(first.unique(dim=0)) == len(first) == 8
    for column in first.T:
        assert len(column.unique()) == 8
