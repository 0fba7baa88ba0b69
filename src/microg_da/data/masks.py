"""Masks of people: the pixels of each person in each frame, from a folder of ``<video_id>.npz``.

A file holds ``bits`` (frames, height, ⌈width/8⌉) as :func:`numpy.packbits` packs rows, and ``shape`` (frames, height,
width).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from microg_da.errors import InputError
from microg_da.files import inside

MASKS = "masks"
"""The folder of masks in the folder of a data set."""


class MaskFiles:
    """A folder with one file of masks for each video.

    Args:
        root: the folder.

    Raises:
        InputError: if there is no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(
                f"{self.root}: folder of masks not found. Expected <video_id>.npz with the arrays bits and shape."
            )

    def missing(self, video_ids: Sequence[str]) -> dict[str, str]:
        """Videos without a file, and why, found without reading any."""
        there = {path.stem for path in self.root.glob("*.npz")}
        return {video: f"{self.root / video}.npz: no such file of masks" for video in video_ids if video not in there}

    def read(self, video_id: str) -> np.ndarray:
        """The masks ``(frames, height, width)`` bool of a video.

        Raises:
            InputError: with the file that is missing, damaged or of another format.
        """
        return read_mask_file(inside(self.root, f"{video_id}.npz"))


def read_mask_file(path: Path) -> np.ndarray:
    """The masks ``(frames, height, width)`` bool in a file. Nothing in it is unpickled.

    Raises:
        InputError: if the file is missing, damaged, or of another shape than it says.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            bits, shape = file["bits"], file["shape"]
    except FileNotFoundError as error:
        raise InputError(f"{path}: mask file not found. Give the folder that contains it.") from error
    except KeyError as error:
        raise InputError(f"{path}: has no array {error}; expected bits and shape. Copy the file again.") from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise InputError(f"{path}: not a readable mask file ({error}). Copy the file again.") from error
    sizes = shape.tolist() if shape.shape == (3,) and np.issubdtype(shape.dtype, np.integer) else []
    if len(sizes) != 3 or min(sizes) < 1:
        raise InputError(f"{path}: shape is {shape.tolist()}; expected frames, height and width in pixels")
    packed = (sizes[0], sizes[1], -(-sizes[2] // 8))
    if bits.dtype != np.uint8 or bits.shape != packed:
        raise InputError(
            f"{path}: bits are {bits.dtype} {bits.shape}; expected uint8 {packed} for masks of shape {tuple(sizes)}"
        )
    return np.unpackbits(bits, axis=-1, count=sizes[2]).astype(bool)


def write_masks(masks: np.ndarray, path: str | Path) -> None:
    """Write masks ``(frames, height, width)`` for :class:`MaskFiles`, e.g. to prepare your own masks."""
    np.savez_compressed(path, bits=np.packbits(masks.astype(bool), axis=-1), shape=np.array(masks.shape))
