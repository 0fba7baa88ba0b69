"""Configuration, normalisation and weights of a network of transformers, from a folder, the hub or a family name.

This module imports neither torch nor transformers before weights are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microg_da.errors import InputError, first_line, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "hf:"

FAMILIES = ("videomae", "vjepa2", "timesformer", "hiera")
"""The families of networks, by ``model_type`` in ``config.json``. A family is also a valid name of a network."""

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

_CONFIG = "config.json"
_PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
_NESTED = ("video_processor", "image_processor")


@dataclass(frozen=True)
class Pixels:
    """The normalisation of pixels of a network: ``(value · rescale − mean) / std`` of values in 0…255, RGB.

    Attributes:
        mean: mean of each colour.
        std: standard deviation of each colour.
        rescale: factor of the values, which is applied first.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale: float = 1 / 255


@dataclass(frozen=True)
class NetworkFiles:
    """The configuration of a network, and the folder of its weights.

    Attributes:
        family: one of :data:`FAMILIES`.
        config: the content of ``config.json``.
        pixels: the normalisation in the folder, or None.
        folder: the folder of the weights; None for a family name.
    """

    family: str
    config: Mapping[str, Any]
    pixels: Pixels | None = None
    folder: Path | None = None


def check_network_name(name: str, where: str) -> None:
    """Check that a network can be opened, without a network connection.

    Raises:
        InputError: if transformers is not installed, or the name is the path of a folder without ``config.json``.
    """
    if find_spec("transformers") is None:
        raise InputError(
            f"{where}: {PREFIX}{name} needs the package transformers: pip install 'microg_da[transformers]'."
        )
    folder = Path(name).expanduser()
    if name not in FAMILIES and (folder.is_dir() or name.startswith((".", "/", "~"))):
        _read_json(folder / _CONFIG, required=True)


def open_network(name: str, revision: str | None = None, weights: bool = True) -> NetworkFiles:
    """Return the files of a network.

    Args:
        name: a folder written by ``save_pretrained``, the name of a repository of the hub, or one of :data:`FAMILIES`
            for the standard configuration of a family.
        revision: branch, tag or commit of the repository.
        weights: whether to download weights from the hub.

    Raises:
        InputError: if the folder or repository does not exist, or the network has another family.
    """
    if name in FAMILIES:
        return NetworkFiles(name, {})
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _fetch(name, revision, weights)
    config = _read_json(folder / _CONFIG, required=True)
    family = config.get("model_type")
    if family not in FAMILIES:
        raise unknown_name("kind of network of transformers (model_type)", str(family), FAMILIES, str(folder / _CONFIG))
    return NetworkFiles(family, config, _pixels(folder), folder)


def folder_weights(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a folder from one or several safetensors files. Other formats are not read.

    Raises:
        InputError: if there is no safetensors file, or a file is damaged.
    """
    from microg_da.models.weight_files import read_weights

    if (folder / WEIGHTS).is_file():
        return read_weights(folder / WEIGHTS)
    if not (folder / INDEX).is_file():
        others = sorted(file.name for file in folder.glob("*.bin"))
        instead = (
            f" To read {others[0]} without running code in the file: model.options.pretrained=false "
            f"model.checkpoint={folder / others[0]}."
            if others
            else " Give a folder with weights, or set model.options.pretrained=false for random weights."
        )
        raise InputError(f"{folder}: expected weights in {WEIGHTS}, found none.{instead}")
    names = _read_json(folder / INDEX, required=True).get("weight_map")
    if not isinstance(names, dict) or any(Path(str(file)).name != file for file in names.values()):
        raise InputError(f"{folder / INDEX}: expected `weight_map`, from names of weights to files of this folder.")
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(names.values())):
        tensors |= read_weights(folder / file)
    return tensors


def _fetch(name: str, revision: str | None, weights: bool) -> Path:
    """Return the folder of a repository of the hub in the local cache."""
    from huggingface_hub import snapshot_download

    patterns = [_CONFIG, *_PROCESSORS, *([WEIGHTS, INDEX, "model-*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the client also raises exceptions of its transport
        raise InputError(
            f"model.name={PREFIX}{name}: folder {name} not found, and the hub has no readable repository of this name "
            f"({first_line(error)[:200]}). Give a folder with {_CONFIG} and {WEIGHTS}, or one of "
            f"{', '.join(FAMILIES)} for random weights."
        ) from error


def _pixels(folder: Path) -> Pixels | None:
    for file in _PROCESSORS:
        settings = _read_json(folder / file)
        settings = next((settings[key] for key in _NESTED if isinstance(settings.get(key), dict)), settings)
        if "image_mean" in settings or "do_normalize" in settings:
            return _read_pixels(settings, folder / file)
    return None


def _read_pixels(settings: Mapping[str, Any], file: Path) -> Pixels | None:
    rescale = float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0
    if not settings.get("do_normalize", True):
        return Pixels((0.0,) * 3, (1.0,) * 3, rescale)
    try:
        mean, std = (tuple(float(value) for value in settings[key]) for key in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError):
        mean = std = ()
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(f"{file}: expected image_mean and image_std, three numbers each, the latter above 0.")
    return Pixels(mean, std, rescale)


def _read_json(file: Path, *, required: bool = False) -> dict[str, Any]:
    if not file.is_file():
        if required:
            raise InputError(
                f"{file}: the file does not exist. Give a folder written by save_pretrained of transformers."
            )
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not readable as JSON ({first_line(error)}).") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a JSON object.")
    return content
