"""The properties of all named detectors: builder, cost, crop, stride and windows.

This module is a table. It imports neither torch nor a registry, so that the configuration can import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from microg_da.errors import InputError, unknown_name


class Window(NamedTuple):
    """The ``num_frames`` frames around the keyframe, ``sampling_rate`` apart, that a model reads."""

    num_frames: int
    sampling_rate: int

    def __str__(self) -> str:
        return f"{self.num_frames}×{self.sampling_rate}"


class Sizes(NamedTuple):
    """The sizes of frames at which a model is trained and tested, in pixels.

    Attributes:
        crop: the side of the square training crop.
        smallest: the smallest short side of training frames before the crop.
        largest: the largest one.
        test: the short side of test frames.
    """

    crop: int
    smallest: int
    largest: int
    test: int


@dataclass(frozen=True)
class ZooModel:
    """One published architecture.

    Attributes:
        builder: ``"module:function"`` inside ``microg_da.models``.
        summary: one line of text.
        parameters: number of parameters of the detector with 50 classes.
        gflops: giga multiply-adds for one clip of ``window`` at ``crop`` × ``crop`` pixels.
        crop: the short side at test time, in pixels.
        stride: the actual number of input pixels per cell of the feature map.
        window: the window that the name of the architecture states.
        published_window: the window that MicroG-Bench used, if it differs.
        train_crop: the side of the square training crop, in pixels; for models of the benchmark, the benchmark's value.
        jitter: the smallest and largest short side of training frames before the crop, in pixels.
    """

    builder: str
    summary: str
    parameters: int
    gflops: float
    crop: int
    stride: int
    window: Window
    published_window: Window | None = None
    train_crop: int = 224
    jitter: tuple[int, int] = (256, 320)


ZOO = {
    "r2plus1d_micro": ZooModel(
        "tiny:r2plus1d_micro",
        "smallest residual (2+1)D network, for CPUs and the embedded data",
        337_154, 0.0451, 96, 16, Window(8, 4), train_crop=84, jitter=(96, 120),
    ),
    "r2plus1d_tiny": ZooModel(
        "tiny:r2plus1d_tiny",
        "small residual (2+1)D network for CPUs and the embedded data",
        649_250, 0.0809, 96, 16, Window(8, 4), train_crop=84, jitter=(96, 120),
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
        2_015_828, 2.774, 182, 32, Window(13, 6), train_crop=160, jitter=(182, 228),
    ),
    "x3d_l_16x5": ZooModel(
        "x3d:x3d_l",
        "X3D-L",
        4_374_938, 25.32, 356, 32, Window(16, 5), train_crop=312, jitter=(356, 446),
    ),
}  # fmt: skip
"""The benchmark's detectors, its two AVA references and the small network of the embedded data."""


def model_window(name: str, which: str = "architecture") -> Window | None:
    """Return the window of a named model; None if the model accepts any window, as ``timm:…`` does.

    Args:
        name: the name of a model.
        which: ``"architecture"``, or ``"published"`` for the window that MicroG-Bench used. For its two SlowFast
            models, MicroG-Bench gave the fast pathway the number of frames of the slow pathway.
    """
    if which not in ("architecture", "published"):
        raise unknown_name("window", which, ("architecture", "published"), where="model.window")
    model = ZOO.get(name)
    if model is None:
        return None
    return model.published_window or model.window if which == "published" else model.window


def model_sizes(name: str, where: str = "") -> Sizes:
    """Return the sizes at which a named model is trained and tested; for models of MicroG-Bench, its sizes.

    Raises:
        InputError: for a model that is not in the zoo.
    """
    model = ZOO.get(name)
    if model is None:
        raise InputError(
            f"{where}: data.sizes=published: the model {name!r} is not in the benchmark. Set data.image_size instead."
        )
    return Sizes(model.train_crop, *model.jitter, model.crop)


PAGES = {
    "PySlowFast": "https://github.com/facebookresearch/SlowFast/blob/main/MODEL_ZOO.md",
    "MViTv2": "https://github.com/facebookresearch/SlowFast/blob/main/projects/mvitv2/README.md",
}
"""Web pages that link to the published weight files."""

_ZOO_FILES = "https://dl.fbaipublicfiles.com/pyslowfast/model_zoo/"

WEIGHT_FILES = {
    "ava/C2D_8x8_R50.pkl": f"{_ZOO_FILES}ava/C2D_8x8_R50.pkl",
    "ava/SLOWFAST_32x2_R101_50_50.pkl": f"{_ZOO_FILES}ava/SLOWFAST_32x2_R101_50_50.pkl",
    "C2D_8x8_R50.pkl": f"{_ZOO_FILES}ava/pretrain/C2D_8x8_R50.pkl",
    "C2D_NOPOOL_8x8_R50.pkl": f"{_ZOO_FILES}kinetics400/C2D_NOPOOL_8x8_R50.pkl",
    "I3D_8x8_R50.pkl": f"{_ZOO_FILES}kinetics400/I3D_8x8_R50.pkl",
    "I3D_NLN_8x8_R50.pkl": f"{_ZOO_FILES}kinetics400/I3D_NLN_8x8_R50.pkl",
    "SLOWONLY_8x8_R50.pkl": f"{_ZOO_FILES}kinetics400/SLOWONLY_8x8_R50.pkl",
    "SLOWONLY_4x16_R50.pkl": f"{_ZOO_FILES}kinetics400/SLOWONLY_4x16_R50.pkl",
    "SLOWFAST_8x8_R50.pkl": f"{_ZOO_FILES}kinetics400/SLOWFAST_8x8_R50.pkl",
    "SLOWFAST_4x16_R50.pkl": f"{_ZOO_FILES}kinetics400/SLOWFAST_4x16_R50.pkl",
    "SLOWFAST_32x2_R101_50_50.pkl": f"{_ZOO_FILES}ava/pretrain/SLOWFAST_32x2_R101_50_50.pkl",
    "MVIT_B_16x4.pyth": f"{PAGES['PySlowFast']} (MViT, B-Conv, 16 x 4)",
    "MViTv2_S_16x4.pyth": f"{_ZOO_FILES}mvitv2/pysf_video_models/MViTv2_S_16x4_k400_f302660347.pyth",
    "x3d_s.pyth": "https://dl.fbaipublicfiles.com/pyslowfast/x3d_models/x3d_s.pyth",
    "x3d_l.pyth": "https://dl.fbaipublicfiles.com/pyslowfast/x3d_models/x3d_l.pyth",
}
"""Locations of the weight files of the recipes, by their path below ``weights/``.

Two files of PySlowFast have the name ``C2D_8x8_R50.pkl``: the one below ``ava/`` is trained on AVA.
"""


def weight_address(path: str) -> str | None:
    """Return the download address of the file with this path; None for a file that the recipes do not name."""
    parts = path.replace("\\", "/").split("/")
    for length in (2, 1):
        known = WEIGHT_FILES.get("/".join(parts[-length:]))
        if known is not None:
            return known
    return None


# Ratios of the published recipes: crops of 224, 160 and 312 are tested at 256, 182 and 356, and jittered up to
# 320, 228 and 445.
TEST_SIDE = 8 / 7
"""Short side of test clips as a multiple of the training crop."""


def usual_test_side(crop: int, zoom: float = 1.0) -> int:
    """Return the short side of test clips for a detector trained on square crops of ``crop`` pixels: 8/7 of it.

    Args:
        crop: side of the training crop, in pixels.
        zoom: additional factor, as in the scale jitter of training.
    """
    return int(crop * TEST_SIDE * zoom)
