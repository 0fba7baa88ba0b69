# %% [markdown]
# # The length of the window
#
# The input of a clip detector is a window of T frames, τ apart. Its span is T·τ / fps seconds. Without gravity people
# move differently, and mostly more slowly. Does a longer window increase mAP, and is the effect equal for postures and
# hand actions? This notebook trains the same network with several windows and the same number of optimiser steps, and
# shows the results as a heat map.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console

from microg_da import InputError, fit, load_config
from microg_da.reporting.tables import GROUP_TITLES
from microg_da.reporting.temporal_window import read_windows
from microg_da.synthetic import SyntheticSpec, render_clip

# %% [markdown]
# ## The frames of a window
#
# The figure shows the same clip with the shortest and the longest of the windows below. Both include the keyframe. They
# differ in the time that the frames around it cover.

# %%
FRAMES, RATES = (4, 8), (1, 6)
figure, strips = plt.subplots(2, 1, figsize=(8.5, 2.9), layout="constrained")
for axes, (frames, rate) in zip(strips, ((FRAMES[0], RATES[0]), (FRAMES[-1], RATES[-1])), strict=True):
    spec = SyntheticSpec("microgravity", "test", 40, size=96, num_frames=frames, sampling_rate=rate)
    strip = np.concatenate(list(render_clip(spec, 8).frames), axis=1)
    axes.imshow(np.pad(strip, ((0, 0), (0, 96 * (FRAMES[-1] - frames)), (0, 0)), constant_values=255))
    axes.set_title(f"T = {frames}, τ = {rate}: {frames * rate / 30:.2f} s", fontsize=9, loc="left")
    axes.axis("off")
plt.show()

# %% [markdown]
# ## A grid of runs
#
# The experiment `temporal_window` fixes the settings that must not differ between windows: clips, batches, epochs. The
# sweep file of the same name has the whole grid, T up to 32 and τ up to 16. The notebook runs a part of the grid with
# small frames.

# %%
SMALL = [
    "adaptation=source_only",
    "synthetic.train_clips=200",
    "synthetic.val_clips=20",
    "synthetic.test_clips=100",
    "data.image_size=64",
    "training.batch_size=8",
    "training.epochs=4",
]
root = Path(tempfile.mkdtemp())
for frames in FRAMES:
    for rate in RATES:
        window = [f"model.num_frames={frames}", f"model.sampling_rate={rate}"]
        fit(
            load_config("temporal_window", [*SMALL, *window]),
            root=root,
            name=f"{frames}x{rate}",
            console=Console(quiet=True),
        )
found = read_windows([root])
print("\n".join(found.notes))

# %%
grid = 100 * found.grid("source_only")
figure, axes = plt.subplots(figsize=(3.6, 2.8), layout="constrained")
axes.imshow(grid, cmap="Blues", vmin=grid.min().min() - 5, vmax=grid.max().max() + 5)
for (row, column), value in np.ndenumerate(grid.to_numpy()):
    axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=13)
axes.set_xticks(range(len(grid.columns)), [f"τ = {rate}" for rate in grid.columns])
axes.set_yticks(range(len(grid)), [f"T = {frames}" for frames in grid.index])
axes.set_title("mAP × 100 in microgravity", fontsize=10)
plt.show()
best = grid.stack().idxmax()
print(f"Best of these windows: T = {best[0]}, τ = {best[1]}.")

# %% [markdown]
# In a row of the map, the number of frames and the cost are constant, and the span changes. In a column, the number of
# frames grows at the same frame rate, so both the cost and the span grow.
#
# ## By group, over the span

# %%
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
titles = {"all": "all classes", **GROUP_TITLES}
for group, style in zip(found.groups, ("-", "--", "-.", ":"), strict=False):
    (100 * found.curve("source_only", group)).plot(ax=axes, style=f"o{style}", label=titles[group], markersize=4)
axes.set(xlabel=f"span T·τ, {found.unit}", ylabel="mAP × 100 in microgravity", ylim=(0, None))
axes.legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")
plt.show()
gain = {titles[group]: 100 * np.ptp(found.curve("source_only", group)) for group in found.groups}
pd.Series(gain, name="highest − lowest, points").round(1).to_frame()

# %% [markdown]
# The table shows the effect of the window on each group. A small effect suggests that a single moment is sufficient to
# recognise the actions of a group. With one seed, few clips and few steps, differences of a few points are noise, and
# the differences above are of this size. Before you rank windows, run each window with several seeds and pair them with
# `compare`.
#
# ## Impossible windows
#
# A window longer than the clip would repeat its first and last frame. This experiment refuses such a window, so every
# cell of the map has the window of its label. (`model.impossible_window=clamp` allows it, and the run reports it.)

# %%
try:
    fit(load_config("temporal_window", ["model.num_frames=16", "model.sampling_rate=8"]), console=Console(quiet=True))
except InputError as error:
    print(error)

# %% [markdown]
# One command runs the whole grid, with Optuna or W&B and for any model or adaptation: `python -m microg_da sweep
# temporal_window`. `python -m microg_da temporal-window --sweep temporal_window` draws it.
