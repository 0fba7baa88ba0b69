"""Role of this process among the processes of one run."""

from __future__ import annotations

from pytorch_lightning.utilities import rank_zero_only


def is_leader() -> bool:
    """Return whether this process writes the files of the run: it is the first of several, or the only one."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0
