"""Detection of the format of a weight file from its first bytes, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from microg_da.errors import InputError

Kind = Literal["torch", "pickle", "safetensors"]

EXPORTED_WEIGHTS = "model.safetensors"
"""The weight file in a folder of ``export``, with the name that the Hugging Face Hub uses."""

_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of files of ``torch.save`` before the format became a zip archive."""

WHERE_PUBLISHED = "docs/models.md lists published weights and weights in packages (package:NAME)."

_MAX_PICKLE_BYTES = 2 * 2**30
_MAX_SAFETENSORS_HEADER = 100 * 2**20

_WEIGHT_SUFFIXES = (".pt", ".pth", ".pyth", ".pkl", ".ckpt", ".safetensors")


def weight_kind(path: str | Path) -> tuple[Path, Kind]:
    """Return the file with the weights and its format. Only the first bytes are read.

    Args:
        path: a weight file, or a folder with a ``model.safetensors``.

    Raises:
        InputError: if the file does not exist or is not a weight file.
    """
    path = Path(path)
    if path.is_dir():
        path = _weights_in(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise InputError(f"{path}: the checkpoint does not exist. {WHERE_PUBLISHED}") from error
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    return path, _kind(path, head, size)


def _kind(path: Path, head: bytes, size: int) -> Kind:
    if not head:
        raise InputError(f"checkpoint {path} is empty. Download or copy the file again. {WHERE_PUBLISHED}")
    if head.startswith((b"PK\x03\x04", _TORCH_LEGACY)):
        return "torch"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        if size > _MAX_PICKLE_BYTES:
            raise InputError(f"checkpoint {path} is a pickle of {size / 2**30:.1f} GiB, more than any published file")
        return "pickle"
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 0 < header <= min(_MAX_SAFETENSORS_HEADER, size):
        return "safetensors"
    raise _no_weights(path, head)


def _no_weights(path: Path, head: bytes) -> InputError:
    text = head.lstrip()[:64].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return InputError(
            f"checkpoint {path} is a web page, not a weight file. Download the file again. {WHERE_PUBLISHED}"
        )
    if text.startswith(b"version https://git-lfs"):
        return InputError(f"checkpoint {path} is a Git LFS pointer, not a weight file. Get it with `git lfs pull`")
    if path.suffix.lower() == ".onnx":
        exported = (path.parent / EXPORTED_WEIGHTS).is_file()
        give = (
            f"Give the folder with the weights: {path.parent}"
            if exported
            else ("Give a run's detector.pt, or a folder made by export")
        )
        return InputError(f"checkpoint {path} is an ONNX network, which is not a weight file. {give}.")
    return InputError(
        f"checkpoint {path} is not a weight file: expected a PyTorch checkpoint, a Caffe2 pickle or safetensors"
    )


def _weights_in(folder: Path) -> Path:
    """Return the weight file in a folder made by ``export``."""
    if (folder / EXPORTED_WEIGHTS).is_file():
        return folder / EXPORTED_WEIGHTS
    if (folder / "config.yaml").is_file():
        detectors = sorted((folder / "checkpoints").glob("*/detector.pt"))
        files = f"Give one of its detectors: {_some(detectors)}" if detectors else "The run has no finished detector"
        raise InputError(f"{folder} is the folder of a run, not a weight file. {files}. predict has --run.")
    inside = sorted(each for each in folder.iterdir() if each.suffix.lower() in _WEIGHT_SUFFIXES and each.is_file())
    if inside:
        raise InputError(f"{folder} is a folder, not a weight file. Give one of its files: {_some(inside)}.")
    raise InputError(
        f"{folder} is a folder without weights. Give a weight file, or a folder made by export, with its "
        f"{EXPORTED_WEIGHTS}."
    )


def _some(paths: list[Path], most: int = 3) -> str:
    return ", ".join(map(str, paths[:most])) + (", …" if len(paths) > most else "")
