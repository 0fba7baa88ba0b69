"""Memory that is freed and asked for again costs nothing the second time."""

import platform
import resource
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
from microg_da.allocator import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "kept":
    assert keep_freed_memory()

def fill(megabytes):
    place = libc.malloc(megabytes << 20)
    ctypes.memset(place, 1, megabytes << 20)
    libc.free(place)

for _ in range(3):
    fill(64), fill(40)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    fill(64), fill(40)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_pages_are_asked_for_once():
    pages = 4 * (64 + 40) * 2**20 // resource.getpagesize()
    assert faults("given back") > pages / 2
    assert faults("kept") < pages / 100
