"""Compilation of backbones by ``torch.compile``."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from microg_da.errors import InputError
from microg_da.models.activation_checkpointing import has_checkpoints
from microg_da.models.backbone import Backbone

_COMPILERS = ("g++", "c++", "clang++", "cl")
"""The C++ compilers that PyTorch looks for."""


def compile_backbone(backbone: Backbone, backend: str = "inductor") -> None:
    """Compile a backbone in place at its first clip; names, weights and hooks do not change.

    The backbone is compiled again for frames of another size. Copies of the backbone are not compiled. The head is not
    compiled, because the number of people varies and the cost of the head is small.

    Args:
        backbone: the network.
        backend: ``backend`` of ``torch.compile``.

    Raises:
        InputError: if the stages have activation checkpoints, which the compiler does not support.
    """
    if has_checkpoints(backbone):
        raise InputError("model.compile does not support activation checkpoints. Disable one of the two.")
    backbone.compile(
        backend=backend, dynamic=False
    )  # for other sizes, libraries use operations that the compiler does not support


def check_can_compile(device: str) -> None:
    """Check that compilation is possible on a device.

    Args:
        device: type of the device, e.g. ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: if the device is not supported, or its compiler is not installed.
    """
    if device == "cpu":
        if not any(shutil.which(name) for name in _COMPILERS):
            raise InputError(
                f"model.compile=true needs a C++ compiler on the CPU, but found none of {', '.join(_COMPILERS)}. "
                "Install one, or set model.compile=false."
            )
    elif device == "cuda":
        if find_spec("triton") is None:
            raise InputError(
                "model.compile=true needs the package triton on a GPU: pip install triton, or set model.compile=false."
            )
    else:
        raise InputError(f"model.compile=true: compilation for {device} is not supported. Set model.compile=false.")
