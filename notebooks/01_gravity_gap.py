# %% [markdown]
# # The gravity gap
#
# An action detector that learned on Earth has never seen a person upside down, a floor on the side, or somebody who
# "sits" without a seat. This notebook trains a small one on clips from Earth, tests it there and in microgravity, and
# puts the difference between two bounds: what it reaches without adaptation, and what it would reach if the target
# clips had been labelled.
#
# The data is embedded: the package draws people who act with and without gravity. Training is kept to a minute or
# two on a laptop, so the levels are low. What is shown is how the gap is measured; `make demo` and the README have
# longer runs.

# %%
import tempfile
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image
from rich.console import Console

from microg_da import fit, load_config
from microg_da.runs.examples import read_example_list
from microg_da.synthetic.contact_sheet import contact_sheet

contact_sheet(rows=3, size=104).quantize(128)

# %% [markdown]
# Left: Earth. Right: microgravity. Each row is a clip, four of its frames, with the people's boxes at the keyframe and
# what each person does. The actions are the same on both sides; what changes is which way is up, how bodies hold
# themselves and move, and the room.
#
# ## One run
#
# A configuration is an experiment's YAML with a few keys changed. `bounds=true` also trains the target-supervised
# detector, which starts from the source model and sees target labels that no adaptation may see. `adabn` is the
# cheapest adaptation there is: a look at unlabelled target clips, to re-estimate the statistics of batch norm.

# %%
SMALL = [
    "model=r2plus1d_tiny",
    "synthetic.train_clips=300",
    "synthetic.val_clips=20",
    "synthetic.test_clips=120",
    "training.batch_size=8",
    "training.epochs=4",
    "target_supervised.epochs=4",
]
config = load_config("ava2microg", ["adaptation=adabn", "bounds=true", *SMALL])
run = fit(config, root=tempfile.mkdtemp(), name="gap", console=Console(quiet=True))
print(run.record.notice)

# %% [markdown]
# ## Three detectors, two test sets
#
# mAP × 100 (a detection counts if it names the action of that person; boxes are given):

# %%
results = run.results
domains = {"source": "Earth", "target": "microgravity"}
overall = pd.DataFrame(
    {
        title: {result.variant: 100 * result.score(domain, "map") for result in results.variants}
        for domain, title in domains.items()
    }
)
overall.round(1)

# %%
figure, axes = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
overall[::-1].plot.barh(ax=axes, color=["#b9c4cf", "#2f81d0"], width=0.75)
for bound in ("source_only", "target_supervised"):
    axes.axvline(overall.loc[bound, "microgravity"], color="#d9822b", linestyle="--", linewidth=1)
axes.set(xlabel="mAP × 100", ylabel="")
axes.legend(frameon=False, loc="lower right")
plt.show()

# %%
here, there = overall.loc["source_only"]
bound, adapted = overall.loc["target_supervised", "microgravity"], overall.loc["adapted", "microgravity"]
recovered = results.gap_recovered
print(f"From Earth to microgravity the source-only detector goes from {here:.1f} to {there:.1f}.")
print(f"The gap to close is {bound - there:.1f} points, between the two dashed lines.")
print(f"adabn takes the detector from {there:.1f} to {adapted:.1f}:", end=" ")
print("there is no gap to recover." if recovered is None else f"{100 * recovered:.0f} % of the gap.")

# %% [markdown]
# Two different drops are easily confused. For the source-only detector, the change from Earth to microgravity mixes the
# shift of domain with how hard each test set is in itself. The *gap* is measured in one column, on one test set:
# from the source-only to the target-supervised detector. "Gap recovered" is the share of it that an adaptation gains,
# and it may be negative.
#
# ## Which actions fall
#
# The average hides that actions depend on gravity to different degrees. Each line is an action, from its average
# precision on Earth (grey) to that in microgravity (blue), of the source-only detector. Only actions with five or more
# labels in both test sets are shown: below that one person moves the figure by many points.

# %%
per_class = {domain: results.source_only.scores(domain).per_class.set_index("name") for domain in domains}
change = pd.DataFrame({domain: 100 * table["ap"] for domain, table in per_class.items()})
change["labels"] = pd.DataFrame({domain: table["support"] for domain, table in per_class.items()}).min(axis=1)
change = change[change["labels"] >= 5].astype(float)
change = change.assign(change=change["target"] - change["source"]).sort_values("change", ascending=False)

figure, axes = plt.subplots(figsize=(6.5, 0.23 * len(change) + 0.9), layout="constrained")
place = range(len(change))
axes.hlines(place, change["source"], change["target"], color="#7d8590", linewidth=1.2)
axes.plot(change["source"], place, "o", color="#b9c4cf", label="Earth")
axes.plot(change["target"], place, "o", color="#2f81d0", label="microgravity")
axes.set_yticks(place, [name[:40] for name in change.index], fontsize=8)
axes.set(xlabel="average precision × 100", xlim=(0, 100))
axes.legend(frameon=False, loc="lower right")
plt.show()
print("falls most:", ", ".join(change.index[:-4:-1]))

# %% [markdown]
# ## One keyframe of each kind
#
# A run keeps a few annotated keyframes. For the first person of each: what they do, and what the two detectors would
# have said first.

# %%
examples = read_example_list(run.examples_file)
names = results.source_only.target.per_class.set_index("action_id")["name"]
shown = [next(each for each in examples if each.domain == domain) for domain in domains]


def first(probabilities: Mapping[int, float]) -> str:
    """The action with the highest probability."""
    best = max(probabilities, key=probabilities.get)
    return f"{names[best]} ({probabilities[best]:.0%})"


figure, both = plt.subplots(1, 2, figsize=(6.5, 3.2), layout="constrained")
for axes, example in zip(both, shown, strict=True):
    picture, person = Image.open(run.examples_file.parent / example.image), example.people[0]
    x1, y1, x2, y2 = person.box
    axes.imshow(picture)
    axes.add_patch(
        plt.Rectangle(
            (x1 * picture.width, y1 * picture.height),
            (x2 - x1) * picture.width,
            (y2 - y1) * picture.height,
            fill=False,
            edgecolor="#ffd640",
        )
    )
    axes.set_title(domains[example.domain], fontsize=10)
    says = [f"{variant}: {first(person.predictions[variant])}" for variant in ("source_only", "adapted")]
    axes.set_xlabel("\n".join(["does: " + ", ".join(names[i] for i in person.true), *says]), fontsize=7)
    axes.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## What to take from it
#
# - Report three rows, not one: without the two bounds a score after adaptation says nothing about adaptation.
# - Report both columns: an adapted detector that has forgotten Earth is another kind of result.
# - Look at classes, and at how many labels each has, before explaining an average.
# - This was one seed and a small budget. `python -m microg_da compare` averages seeds and pairs the differences.
#
# Everything shown was read from the run's folder; its `report.html` holds the same and more.
