"""Memory that is freed and asked for again costs nothing the second time."""

import platform
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
TINY = [
    *(
        "adaptation=source_only",
        "training.epochs=1",
        "training.batch_size=4",
        "data.image_size=32",
        "model.num_frames=2",
    ),
    *("synthetic.train_clips=4", "synthetic.val_clips=2", "synthetic.test_clips=2", "synthetic.workers=0"),
]

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


@glibc
def test_pages_are_asked_for_once():
    pages = 4 * (64 + 40) * 2**20 // resource.getpagesize()
    assert faults("given back") > pages / 2
    assert faults("kept") < pages / 100


@glibc
def test_commands_keep_freed_memory_and_python_functions_do_not(tmp_path, monkeypatch):
    from microg_da import allocator, fit
    from microg_da.cli import main
    from microg_da.config import load_config
    from microg_da.video.detector_loading import scorer_of_run

    calls = []
    library = SimpleNamespace(mallopt=lambda *values: calls.append(values) or 1)
    monkeypatch.setattr(allocator, "ctypes", SimpleNamespace(CDLL=lambda _: library))
    run = fit(load_config("ava2microg", TINY), root=tmp_path, name="run")
    scorer_of_run(run.path)
    assert not calls
    assert main(["fit", "adaptation=nonsense"]) == 2
    assert calls
