"""Source video of each row of a table."""

from __future__ import annotations

import pandas as pd

from microg_da.data.annotations import SOURCE_VIDEO, source_videos


def source_videos_of(table: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """Return the source video of each row: from the annotations ``truth`` if present, else from the clip's name."""
    from_names = source_videos(table["video_id"].astype(str))
    if SOURCE_VIDEO not in truth:
        return from_names
    named = dict(zip(truth["video_id"].astype(str), truth[SOURCE_VIDEO], strict=True))
    return table["video_id"].astype(str).map(named).fillna(from_names)
