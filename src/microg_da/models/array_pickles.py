"""Safe reading of pickles with NumPy arrays. NumPy's own reading is not memory-safe for damaged files."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

_NUMBERS = re.compile(r"[<>|=]?[fiub](1|2|4|8)")


class RefusedError(Exception):
    """A pickle contains something other than arrays and plain containers; the message names it."""


class _Type:
    """Replacement for ``numpy.dtype``."""

    __slots__ = ("name",)

    def __init__(self, name: str, *_: object) -> None:
        self.name = str(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.name = state[1] + self.name.lstrip("<>|=")

    def array(self, content: object, shape: Any, order: str) -> np.ndarray | None:
        """Return the numbers in some bytes; None for other types. The length is checked first."""
        if not _NUMBERS.fullmatch(self.name):
            return None
        if not isinstance(content, (str, bytes, bytearray)):
            raise ValueError("an array without bytes")
        content = content.encode("latin1") if isinstance(content, str) else bytes(content)
        return np.frombuffer(content, np.dtype(self.name)).reshape(shape, order="F" if order == "F" else "C")


class _Array:
    """Placeholder for an array until its state is known."""

    __slots__ = ("values",)

    def __init__(self, *_: object) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        self.values = kind.array(content, shape, "F" if fortran else "C")


def _scalar(kind: _Type, content: object) -> object:
    number = kind.array(content, (), "C")
    return None if number is None else number.item()


def _from_buffer(content: object, kind: _Type, shape: Any, order: str) -> np.ndarray | None:
    """Function that pickles of protocol 5 call to make arrays."""
    return kind.array(content, shape, order)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Function that pickles of protocol 2 call to make bytes."""
    return text.encode(encoding)


# NumPy has moved these functions between modules; files contain the former names.
_ADMITTED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
}


# The implementation in Python, since that in C allocates memory by a possibly damaged number.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise RefusedError(f"{module}.{name}") from None

    def persistent_load(self, pid: object) -> Any:
        raise RefusedError(f"an outside object {pid!r}")


def load_arrays(file: BinaryIO) -> object:
    """Return the contents of a pickle, with numeric arrays in mappings, and None for other arrays.

    Raises:
        RefusedError: if it contains anything but arrays and plain containers.
        Exception: of any type, if the file is damaged.
    """
    # The files of the Caffe2 zoo were written by Python 2.
    return _finished(_Unpickler(file, encoding="latin1").load())


def _finished(item: object) -> object:
    if isinstance(item, dict):
        return {key: _finished(value) for key, value in item.items()}
    return item.values if isinstance(item, _Array) else item
