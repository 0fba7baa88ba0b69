"""Data: tables of annotations, splits, frames, clips, batches, and the sources they come from.

A kind of data is a line in :data:`DATA` and a function ``(root, options) -> DatasetFiles`` that finds its tables. A
split scheme is a line in :data:`SCHEMES` and a function. Functions of other packages are named
``package.module:function`` or by entry points of the groups ``microg_da.data`` and ``microg_da.splits``.
"""

from microg_da.registry import Entry, Registry

DRAWN = "synthetic"
"""The kind of data that is rendered, and not read from files."""

DATA = Registry(
    "kind of data",
    {
        DRAWN: Entry(
            "microg_da.synthetic.source:open_split",
            "rendered people: synthetic:earth, synthetic:microgravity",
            {"options": "look, num_clips, seed, …"},
        ),
        "microg4m": Entry(
            "microg_da.data.microg4m:read_microg4m",
            "MicroG-4M: the release, a training tree or its tables",
            {"options": "footage, scheme, fold, decode, window, on_error, …"},
        ),
        "ava": Entry(
            "microg_da.data.ava:read_ava",
            "AVA v2.2 in the layout of PySlowFast, and custom data in this format",
            {"options": "stamp, fps, start, boxes, score_threshold, scheme, …"},
        ),
        "jhmdb": Entry(
            "microg_da.data.jhmdb:read_jhmdb",
            "JHMDB: one action per clip, boxes and masks of the person in every frame",
            {"options": "keyframes, scheme, fold, decode, on_error, …"},
        ),
        "folder": Entry(
            "microg_da.data.folder:read_folder",
            "clips in one folder per class, as in Kinetics, UCF101, ARID and Daily-DA",
            {"options": "boxes, source_video, scheme, fold, decode, on_error, …"},
        ),
    },
    group="microg_da.data",
    check="microg_da.data.outside:check_opener",
)

DOWNLOAD_PAGES = {
    "microg4m": "https://huggingface.co/datasets/LEI-QI-233/MicroG-HAR-train-ready",
    "ava": "https://github.com/facebookresearch/SlowFast/blob/main/slowfast/datasets/DATASET.md",
}
"""The download page of each kind of data."""

SCHEMES = Registry(
    "split scheme",
    {
        "published": Entry("microg_da.data.splits:published", "the split in the files of the data set"),
        "by-source": Entry("microg_da.data.splits:by_source", "7:1:2 by source video, stratified"),
        "by-source-kfold": Entry(
            "microg_da.data.splits:by_source_kfold",
            "k folds of source videos: one for test, the next for val, the others for train",
        ),
        "leave-one-film-out": Entry(
            "microg_da.data.splits:leave_one_film_out", "one film for test, the other source videos for train and val"
        ),
    },
    group="microg_da.splits",
    check="microg_da.data.outside:check_split",
)


def list_data(pattern: str = "*") -> list[str]:
    """Return the kinds of data, with which a SOURCE begins.

    Example:
        >>> from microg_da import list_data
        >>> list_data("m*")
        ['microg4m']

    Args:
        pattern: a shell-style pattern.
    """
    return DATA.names(pattern)


def list_splits(pattern: str = "*") -> list[str]:
    """Return the split schemes, for ``SOURCE?scheme=NAME``.

    Example:
        >>> from microg_da import list_splits
        >>> list_splits("by-*")
        ['by-source', 'by-source-kfold']

    Args:
        pattern: a shell-style pattern.
    """
    return SCHEMES.names(pattern)
