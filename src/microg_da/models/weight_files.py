"""Reading of weight files of all published formats without running their code.

The format is recognised by the content, not by the suffix. Only tensors and plain containers are returned.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from microg_da.errors import InputError
from microg_da.models.array_pickles import RefusedError, load_arrays
from microg_da.models.packages import package_file, packaged, with_timm_names
from microg_da.models.weight_kinds import Kind, weight_kind

StateDict = dict[str, Tensor]

_NESTED_UNDER = ("model_state", "state_dict", "blobs", "model", "model_state_dict", "module")
"""Keys of the weights inside a checkpoint: PySlowFast and pytorchvideo, Lightning, Caffe2, others."""


def read_weights(path: str | Path) -> StateDict:
    """Return the named tensors in a weight file, on the CPU, with the names in the file.

    Args:
        path: a PyTorch checkpoint (PySlowFast, pytorchvideo, torchvision, Lightning, this package), a Caffe2 pickle of
            PySlowFast's model zoo, a safetensors file, a folder with a ``model.safetensors``, or ``package:NAME`` for
            weights in an installed package, which get timm's names.

    Raises:
        InputError: if the file is missing, empty, truncated, not a weight file, or contains code.
    """
    package = packaged(path)
    path, kind = weight_kind(package_file(package) if package else path)
    tensors = _tensors(_READERS[kind](path))
    if package:
        return with_timm_names(tensors, package.encoder)
    if not tensors:
        raise InputError(f"checkpoint {path} contains no tensors: expected named weights in the format of torch.save")
    return tensors


def training_setting(path: str | Path, section: str, key: str) -> float | None:
    """Return a positive number of the configuration that PySlowFast stores with the weights, or None.

    Raises:
        InputError: if the file cannot be read, see :func:`read_weights`.
    """
    values = _training_config(path).get(section)
    value = values.get(key) if isinstance(values, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and 0 < value < math.inf else None


def _training_config(path: str | Path) -> Mapping[str, object]:
    if packaged(path):
        return {}
    path, kind = weight_kind(path)
    content = _read_torch(path) if kind == "torch" else None
    text = content.get("cfg") if isinstance(content, Mapping) else None
    if not isinstance(text, str):
        return {}
    try:
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _read_torch(path: Path) -> object:
    try:
        # Only used entries are read from an archive. The optimizer state, half of most checkpoints, is not read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))
    except Exception as error:
        # A damaged pickle can raise any exception, and PyTorch's exceptions differ between versions.
        if isinstance(error, pickle.UnpicklingError) and "EOF" not in str(error):
            raise InputError(f"checkpoint {path} is refused: {_refusal(str(error))}") from error
        reason = _first_line(error.__context__ or error)
        raise InputError(f"checkpoint {path} is damaged or cut short ({reason}): get it again") from error


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _read_safetensors(path: Path) -> object:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(f"checkpoint {path} is safetensors: `pip install safetensors` to read it") from error
    try:
        return load_file(path)
    except Exception as error:
        raise InputError(f"checkpoint {path} is damaged or cut short ({_first_line(error)}): get it again") from error


def _read_pickle(path: Path) -> object:
    with path.open("rb") as file:
        try:
            return load_arrays(file)
        except RefusedError as error:
            raise InputError(f"checkpoint {path} is refused: {_refusal(str(error))}") from error
        except Exception as error:
            # A damaged pickle can raise any exception.
            raise InputError(
                f"checkpoint {path} is damaged or cut short ({_first_line(error)}): get it again"
            ) from error


_READERS: dict[Kind, Callable[[Path], object]] = {
    "torch": _read_torch,
    "pickle": _read_pickle,
    "safetensors": _read_safetensors,
}


def _refusal(message: str) -> str:
    """Return the message for a global in a file, from torch's message or ours."""
    words = message.split("GLOBAL ", 1)
    wanted = words[1].split()[0] if len(words) > 1 and words[1].split() else _first_line(message)
    return f"it contains {wanted}, but only tensors, arrays and plain containers are allowed. No code was run."


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def _tensors(content: object) -> StateDict:
    """Return the named tensors of a checkpoint, at any level of nesting."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _NESTED_UNDER if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        return {}
    return {str(name): value for name, item in content.items() if (value := _as_tensor(item)) is not None}


def _as_tensor(item: object) -> Tensor | None:
    if isinstance(item, Tensor):
        return item.detach()
    if isinstance(item, np.ndarray) and item.dtype.kind in "fiub":
        return torch.from_numpy(np.array(item))
    return None
