"""Kind of a weight file, determined from its first bytes, without torch and before the file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from microg_da.errors import InputError

Kind = Literal["torch", "pickle", "safetensors"]

EXPORTED_WEIGHTS = "model.safetensors"
"""The weights in a folder that ``export`` has made, as on the Hugging Face hub."""

_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How ``torch.save`` began its files before they were zip archives."""

WHERE_PUBLISHED = "docs/models.md lists published weights and weights in packages (package:NAME)."

_MAX_PICKLE_BYTES = 2 * 2**30
_MAX_SAFETENSORS_HEADER = 100 * 2**20

_WEIGHT_SUFFIXES = (".pt", ".pth", ".pyth", ".pkl", ".ckpt", ".safetensors")


def weight_kind(path: str | Path) -> tuple[Path, Kind]:
    """The file with the weights, and its kind. Only the first bytes are read.

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
        raise InputError(f"checkpoint {path} is empty: the download or copy failed, get it again. {WHERE_PUBLISHED}")
    if head.startswith((b"PK\x03\x04", _TORCH_LEGACY)):
        return "torch"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        if size > _MAX_PICKLE_BYTES:
            raise InputError(f"checkpoint {path} is a pickle of {size / 2**30:.1f} GiB: no published weight file is")
        return "pickle"
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 0 < header <= min(_MAX_SAFETENSORS_HEADER, size):
        return "safetensors"
    raise _no_weights(path, head)


def _no_weights(path: Path, head: bytes) -> InputError:
    text = head.lstrip()[:64].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return InputError(
            f"checkpoint {path} is a web page, not weights: the server sent an error page. {WHERE_PUBLISHED}"
        )
    if text.startswith(b"version https://git-lfs"):
        return InputError(f"checkpoint {path} is a Git LFS pointer, not weights: fetch the file with `git lfs pull`")
    if path.suffix.lower() == ".onnx":
        exported = (path.parent / EXPORTED_WEIGHTS).is_file()
        give = (
            f"Give its folder, which holds the weights: {path.parent}"
            if exported
            else ("Give its origin: a run's detector.pt, or a folder made by export")
        )
        return InputError(f"checkpoint {path} is an ONNX network, from which weights cannot be read. {give}.")
    return InputError(
        f"checkpoint {path} is not a weight file: expected a PyTorch checkpoint, a Caffe2 pickle or safetensors"
    )


def _weights_in(folder: Path) -> Path:
    """The weights in a folder made by ``export``."""
    if (folder / EXPORTED_WEIGHTS).is_file():
        return folder / EXPORTED_WEIGHTS
    if (folder / "config.yaml").is_file():
        detectors = sorted((folder / "checkpoints").glob("*/detector.pt"))
        files = f"one of its detectors: {_some(detectors)}" if detectors else "wait until it has trained a detector"
        raise InputError(f"{folder} is a run's folder, not a weight file. Give {files}. predict takes it as --run.")
    inside = sorted(each for each in folder.iterdir() if each.suffix.lower() in _WEIGHT_SUFFIXES and each.is_file())
    if inside:
        raise InputError(f"{folder} is a folder, not a weight file. Give one of the files in it: {_some(inside)}.")
    raise InputError(
        f"{folder} is a folder without weights. Give a weight file, or a folder made by export, with its "
        f"{EXPORTED_WEIGHTS}."
    )


def _some(paths: list[Path], most: int = 3) -> str:
    return ", ".join(map(str, paths[:most])) + (", …" if len(paths) > most else "")
