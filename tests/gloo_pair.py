"""Two processes that work together over gloo. They are forks of one that has imported the package: that takes long."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["microg_da.training.module", "microg_da.models.tiny"])


def run_pair(work: Callable[..., Any], folder: Path, *arguments: Any, limit: float = 120) -> list[Any]:
    """What ``work(rank, *arguments)`` returns in each of two processes that form a group.

    Args:
        work: a function at the top of a module.
        folder: where the processes meet, speak and leave what they return.
        arguments: for ``work``; they are pickled.
        limit: seconds until they are given up.
    """
    workers = [_SERVER.Process(target=_worker, args=(rank, folder, limit, work, arguments)) for rank in range(2)]
    for worker in workers:
        worker.start()
    end = time.monotonic() + limit
    try:
        while waited_for := [worker.sentinel for worker in workers if worker.exitcode is None]:
            # One that fails leaves the other waiting for it.
            if not connection.wait(waited_for, end - time.monotonic()) or any(worker.exitcode for worker in workers):
                break
        said = "\n".join((folder / f"{rank}.log").read_text()[-4000:] for rank in range(2))
        assert [worker.exitcode for worker in workers] == [0, 0], f"{limit:g} s were allowed:\n{said}"
    finally:
        for worker in workers:
            worker.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _worker(rank: int, folder: Path, limit: float, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    log = os.open(folder / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    # The rank in the environment tells Lightning that it need not start processes itself.
    os.environ |= {"LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""}
    rendezvous = f"file://{folder}/rendezvous"
    group = {"rank": rank, "world_size": 2, "timeout": timedelta(seconds=limit)}
    torch.distributed.init_process_group("gloo", init_method=rendezvous, **group)
    torch.save(work(rank, *arguments), folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
