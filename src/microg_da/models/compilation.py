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
    """Let a backbone be compiled when it first sees a clip, in place; names, weights and hooks stay.

    It is compiled again for frames of another size. Copies of the backbone are not compiled. The head is left as it
    is: it takes another number of people each time, and little of the work.

    Args:
        backbone: the network.
        backend: as ``torch.compile`` takes it.

    Raises:
        InputError: if its stages have activation checkpoints, which the compiler cannot follow.
    """
    if has_checkpoints(backbone):
        raise InputError("model.compile: the stages have activation checkpoints. Use one of the two.")
    backbone.compile(backend=backend, dynamic=False)  # libraries compute other sizes in ways it cannot follow


def check_can_compile(device: str) -> None:
    """Refuse to compile where the first step would fail.

    Args:
        device: its type, e.g. ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: if the device is not supported, or what compiles for it is not installed.
    """
    if device == "cpu":
        if not any(shutil.which(name) for name in _COMPILERS):
            raise InputError(
                f"model.compile=true needs a C++ compiler on the CPU, and there is none of {', '.join(_COMPILERS)}. "
                "Install one, or set model.compile=false."
            )
    elif device == "cuda":
        if find_spec("triton") is None:
            raise InputError(
                "model.compile=true needs the package triton on a GPU: pip install triton, or set model.compile=false."
            )
    else:
        raise InputError(f"model.compile=true: no network is compiled for {device}. Set model.compile=false.")
