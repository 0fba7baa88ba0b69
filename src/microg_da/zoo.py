"""The facts of every named detector: its builder, cost, crop, stride and windows.

This module is a table. It imports neither torch nor a registry, so that the configuration can read windows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from microg_da.errors import unknown_name


class Window(NamedTuple):
    """The frames a model sees around the keyframe: ``num_frames`` of them, ``sampling_rate`` apart."""

    num_frames: int
    sampling_rate: int

    def __str__(self) -> str:
        return f"{self.num_frames}×{self.sampling_rate}"


@dataclass(frozen=True)
class ZooModel:
    """One published architecture.

    Attributes:
        builder: ``"module:function"`` inside ``microg_da.models``.
        summary: one line for people.
        parameters: of the detector with 50 classes.
        gflops: giga multiply-adds of one clip of ``window`` at ``crop`` × ``crop`` pixels.
        crop: the short side at test time, pixels.
        stride: input pixels per cell of the feature map, as it really is.
        window: what the architecture's name means.
        published_window: what MicroG-Bench gave the network, if that was something else.
    """

    builder: str
    summary: str
    parameters: int
    gflops: float
    crop: int
    stride: int
    window: Window
    published_window: Window | None = None


ZOO = {
    "r2plus1d_micro": ZooModel(
        "tiny:r2plus1d_micro",
        "smallest residual (2+1)D network, for CPUs and the embedded data",
        337_154, 0.0451, 96, 16, Window(8, 4),
    ),
    "r2plus1d_tiny": ZooModel(
        "tiny:r2plus1d_tiny",
        "small residual (2+1)D network for CPUs and the embedded data",
        649_250, 0.0809, 96, 16, Window(8, 4),
    ),
    "c2d_r50_8x8": ZooModel(
        "resnet:c2d_r50",
        "C2D: ResNet-50 frame by frame, one temporal pool",
        23_610_482, 36.72, 256, 16, Window(8, 8),
    ),
    "c2d_nln_r50_8x8": ZooModel(
        "resnet:c2d_nln_r50",
        "C2D with five non-local blocks",
        30_968_946, 48.55, 256, 16, Window(8, 8),
    ),
    "i3d_r50_8x8": ZooModel(
        "resnet:i3d_r50",
        "I3D: ResNet-50 inflated in time",
        27_326_322, 49.97, 256, 16, Window(8, 8),
    ),
    "i3d_nln_r50_8x8": ZooModel(
        "resnet:i3d_nln_r50",
        "I3D with five non-local blocks",
        34_684_786, 61.80, 256, 16, Window(8, 8),
    ),
    "slow_r50_8x8": ZooModel(
        "resnet:slow_r50",
        "slow pathway of SlowFast, ResNet-50, 8 frames",
        31_736_946, 83.37, 256, 16, Window(8, 8),
    ),
    "slow_r50_4x16": ZooModel(
        "resnet:slow_r50",
        "slow pathway of SlowFast, ResNet-50, 4 frames",
        31_736_946, 41.69, 256, 16, Window(4, 16),
    ),
    "slowfast_r50_8x8": ZooModel(
        "slowfast:slowfast_r50",
        "SlowFast R50: 8 slow frames, 32 fast ones",
        33_759_738, 97.29, 256, 16, Window(32, 2), Window(8, 8),
    ),
    "slowfast_r50_4x16": ZooModel(
        "slowfast:slowfast_r50",
        "SlowFast R50: 4 slow frames, 16 fast ones",
        33_759_738, 48.65, 256, 16, Window(16, 4), Window(4, 16),
    ),
    "slowfast_r101_32x2": ZooModel(
        "slowfast:slowfast_r101",
        "SlowFast R101 with non-local blocks, for AVA weights (80 classes: 59,342,488)",
        59_273_338, 147.1, 256, 16, Window(32, 2),
    ),
    "mvit_v1_b_16x4": ZooModel(
        "mvit:mvit_v1_b",
        "multiscale vision transformer, base",
        36_341_522, 70.80, 224, 32, Window(16, 4),
    ),
    "mvit_v2_s_16x4": ZooModel(
        "mvit:mvit_v2_s",
        "multiscale vision transformer v2, small",
        34_268_594, 64.46, 224, 32, Window(16, 4),
    ),
    "x3d_s_13x6": ZooModel(
        "x3d:x3d_s",
        "X3D-S: 2 M parameters",
        2_015_828, 2.774, 182, 32, Window(13, 6),
    ),
    "x3d_l_16x5": ZooModel(
        "x3d:x3d_l",
        "X3D-L",
        4_374_938, 25.32, 356, 32, Window(16, 5),
    ),
}  # fmt: skip
"""The benchmark's detectors, its two AVA references and the small network of the embedded data."""


def model_window(name: str, which: str = "architecture") -> Window | None:
    """The window a named model was made for; None where any will do, as for ``timm:…``.

    Args:
        name: a model's name.
        which: ``"architecture"``, or ``"published"`` for what MicroG-Bench gave the model: for its two SlowFasts
            that is the slow pathway's frame count given to the fast one.
    """
    if which not in ("architecture", "published"):
        raise unknown_name("window", which, ("architecture", "published"), where="model.window")
    model = ZOO.get(name)
    if model is None:
        return None
    return model.published_window or model.window if which == "published" else model.window
