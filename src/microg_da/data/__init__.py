"""Data: tables of annotations, splits, frames, clips, batches, and the sources they come from.

A kind of data is a line in :data:`DATA` and a function ``(root, options) -> Tree`` that finds its tables.
"""

from microg_da.registry import Entry, Registry

DATA = Registry(
    "kind of data",
    {
        "synthetic": Entry(
            "microg_da.synthetic.source:open_split",
            "drawn people: synthetic:earth, synthetic:microgravity",
            {"options": "look, num_clips, seed, …"},
        ),
        "microg4m": Entry(
            "microg_da.data.microg4m:read_tree",
            "MicroG-4M: the release, a training tree, or its tables",
            {"options": "domain, scheme, fold, decode, window, on_error, …"},
        ),
        "ava": Entry(
            "microg_da.data.ava:read_tree",
            "AVA v2.2 in PySlowFast's tree, and custom data in its format",
            {"options": "stamp, fps, start, boxes, score_threshold, scheme, …"},
        ),
    },
)
