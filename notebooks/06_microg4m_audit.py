# %% [markdown]
# # Contents and leakage of the data
#
# Three questions decide whether a comparison of models is valid. Is the table correct? Is the test set independent of
# the training set? Does each class have enough examples? `audit` answers them from the annotations, without frames and
# without a network.
#
# The notebook reads the published tables of MicroG-4M if the environment variable `MICROG_DA_TEST_DATA` names a folder
# that contains `microg4m/`. Otherwise it writes the annotations of the embedded data as files of the same layout and
# reads them. It shows counts only, no rows.

# %%
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from microg_da.data.annotations import write_annotations
from microg_da.data.audit import audit, group_table
from microg_da.data.options import parse_options
from microg_da.data.sources import open_source, read_dataset_files
from microg_da.types import SPLITS


def embedded_files() -> Path:
    """The embedded microgravity annotations as files, in the layout that MicroG-4M is trained from."""
    root = Path(tempfile.mkdtemp())
    for split, clips in zip(SPLITS, (240, 60, 100), strict=True):
        window = {"num_frames": 1, "sampling_rate": 1, "image_size": 32, "look": "real"}  # for tables, not pictures
        data = open_source(
            "synthetic:microgravity",
            split=split,
            taxonomy="microg50",
            labelled=True,
            train=False,
            num_clips=clips,
            **window,
        )
        write_annotations(data.annotations(), root / "annotations" / f"ava_{split}.csv")
    return root


published = Path(os.environ.get("MICROG_DA_TEST_DATA", "")) / "microg4m"
found = published.is_dir()
data, root = ("MicroG-4M", published) if found else ("embedded microgravity data", embedded_files())
files, options = read_dataset_files(f"microg4m:{root}", check_boxes=False)
division = files.split(options)
result = audit(files, division, source=data)
print(f"audited: {data}; split {result.split}")

# %% [markdown]
# The command in the terminal is `python -m microg_da audit --data microg4m:/path`. `--html` writes an HTML page.
#
# ## Findings
#
# The table lists the findings of the checks. The first line of the output lists the checks without findings.

# %%
print(
    "checks without findings:", ", ".join(finding.name for finding in result.findings if not finding.count) or "(none)"
)
pd.set_option("display.max_colwidth", None)
columns = {"count": [each.count for each in result.problems], "description": [each.detail for each in result.problems]}
pd.DataFrame(columns, index=[each.name for each in result.problems])

# %% [markdown]
# A duplicate row counts a label twice. A label without a box cannot be tested. In a class with few test examples,
# one box can change the average precision by tens of points. Findings about source videos mean that test clips and
# training clips come from the same videos. The score on such clips measures recognition in known rooms, not
# generalisation to a new mission.
#
# ## Contents

# %%
pd.Series(result.counts, name=data).to_frame()

# %%
result.splits

# %%
group_table(result.classes)

# %% [markdown]
# A mean over classes hides the imbalance of the labels. In the next figure, each bar shows the number of labels of one
# class in the test split, on a logarithmic scale. Bars that end left of the dashed line are classes with fewer than
# five examples.

# %%
tested = result.classes.set_index("name")["test"].sort_values()
seen = tested[tested > 0]
figure, axes = plt.subplots(figsize=(7, 0.16 * len(seen) + 0.9), layout="constrained")
axes.barh(range(len(seen)), seen, color="#2f81d0")
axes.set_yticks(range(len(seen)), [name[:40] for name in seen.index], fontsize=7)
axes.axvline(5, color="#d9822b", linestyle="--")
axes.set(xscale="log", xlabel="labels in the test split", title=data, ylim=(-0.7, len(seen) - 0.3))
plt.show()
print(f"{len(tested) - len(seen)} of {len(tested)} classes have no test example, {(seen < 5).sum()} have one to four.")

# %% [markdown]
# ## A split by source video
#
# The published split divides by clip. `by-source` keeps every source video in one split. Among such splits it selects
# the one with the most even distribution of classes. The table shows the overlap of each split with training:

# %%
fair = files.split(parse_options({"scheme": "by-source"}, where="this notebook", kind="microg4m"))
shares = {
    f"{name}, {split}": each.shared_source_videos(split, files.sources)
    for name, each in (("published", division), ("by-source", fair))
    for split in ("val", "test")
}
columns = {
    "clips": "of_clips",
    "clips whose source video is in train": "clips",
    "source videos shared with train": "source_videos",
}
pd.DataFrame({title: {name: getattr(share, key) for name, share in shares.items()} for title, key in columns.items()})

# %% [markdown]
# By construction, the `by-source` rows have no shared source videos. If the published rows have some, compare models on
# both splits. The difference between the two scores shows how much a score depends on known source videos. (In `fit`,
# use `microg4m:/path?scheme=by-source`.)
#
# ## Validating the audit
#
# An audit without findings is evidence only if it detects existing faults. The cell inserts a known number of each
# fault into a copy of the table, in memory, and counts them again.

# %%
faulty, rows = files.annotations.copy(), len(files.annotations)
faulty.loc[faulty.index[:3], "x2"] = 1.2  # three boxes extend beyond the image
faulty.loc[faulty.index[10:14], "y2"] = faulty.loc[faulty.index[10:14], "y1"]  # four boxes have no height
faulty = pd.concat([faulty, faulty.iloc[[-1, -2]]], ignore_index=True)  # two rows appear twice
again = audit(replace(files, annotations=faulty, actions=None), division, source="with inserted faults")
clean = audit(replace(files, actions=None), division, source="unchanged")

names = ["boxes outside the image", "boxes without area", "duplicate rows"]
counts = {
    name: {each.name: each.count for each in checked.findings}
    for name, checked in (("before", clean), ("after", again))
}
pd.DataFrame(counts).loc[names].assign(inserted=[3, 4, 2])

# %% [markdown]
# Each count increases by the number of inserted faults. The audit cannot check whether a label is correct: a person
# must inspect the clips. If frames are available, `python -m microg_da audit` also reports near-identical clips.
#
# [docs/microg4m.md](../docs/microg4m.md) has more findings on this benchmark, with the commands that reproduce them.
