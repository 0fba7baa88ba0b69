"""A seeded generator and many staged clips, shared by the tests of the simulator."""

from __future__ import annotations

import numpy as np
import pytest

from microg_da.synthetic.render import Staging, stage_clip
from microg_da.synthetic.spec import SyntheticSpec


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def stagings() -> dict[str, list[Staging]]:
    """160 clips of each domain, staged but not drawn."""
    return {
        domain: [stage_clip(SyntheticSpec(domain, num_clips=160, seed=3), index) for index in range(160)]
        for domain in ("earth", "microgravity")
    }
