# %% [markdown]
# # Missions and films
#
# MicroG-4M contains recordings of missions and films. Both show microgravity, but films have actors on wires, other
# lenses and other light. How much mAP is lost if a detector is trained on films and tested on missions, and is the loss
# in the other direction the same? The embedded data has both looks. The notebook trains on each look and tests on both.

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console

from microg_da import fit, load_config
from microg_da.evaluation.protocols import Scores
from microg_da.reporting.tables import GROUP_TITLES
from microg_da.synthetic import SyntheticSpec, render_clip
from microg_da.types import Variant

# %% [markdown]
# ## Two looks
#
# Top: the look of mission recordings (`real`). Bottom: the look of films (`simulated`). Rooms, lenses, noise
# and colours differ. Both looks have the same action classes and the same motion of floating bodies.

# %%
LOOKS = ("real", "simulated")
figure, pictures = plt.subplots(2, 6, figsize=(8.5, 3), layout="constrained")
for look, line in zip(LOOKS, pictures, strict=True):
    spec = SyntheticSpec("microgravity", "test", 40, look=look, size=128, num_frames=1, sampling_rate=1)
    for index, axes in enumerate(line):
        axes.imshow(render_clip(spec, index).frames[0])
        axes.axis("off")
    line[0].set_title(look, fontsize=10, loc="left")
plt.show()

# %% [markdown]
# ## Both directions
#
# `sim2real` and `real2sim` are two experiments with the same settings. Each run tests its detector on both looks before
# and after adaptation. `adabn` only re-estimates batch-norm statistics on unlabelled clips of the other look. In both
# directions all training clips are rolled, because people float in both looks.

# %%
SMALL = [
    "adaptation=adabn",
    "augment.rotation=180",
    "model.dropout=0.1",
    "synthetic.train_clips=300",
    "synthetic.val_clips=20",
    "synthetic.test_clips=120",
    "training.batch_size=8",
    "training.epochs=4",
    "training.lr=4e-3",
]
root = tempfile.mkdtemp()
runs = {
    "real": fit(load_config("real2sim", SMALL), root=root, name="run", console=Console(quiet=True)),
    "simulated": fit(load_config("sim2real", SMALL), root=root, name="run", console=Console(quiet=True)),
}


def matrix(variant: Variant) -> pd.DataFrame:
    """Return mAP × 100 of one variant of both runs: a row for each training look, a column for each test look."""
    cells = {}
    for trained, run in runs.items():
        other = next(look for look in LOOKS if look != trained)
        result = run.results.get(variant)
        cells[trained] = {trained: 100 * result.source.map, other: 100 * result.target.map}
    return pd.DataFrame(cells).T.loc[list(LOOKS), list(LOOKS)]


before, after = matrix("source_only"), matrix("adapted")

# %%
figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.1), layout="constrained")
low, high = min(before.min().min(), after.min().min()), max(before.max().max(), after.max().max())
for axes, (title, table) in zip(panels, {"source-only": before, "adabn": after}.items(), strict=True):
    axes.imshow(table, cmap="Blues", vmin=low - 10, vmax=high + 10)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=13)
    axes.set_xticks(range(2), LOOKS)
    axes.set_yticks(range(2), LOOKS, rotation=90, va="center")
    axes.set(xlabel="tested on", ylabel="trained on", title=f"mAP × 100, {title}")
plt.show()

# %% [markdown]
# The diagonal shows each detector on the look of its training data. The other cells show it on the other look. Compare
# within a column: the test set is the same, so the difference is the cost of training on the other look. A comparison
# along a row uses two test sets, and one of them may be harder.

# %%
transfer = pd.DataFrame(
    {
        f"{other} → {look}": {
            "trained on the same look": before.loc[look, look],
            "trained on the other look": before.loc[other, look],
            "cost of the other look": before.loc[look, look] - before.loc[other, look],
            "gain of adabn": after.loc[other, look] - before.loc[other, look],
        }
        for look, other in (LOOKS, LOOKS[::-1])
    }
).T
transfer.round(1)

# %%
costs = transfer["cost of the other look"]
print(f"The cost is larger in the direction {costs.idxmax()}, by {costs.max() - costs.min():.1f} points.")
gains = transfer["gain of adabn"]
print(f"adabn changes mAP by {', '.join(f'{gain:+.1f} ({direction})' for direction, gain in gains.items())}.")

# %% [markdown]
# A negative cost means that the detector that is trained on the other look scores higher. The two costs can differ:
# training data with more variety can transfer better in one direction than in the other. Both detectors use the same
# number of clips, so only the content of the clips differs. With 120 test clips, differences of one or two points are
# noise, and the costs and gains above are of this size.
#
# ## Transfer by group of actions
#
# The figure shows the mean average precision of the source-only detectors on the look that is not in their training
# data, for each group of classes. Compare bars of one colour: the two colours have different test sets.


# %%
def by_group(scores: Scores) -> pd.Series:
    """Return the mean AP × 100 of each group, over the classes that have examples."""
    classes = scores.per_class[scores.per_class["support"] > 0]
    return 100 * classes.groupby("group")["ap"].mean().rename(GROUP_TITLES)


crossed = pd.DataFrame(
    {f"{look} → {other}": by_group(runs[look].results.source_only.target) for look, other in (LOOKS, LOOKS[::-1])}
)
figure, axes = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
crossed.plot.bar(ax=axes, rot=0, color=["#2f81d0", "#d9822b"])
axes.set(ylabel="mAP × 100", xlabel="")
axes.legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")
plt.show()

# %% [markdown]
# ## On MicroG-4M
#
# The same two experiments run on the real clips:
# `'data.source=microg4m:/path?footage=simulated' 'data.target=microg4m:/path?footage=real'`. The audit in
# `06_microg4m_audit` shows two problems. First, there are far more mission clips than film clips: use equally many
# clips in both directions. Second, the published split shares source videos between train and test, which inflates only
# the diagonal: use `scheme=by-source`.
