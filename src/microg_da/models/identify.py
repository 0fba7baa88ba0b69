"""Identification of the known networks that a weight file fits, by the names and shapes of its entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from microg_da.models.build import build_detector
from microg_da.models.checkpoints import CheckpointReport, match
from microg_da.models.detector import ActionDetector
from microg_da.models.weight_files import read_weights, training_setting
from microg_da.models.weight_names import convert
from microg_da.zoo import ZOO, Window


@dataclass(frozen=True)
class KnownNetwork:
    """The fit of a network of the zoo, or of several networks with the same weights, to a file.

    The head of a file is included if it loads; a head of another size is ignored.

    Attributes:
        models: the names, most probable first; networks with several names differ only in the window.
        fitting: number of parameters with the same name and shape in file and network.
        of_network: share of these parameters in the network.
        of_file: share of these parameters in the file.
        fits: whether everything fits except a head of another size.
        window: the training window stored in the file, or None.
    """

    models: tuple[str, ...]
    fitting: int
    of_network: float
    of_file: float
    fits: bool
    window: Window | None

    @property
    def share(self) -> float:
        """The smaller of both fractions; 1 only if file and network have the same entries."""
        return min(self.of_network, self.of_file)

    def as_dict(self) -> dict[str, object]:
        """Return the values as plain containers for JSON."""
        window = None if self.window is None else self.window._asdict()
        return asdict(self) | {"share": self.share, "window": window}


def known_networks(path: str | Path, num_classes: int = 50) -> list[KnownNetwork]:
    """Return the networks of the zoo in order of their fit to a weight file, best first.

    Networks that differ only in their window are built once, on the meta device.

    Args:
        path: see :func:`~microg_da.models.weight_files.read_weights`.
        num_classes: number of outputs of the head.

    Raises:
        InputError: if the file cannot be read.
    """
    # Joining of entries, as for MViT, has no cost on the meta device.
    weights = {name: value.to("meta") for name, value in read_weights(path).items()}
    window = _trained_window(path)
    by_builder: dict[str, list[str]] = {}
    for name, facts in ZOO.items():
        by_builder.setdefault(facts.builder, []).append(name)
    found = []
    for names in by_builder.values():
        detector = _without_memory(names[0], num_classes)
        fitting, report = match(detector, weights, path)
        likeliest = sorted(names, key=lambda name: window not in (ZOO[name].window, ZOO[name].published_window))
        found.append(_network(tuple(likeliest), detector, fitting, report, weights, window))
    return sorted(found, key=lambda network: -network.share)


@cache
def _without_memory(name: str, num_classes: int) -> ActionDetector:
    """Return a network on the meta device, built once in a process."""
    with torch.device("meta"):
        return build_detector(name, num_classes)


def _network(
    names: tuple[str, ...],
    detector: ActionDetector,
    fitting: dict[str, Tensor],
    report: CheckpointReport,
    weights: dict[str, Tensor],
    window: Window | None,
) -> KnownNetwork:
    state = detector.state_dict()
    wanted = {name: value for name, value in state.items() if not (report.replaced and name.startswith("head."))}
    count = _parameters(fitting)
    # Ignores a head of another size, and rows of classes that this head does not have.
    converted = convert(weights, detector.backbone)
    body = {name: value for name, value in converted.items() if not name.startswith("head.")}
    head = {name: value for name, value in fitting.items() if name.startswith("head.")}
    given = _parameters(body | head)
    return KnownNetwork(
        models=names,
        fitting=count,
        of_network=count / max(1, _parameters(wanted)),
        of_file=count / max(1, given),
        fits=report.fits,
        window=window,
    )


def _parameters(entries: Mapping[str, Tensor]) -> int:
    """Return the number of parameters, without statistics of batch normalisation."""
    return sum(value.numel() for name, value in entries.items() if not name.endswith(_STATISTICS))


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _trained_window(path: str | Path) -> Window | None:
    window_parts = [training_setting(path, "DATA", key) for key in ("NUM_FRAMES", "SAMPLING_RATE")]
    if window_parts[0] is None or window_parts[1] is None:
        return None
    return Window(int(window_parts[0]), int(window_parts[1]))
