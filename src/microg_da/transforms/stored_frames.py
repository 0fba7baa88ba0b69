"""References to stored feature maps, which replace frames in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeGuard

import torch
from torch import Tensor

from microg_da.errors import InputError


class StoredView(NamedTuple):
    """Transform of a clip before encoding: roll about the centre, then optional mirroring.

    Attributes:
        roll: degrees clockwise in [0, 360).
        mirrored: whether the clip is mirrored horizontally after the roll.
    """

    roll: float = 0.0
    mirrored: bool = False

    def __str__(self) -> str:
        return f"roll {self.roll:g}°" + (", mirrored" if self.mirrored else "")

    def then_rolled(self, degrees: float) -> StoredView:
        """Return this view followed by a clockwise roll."""
        # A roll after mirroring equals the opposite roll before mirroring.
        roll = self.roll - degrees if self.mirrored else self.roll + degrees
        return StoredView(round(roll % 360, 3) % 360, self.mirrored)

    def then_mirrored(self) -> StoredView:
        """Return this view followed by mirroring."""
        return StoredView(self.roll, not self.mirrored)


AS_FILMED = StoredView()
"""The original clip."""


def even_views(rolls: int) -> tuple[StoredView, ...]:
    """Return the views of :func:`~microg_da.transforms.rotation.even_rolls`: evenly spaced rolls, starting at 0°."""
    return tuple(AS_FILMED.then_rolled(360 * turn / rolls) for turn in range(rolls))


class MapReader(Protocol):
    """Interface of readers of feature maps."""

    def maps(self, row: int, view: StoredView) -> tuple[Tensor, ...]:
        """Return the maps ``(C, T', H', W')`` of one clip, one for each pathway, in half precision on the CPU.

        Raises:
            InputError: if the view is not stored.
        """
        ...


@dataclass(frozen=True)
class StoredClip:
    """One clip with stored feature maps.

    Attributes:
        reader: reads the maps.
        row: index of the clip in the reader.
        shape: shape ``(3, T, H, W)`` of the frames.
        view: the view of the clip.
    """

    reader: MapReader
    row: int
    shape: tuple[int, ...]
    view: StoredView = AS_FILMED


class StoredFrames:
    """Replacement for the frames ``(B, 3, T, H, W)`` of a batch that refers to stored feature maps.

    An object has the shape of the frames. It supports indexing by clips, concatenation, rolls by stored angles and
    mirroring. Access to pixels raises an :class:`~microg_da.errors.InputError`. Maps are read when a detector needs
    them.

    Args:
        clips: the clips of the batch, all with the same shape.
        device: the device of the maps.
        batched: False for the frames ``(3, T, H, W)`` of a single clip.

    Raises:
        ValueError: if the clips differ in shape, or there are none.
    """

    dtype = torch.uint8
    requires_grad = False

    def __init__(
        self, clips: Sequence[StoredClip], device: torch.device | str = "cpu", *, batched: bool = True
    ) -> None:
        if len({clip.shape for clip in clips}) != 1 or (not batched and len(clips) != 1):
            raise ValueError(f"clips of one batch must have one shape, got {sorted({clip.shape for clip in clips})}")
        self.clips = tuple(clips)
        self.device = torch.device(device)
        self._batched = batched

    @property
    def shape(self) -> torch.Size:
        """Shape of the frames."""
        shape = self.clips[0].shape
        return torch.Size((len(self.clips), *shape) if self._batched else shape)

    def __len__(self) -> int:
        return self.shape[0]

    def dim(self) -> int:
        """Return the number of dimensions of the frames."""
        return len(self.shape)

    def is_floating_point(self) -> bool:
        """Return False, because the frames are uint8."""
        return False

    def __getitem__(self, chosen: slice | Tensor) -> StoredFrames:
        """Select clips by a slice, ``(B,)`` bool or ``(N,)`` int64.

        Raises:
            InputError: for any other index, which would need pixels.
        """
        numbers = torch.arange(len(self.clips))
        if not self._batched or not isinstance(chosen, (slice, Tensor)) or not len(part := _chosen(numbers, chosen)):
            raise _no_pixels(f"frames[{chosen!r}]")
        return StoredFrames([self.clips[number] for number in part.tolist()], self.device)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StoredFrames:
        """Return the same clips with another device for the maps."""
        return StoredFrames(self.clips, device, batched=self._batched)

    def pin_memory(self) -> StoredFrames:
        """Return the object itself, because there is no memory to pin."""
        return self

    def rolled(self, degrees: Tensor) -> StoredFrames:
        """Roll each clip clockwise by its angle of ``(B,)``. A missing view raises an error when the maps are read."""
        return self._seen(
            [clip.view.then_rolled(each) for clip, each in zip(self.clips, degrees.tolist(), strict=True)]
        )

    def flip(self, *dims: int) -> StoredFrames:
        """Mirror the clips horizontally, for ``dims`` of -1.

        Raises:
            InputError: for other dimensions.
        """
        if dims != (-1,):
            raise _no_pixels(f"flip{dims}")
        return self._seen([clip.view.then_mirrored() for clip in self.clips])

    def maps(self) -> tuple[Tensor, ...]:
        """Return the feature maps ``(B, C, T', H', W')`` of each pathway, in float32 on the device.

        Raises:
            InputError: if a view is not stored.
        """
        read = [clip.reader.maps(clip.row, clip.view) for clip in self.clips]
        return tuple(torch.stack(pathway).to(self.device).float() for pathway in zip(*read, strict=True))

    def _seen(self, views: Sequence[StoredView]) -> StoredFrames:
        clips = [
            StoredClip(clip.reader, clip.row, clip.shape, view) for clip, view in zip(self.clips, views, strict=True)
        ]
        return StoredFrames(clips, self.device, batched=self._batched)

    @classmethod
    def stack(cls, frames: Sequence[StoredFrames]) -> StoredFrames:
        """Join single clips or batches into one batch."""
        return cls([clip for part in frames for clip in part.clips], frames[0].device)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.cat and all(isinstance(part, cls) for part in args[0]) and not kwargs:
            return cls.stack(args[0])
        raise _no_pixels(f"torch.{getattr(function, '__name__', function)}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise _no_pixels(f"frames.{name}")


def is_stored(frames: object) -> TypeGuard[StoredFrames]:
    """Return whether frames are stored feature maps instead of pixels."""
    return isinstance(frames, StoredFrames)


def _chosen(numbers: Tensor, chosen: slice | Tensor) -> Tensor:
    return numbers[chosen.cpu() if isinstance(chosen, Tensor) else chosen]


def _no_pixels(asked: str) -> InputError:
    return InputError(
        f"data.feature_store: {asked} needs pixels, but the store has only feature maps. Set data.feature_store=null. "
        "Authors of a method that changes pixels state the reason in its attribute needs_encoder."
    )
