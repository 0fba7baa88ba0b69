"""A finished run without the training: its files are written as `fit` writes them."""

from dataclasses import replace

import pytest
import torch
from score_cases import some_scores

from microg_da.adaptation.predictor import Predictor
from microg_da.config import load_config
from microg_da.models import create_detector
from microg_da.runs.detectors import build_detector, build_test_time_method
from microg_da.runs.folder import Run
from microg_da.runs.results import VariantResult
from microg_da.training.stage import save_detector

WIDTH = [4, 8, 8, 8]
SMALL = [
    "model=r2plus1d_tiny", f"model.options.width={WIDTH}", "model.num_frames=4", "data.image_size=28",
    "adaptation=adabn", "adaptation.test_time=null",
]  # fmt: skip


@pytest.fixture
def make_run(tmp_path):
    """Write a run with source-only and adapted results; words are keys of its configuration."""

    def make(*words, name="run", **facts):
        run = Run.plan(load_config("ava2microg", [*SMALL, *words]), tmp_path / "runs", name)
        run.create()
        torch.manual_seed(0)
        for stage, variant, value in (("source", "source_only", 0.25), ("adapt", "adapted", 0.375)):
            detector = build_detector(run.config)
            torch.nn.init.normal_(detector.head.projection.weight)
            method = build_test_time_method(run.config, detector) if variant == "adapted" else None
            save_detector(run, stage, Predictor(detector, method), 1.0)
            scores = {"source": some_scores(0.5), "target": some_scores(value)}
            run.add_result(VariantResult(variant, variant, 1.0, **scores, validators={"entropy": -value}))
        run.update(lambda record: replace(record, status="finished", **facts))
        return run

    return make


@pytest.fixture
def detector():
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", width=WIDTH).eval()
    torch.nn.init.normal_(detector.head.projection.weight)
    return detector
