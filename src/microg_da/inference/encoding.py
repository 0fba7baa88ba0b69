"""The frozen encoder of the feature store, which converts clips to feature maps in half precision."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from microg_da.config import Config
from microg_da.data.feature_store import STORE_VERSION
from microg_da.inference.trainer import resolve_device
from microg_da.models.backbone import Backbone, normalise
from microg_da.transforms.rotation import roll_frames
from microg_da.transforms.stored_frames import StoredView

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Encoder:
    """Encodes clips on the device and in the precision of a configuration.

    Args:
        backbone: the frozen network, which stays on the CPU between calls.
        config: the configuration, with the network and the hardware.

    Attributes:
        name: name of the network and hash of its weights. Stored maps with this name are outputs of this encoder.
    """

    def __init__(self, backbone: Backbone, config: Config) -> None:
        self.backbone = backbone.eval()
        self.device = resolve_device(config.trainer)
        self.dtype = _AUTOCAST.get(config.trainer.precision)
        readable = re.sub(r"[^A-Za-z0-9_.]+", "-", config.model.name)
        self.name = f"{readable}-{encoder_hash(backbone, config)}"
        self._bytes: dict[tuple[int, ...], int] = {}

    @contextmanager
    def at_work(self) -> Iterator[Encoder]:
        """Keep the network on the device within the block."""
        self.backbone.to(self.device)
        try:
            yield self
        finally:
            self.backbone.cpu()

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> list[tuple[Tensor, ...]]:
        """Return for each clip of ``(B, 3, T, H, W)`` uint8 the map ``(C, T', H', W')`` of each pathway, on the CPU."""
        frames = normalise(frames.to(self.device), self.backbone.memory_format)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            maps = self.backbone(frames)
        pathways = [pathway.float().cpu() for pathway in maps]
        return [tuple(clip) for clip in zip(*pathways, strict=True)]

    def clip_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of the stored maps of one clip ``(3, T, H, W)``."""
        if shape not in self._bytes:
            with self.at_work():
                (maps,) = self(torch.zeros(1, *shape, dtype=torch.uint8))
            self._bytes[shape] = 2 * sum(pathway.numel() for pathway in maps)
        return self._bytes[shape]


def encoder_hash(backbone: Backbone, config: Config) -> str:
    """Return twelve hexadecimal digits that identify the outputs of the network."""
    options: Mapping[str, object] = config.model.options
    facts = (STORE_VERSION, config.model.name, sorted((key, repr(value)) for key, value in options.items()))
    digest = hashlib.blake2b(repr((*facts, config.trainer.precision)).encode(), digest_size=6)
    for name, value in backbone.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def seen_under(frames: Tensor, view: StoredView) -> Tensor:
    """Apply a view to frames ``(B, 3, T, H, W)``.

    Rolls of square frames are made of a roll below 90° and exact quarter turns, as in
    :func:`~microg_da.transforms.rotation.even_rolls`.
    """
    height, width = frames.shape[-2:]
    if view.roll:
        rest = view.roll % 90 if height == width else view.roll
        for degrees in (rest, view.roll - rest):
            if degrees:
                frames = roll_frames(frames, torch.full((len(frames),), degrees, dtype=torch.float64))
    return frames.flip(-1) if view.mirrored else frames
