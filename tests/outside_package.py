"""A small package of somebody else, written into a folder: a method, a backbone, data, a validator and a split."""

from __future__ import annotations

import textwrap
from pathlib import Path

METHODS = '''
    from dataclasses import dataclass

    from microg_da.adaptation.base import DomainAdaptation, TestTimeMethod


    @dataclass
    class MeanArguments:
        weight: float = 1.0


    class MeanDifference(DomainAdaptation):
        """The mean features of both domains are drawn together."""

        Arguments = MeanArguments

        def losses(self, source, target, labels, progress):
            difference = source.features.mean(dim=0) - target.features.mean(dim=0)
            return {"mean_difference": self.arguments.weight * difference.square().sum()}


    class Peeking(MeanDifference):
        uses_target_labels = True


    class Twice(TestTimeMethod):
        """Predicts as the detector does."""


    not_a_method = 3
'''

NETWORKS = '''
    from torch import nn

    from microg_da.models.backbone import Backbone


    class Small(Backbone):
        """One convolution of stride 8."""

        def __init__(self, width=4):
            super().__init__()
            self.convolution = nn.Conv3d(3, width, (1, 8, 8), (1, 8, 8))
            self.channels, self.stride, self.stages = (width,), 8, ("convolution",)

        def forward(self, frames):
            return (self.convolution(frames),)


    def small(width: int = 4) -> Backbone:
        return Small(width)


    def not_annotated(width=4):
        raise AssertionError("must not be called")


    def wrong(width: int = 4) -> Backbone:
        return nn.Linear(1, 1)
'''

DATA = '''
    from pathlib import Path

    import numpy as np
    import pandas as pd

    from microg_da.data.dataset_files import DatasetFiles
    from microg_da.data.options import FileOptions
    from microg_da.data.sources import open_source
    from microg_da.data.splits import Division
    from microg_da.taxonomy import get_taxonomy
    from microg_da.types import Clip, ClipSource


    def open_clips(path: str, *, split, image_size, labelled, num_frames, sampling_rate, taxonomy, train, check_length,
                   seed, num_clips="6") -> ClipSource[Clip]:
        assert Path(path).is_dir()
        return open_source(f"synthetic:earth?num_clips={num_clips}&workers=0&cache=false", split=split, taxonomy=taxonomy,
                           num_frames=num_frames, sampling_rate=sampling_rate, image_size=image_size, labelled=labelled,
                           train=train, seed=7)


    class Noise:
        """Frames that are made up."""

        def num_frames(self, video_id):
            return 30

        def frame_size(self, video_id):
            return 40, 48

        def fps(self, video_id):
            return 30.0

        def missing(self, video_ids):
            return {}

        def read(self, video_id, numbers, min_short_side=None):
            for number in numbers.tolist():
                yield np.random.default_rng(number).integers(0, 255, (40, 48, 3), np.uint8)


    class NoiseFiles(DatasetFiles):
        def frames(self, decode="auto"):
            return Noise()


    def read_tables(root: Path, options: FileOptions, *, check_boxes: bool = True) -> DatasetFiles:
        rows = [(f"take{number:02}", 10, 0.1, 0.1, 0.6, 0.9, (1, 12, 80)[number % 3], 0) for number in range(15)]
        columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id"]
        table = pd.DataFrame(rows, columns=columns)
        return NoiseFiles(root=root, annotations=table, taxonomy=get_taxonomy("microg50"), published=pd.Series(dtype=object),
                          footage=None, stamp="frames", start=0.0, cut=False, read_detected=lambda: None)


    def thirds(clips, annotations, *, seed, folds, fold):
        names = sorted(clips.index)
        return Division("thirds", {"train": tuple(names[::3]), "val": tuple(names[1::3]), "test": tuple(names[2::3])})


    def no_division(clips, annotations, *, seed, folds, fold):
        return None


    def not_annotated(path, **options):
        raise AssertionError("must not be called")


    def two_arguments(path: str, request) -> ClipSource[Clip]:
        raise AssertionError("must not be called")
'''

SCORES = """
    def spread(observed):
        return float(observed.target_logits.std())


    def two(observed, other):
        return 0.0
"""

ENTRY_POINTS = """
    [microg_da.adaptations]
    mean_difference = outside_lab.methods:MeanDifference
    dann = outside_lab.methods:MeanDifference

    [microg_da.models]
    small = outside_lab.networks:small

    [microg_da.data]
    noise = outside_lab.data:read_tables

    [microg_da.splits]
    thirds = outside_lab.data:thirds

    [microg_da.validators]
    spread = outside_lab.scores:spread
"""


def write_package(folder: Path, *, installed: bool = False) -> Path:
    """Write the package ``outside_lab``; returns the folder that makes it importable.

    Args:
        folder: to write into.
        installed: also write what pip leaves of an installed package with entry points.
    """
    package = folder / "outside_lab"
    package.mkdir(parents=True)
    parts = {"__init__": "", "methods": METHODS, "networks": NETWORKS, "data": DATA, "scores": SCORES}
    for name, content in parts.items():
        (package / f"{name}.py").write_text(textwrap.dedent(content), encoding="utf-8")
    (package / "broken.py").write_text("import torch\nraise RuntimeError('out of order')\n", encoding="utf-8")
    (package / "needy.py").write_text("import a_package_that_nobody_has\n", encoding="utf-8")
    if installed:
        facts = folder / "outside_lab-1.2.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-lab\nVersion: 1.2\n", encoding="utf-8")
        (facts / "entry_points.txt").write_text(textwrap.dedent(ENTRY_POINTS), encoding="utf-8")
    return folder
