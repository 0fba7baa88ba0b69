"""``environment.json``: versions, machine and command, to explain differences between runs."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from microg_da.errors import InputError
from microg_da.files import write_json
from microg_da.runs.code_state import code_state
from microg_da.runs.fields import read_json

_PACKAGES = ("microg_da", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy", "pandas")


def write_environment(path: Path) -> None:
    """Write the description of this process."""
    import torch

    environment = {
        "command": " ".join(["microg_da", *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "code": asdict(code_state()),
    }
    write_json(path, environment)


def read_environment(path: Path) -> dict[str, str]:
    """Read the facts as text, with nested keys joined by dots; empty if the file does not exist.

    Raises:
        InputError: if the file is damaged.
    """
    value = read_json(path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected one JSON object, found {type(value).__name__}. Remove the file.")
    return flatten(value)


def flatten(settings: object, prefix: str = "") -> dict[str, str]:
    """Flatten a mapping: nested keys are joined by dots, values become text. Other objects give an empty mapping."""
    flat: dict[str, str] = {}
    for key, value in settings.items() if isinstance(settings, dict) else ():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat
