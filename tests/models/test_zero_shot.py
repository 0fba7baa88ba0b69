"""`ava_zeroshot`: an 80-class file goes in, scores on fifty classes come out, and nothing is trained in between."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from microg_da.config import load_config
from microg_da.models import create_detector
from microg_da.taxonomy import get_taxonomy
from microg_da.training.runner import run_experiment as fit


@pytest.mark.slow
def test_ava_weights_are_scored_as_they_are(tmp_path):
    torch.manual_seed(0)
    ava = create_detector("r2plus1d_tiny", 80)
    torch.save({"model_state": ava.state_dict()}, tmp_path / "ava.pyth")
    overrides = [
        f"checkpoint={tmp_path / 'ava.pyth'}",
        "model=r2plus1d_tiny",
        "data.image_size=64",
        "synthetic.test_clips=3",
        "synthetic.cache=false",
        "synthetic.workers=0",
        "trainer.accelerator=cpu",
    ]
    run = fit(load_config("ava_zeroshot", overrides), root=tmp_path, name="zero", console=Console(quiet=True))
    (result,) = run.results.variants
    assert result.variant == "source_only"
    assert result.seconds == 0
    assert result.target.map >= 0
    rows = torch.tensor(get_taxonomy("microg50").ids) - 1
    scored = torch.load(run.detector_file("source"), weights_only=True)["state_dict"]
    assert torch.equal(scored["head.projection.weight"], ava.head.projection.weight[rows])
    assert torch.equal(scored["backbone.res4.branch.0.weight"], ava.backbone.res4.branch[0].weight)
