"""A finished run without the training: its files are written as `fit` writes them."""

import pytest
import torch

from microg_da.config import load_config
from microg_da.models import create_detector
from microg_da.runs.detectors import build_detector, method_at_test
from microg_da.runs.folder import Run
from microg_da.taxonomy import get_taxonomy
from microg_da.training.stage import save_detector

WIDTH = [4, 8, 8, 8]
SMALL = [
    "model=r2plus1d_tiny", f"model.options.width={WIDTH}", "model.num_frames=4", "data.image_size=28",
    "adaptation=adabn", "adaptation.test_time=null",
]  # fmt: skip


def scores(value):
    taxonomy = get_taxonomy("microg50")
    names = ("ap", "f1", "recall", "auroc")
    per_class = [
        {"action_id": action, "name": name, "group": group, **dict.fromkeys(names, value if action == 3 else None)}
        | {"support": int(action == 3)}
        for action, name, group in zip(taxonomy.ids, taxonomy.names, taxonomy.groups, strict=True)
    ]
    whole = {"map": value, "f1_macro": value / 2, "recall_macro": value / 4, "auroc_macro": None}
    return {**whole, "per_class": per_class}


@pytest.fixture
def make_run(tmp_path):
    """Write a run with source-only and adapted rows; words are keys of its configuration."""

    def make(*words, name="run", **facts):
        run = Run.plan(load_config("ava2microg", [*SMALL, *words]), tmp_path / "runs", name)
        run.create()
        torch.manual_seed(0)
        for stage, row, value in (("source", "source_only", 0.25), ("adapt", "adapted", 0.375)):
            detector = build_detector(run.config)
            torch.nn.init.normal_(detector.head.projection.weight)
            method = method_at_test(run.config, detector) if row == "adapted" else None
            save_detector(run, stage, detector, 1.0, method)
            run.add_row(
                {"name": row, "method": row, "seconds": 1.0, "source": scores(0.5), "target": scores(value)}
                | {"validators": {"entropy": -value}}
            )
        run.update(status="finished", split_hash=None, **facts)
        return run

    return make


@pytest.fixture
def detector():
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_tiny", width=WIDTH).eval()
    torch.nn.init.normal_(detector.head.projection.weight)
    return detector
