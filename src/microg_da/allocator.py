"""Memory allocation settings of this process."""

from __future__ import annotations

import ctypes
import platform

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Keep what tensors free for the next ones, until the process ends.

    glibc maps large tensors one by one and gives them back when they are freed, so that every step of a large network
    has its gigabytes zeroed again, page by page. Kept memory makes a training step of ``slow_r50_8x8`` on a CPU an
    eighth cheaper; the process holds as much as it needed at its peak.

    Returns:
        Whether the C library is one that can be told; musl, macOS and Windows have other allocators.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    glibc = ctypes.CDLL(None)
    return bool(glibc.mallopt(_MMAP_MAX, 0)) and bool(glibc.mallopt(_TRIM_THRESHOLD, -1))
