# %% [markdown]
# # Comparing adaptation methods
#
# All methods solve the same problem: a detector is trained on Earth clips, and clips from microgravity have no labels.
# The methods differ in cost and in assumptions. This notebook trains one source detector and starts several methods
# from its weights. The last part shows how to choose between them without target labels.

# %%
import tempfile

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image
from rich.console import Console

from microg_da import fit, load_config
from microg_da.adaptation import ADAPTATIONS
from microg_da.evaluation.up_errors import FLIP
from microg_da.reporting.gravity_picture import write_gravity_picture
from microg_da.reporting.run_comparison import compare_runs
from microg_da.runs.folder import Run
from microg_da.validation import VALIDATORS

pd.set_option("display.max_colwidth", None)
pd.Series({name: ADAPTATIONS.entry(name).summary for name in ADAPTATIONS}, name="summary").to_frame()

# %% [markdown]
# After `source_only`, the first methods act at test time or process the target clips once. The next methods train,
# some of them without source clips. The last two methods are oracles, which use target labels and serve as bounds.
#
# ## One source detector

# %%
SMALL = [
    "model=r2plus1d_tiny",
    "synthetic.train_clips=300",
    "synthetic.val_clips=40",
    "synthetic.test_clips=120",
    "training.batch_size=8",
    "training.epochs=6",
    "adaptation.epochs=1",
]
root, quiet = tempfile.mkdtemp(), Console(quiet=True)
source = fit(load_config("ava2microg", ["adaptation=source_only", *SMALL]), root=root, name="source", console=quiet)
detector = source.detector_file("source")

# %% [markdown]
# ## Methods that start from it
#
# `checkpoint=` loads the source detector instead of training it, so every difference below comes from adaptation. Each
# training method has one short epoch. `source_finetune` is a control, not an adaptation: it takes the same steps on
# source clips only. The relevant measure of a method is its gain over this control. `rotation=180` rolls clips by any
# angle in training; `roll_tta` does so at test time. `gravity_frame` estimates each person's up and turns the clip
# upright in tests. `gravity_training` also trains on turned clips, here by `cdan`.

# %%
ESTIMATOR = "{steps: 400, target_steps: 200}"
METHODS = {
    "adabn": ["adaptation=adabn"],
    "roll_tta": ["adaptation=roll_tta"],
    "adabn + roll_tta": ["adaptation=adabn", "adaptation.test_time=roll_tta"],
    "source_finetune": ["adaptation=source_finetune"],
    "source_finetune, rotation": ["adaptation=source_finetune", "adaptation.rotation=180"],
    "cdan": ["adaptation=cdan"],
    "gravity_frame": ["adaptation=gravity_frame", f"adaptation.args={ESTIMATOR}"],
    "cdan in the gravity frame": ["adaptation=gravity_training", f"adaptation.args={ESTIMATOR}"],
    "cdan + roll_tta": ["adaptation=cdan", "adaptation.test_time=roll_tta", "adaptation.test_time_args.adabn=true"],
}


def adapt(name: str) -> Run:
    """Start one run of the table above."""
    keys = [*SMALL, *METHODS[name], f"checkpoint={detector}"]
    return fit(load_config("ava2microg", keys), root=root, name=name.replace(" ", ""), console=quiet)


runs = {name: adapt(name) for name in METHODS}

# %%
results = {"source_only": source.results.source_only, **{name: run.results.adapted for name, run in runs.items()}}
table = pd.DataFrame(
    {
        name: {"Earth": 100 * result.source.map, "microgravity": 100 * result.target.map}
        for name, result in results.items()
    }
).T
table["gain"] = table["microgravity"] - table.loc["source_only", "microgravity"]
table.round(1)

# %%
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
start = table.loc["source_only"]
axes.axhline(start["microgravity"], color="#7d8590", linewidth=0.8)
axes.axvline(start["Earth"], color="#7d8590", linewidth=0.8)
for marker, (name, line) in zip("osD^vPX*<>", table.iterrows(), strict=True):
    axes.plot(line["Earth"], line["microgravity"], marker, markersize=9, label=name)
axes.set(xlabel="mAP × 100 on Earth", ylabel="mAP × 100 in microgravity")
axes.legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")
plt.show()
print(f"Highest in microgravity: {table['microgravity'].idxmax()}. Highest on Earth: {table['Earth'].idxmax()}.")

# %% [markdown]
# The lines cross at the source-only detector. Methods above the horizontal line gain on the target. Methods left of the
# vertical line lose on Earth. Methods above and to the right of the crossing gain on both. Small budgets and one seed
# do not support a ranking. `benchmarks/adaptation.py` compares all methods with several seeds and more clips.
#
# ## What the gravity frame does to a clip
#
# Each row shows a clip from microgravity and a clip from Earth with the same action. The red arrow is the estimated up.
# The chart shows the probabilities of the same detector: *source-only* for the clip as filmed, *adapted* for the turned
# clip.

# %%
Image(filename=write_gravity_picture(runs["gravity_frame"], f"{root}/frame.png"))

# %%
up = runs["gravity_frame"].results.adapted.up["target"]
print(f"Median error of the estimated up: {up.decided.median_error:.0f}°.")
print(f"Errors above {FLIP:.0f}°: {up.decided.flips:.0%} of {up.people} people.")

# %% [markdown]
# ## Selection without target labels
#
# In microgravity there is no labelled set for model selection. Validators score a detector without target labels. Most
# of them use unlabelled target clips; `source_map` uses labelled source clips. Each run stores their scores. The table
# shows the method that each validator selects, and the rank correlation (Spearman) of its scores with target mAP:

# %%
scores = pd.DataFrame({name: result.validators for name, result in results.items()}).astype(float)
chosen = scores.idxmax(axis=1)
reached = chosen.map(table["microgravity"])
choices = pd.DataFrame(
    {
        "selected method": chosen,
        "points of mAP below the best method": table["microgravity"].max() - reached,
        "rank correlation with target mAP": scores.T.corrwith(table["microgravity"], method="spearman"),
        "summary": [VALIDATORS.entry(name).summary for name in scores.index],
    }
)
choices.round(2)

# %% [markdown]
# With a correlation of 1, a validator ranks the methods in the same order as target labels do. A correlation of 0 is
# chance level, and with a negative correlation the validator prefers worse methods. With few candidates these values
# vary between seeds. A validator that selects well here may fail on other data. Selection by target scores is possible
# (`selection=oracle`); all outputs of such a run are marked `oracle`. [docs/selection.md](../docs/selection.md)
# describes the validators.
#
# ## Comparison of run folders
#
# `compare` needs only the run folders. It names settings by the keys that differ. With several seeds, it pairs the
# differences by seed. Its notes list the limits of the comparison.

# %%
comparison = compare_runs([source.path, *(run.path for run in runs.values())])
print("\n".join(comparison.notes))
pd.Series(
    {
        method: None if setting.difference is None else 100 * setting.difference.mean
        for method, setting in zip(results, comparison.settings, strict=True)
    },
    name=f"difference from {next(iter(results))}, points of mAP",
).round(1).to_frame()

# %% [markdown]
# Your own method is one file and one line in a registry, and is then available in all of these tools:
# [docs/new_method.md](../docs/new_method.md).
