"""The embedded data: a simulator of people who act with and without gravity.

The package draws the clips. See ``docs/synthetic.md`` for their content and limitations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from microg_da.synthetic.spec import SyntheticSpec

if TYPE_CHECKING:
    from microg_da.synthetic.dataset import SyntheticDataset
    from microg_da.synthetic.render import RenderedClip, render_clip

__all__ = ["RenderedClip", "SyntheticDataset", "SyntheticSpec", "render_clip"]


def __getattr__(name: str) -> Any:
    # Drawing processes do not import torch.
    if name == "SyntheticDataset":
        from microg_da.synthetic import dataset

        return dataset.SyntheticDataset
    if name in __all__:
        from microg_da.synthetic import render

        return getattr(render, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
