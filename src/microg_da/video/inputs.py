"""Quick checks of the inputs of `predict`: existence and kinds of files."""

from __future__ import annotations

import os
from pathlib import Path

from microg_da.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def is_image(path: str | Path) -> bool:
    """Return whether a file has the suffix of an image."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def check_person_detector(path: str | Path) -> None:
    """Check by its first bytes that a file may be an ONNX network.

    Raises:
        InputError: if the file does not exist, is a folder, or has another format.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(path.glob("*.onnx"))
        give = f"Give the file in it: {inside[0]}" if inside else "Give an ONNX file of YOLOX"
        raise InputError(f"{path}: found a folder, expected a person detector. {give}.")
    if not path.is_file():
        raise InputError(f"{path}: the person detector does not exist. Give an ONNX file of YOLOX.")
    with path.open("rb") as file:
        head = file.read(2)
    # An ONNX file begins with field 1, the version of the format, which is a small number.
    if len(head) < 2 or head[0] != 0x08 or not 0 < head[1] < 0x80:
        raise InputError(f"{path}: not an ONNX network. Give an ONNX file of YOLOX, exported with COCO's classes.")


def check_output(path: str | Path) -> None:
    """Check that a folder can be created and written, without creating it.

    Raises:
        InputError: if the path or a parent is a file, or write permission is missing.
    """
    path = Path(path)
    above = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"--output {path}: {above} is not a writable folder. Choose another --output.")
