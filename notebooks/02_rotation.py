# %% [markdown]
# # The cost of a rolled camera
#
# In orbit the roll of people in the picture depends on how the camera is held. This notebook rotates Earth test clips
# by angles over the full circle and measures the scores of two detectors. One detector is trained on upright clips, the
# other on the same clips under every roll.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Image
from rich.console import Console

from microg_da import fit, load_config
from microg_da.data.batches import collate_clips
from microg_da.data.sources import open_source
from microg_da.evaluation.up_errors import FLIP
from microg_da.inference.roll_response import even_angles, measure_roll_response
from microg_da.reporting.gravity_picture import write_gravity_picture
from microg_da.reporting.roll import write_roll_figure
from microg_da.runs.detectors import load_run_detector
from microg_da.transforms.rotation import roll_batch

# %% [markdown]
# ## A roll rotates pictures and boxes together
#
# The figure shows one clip at several rolls. The corners are filled by reflection, because black corners would reveal
# the angle to a network. The box of a rotated person (yellow) encloses the rotated ellipse inside the upright box,
# because a body does not fill the corners of its box.

# %%
window = {"num_frames": 1, "sampling_rate": 1, "image_size": 128}
clips = open_source(
    "synthetic:earth", split="test", taxonomy="microg50", labelled=False, train=False, num_clips=4, **window
)
angles = torch.tensor([0.0, 30.0, 90.0, 135.0, 180.0])
rolled = roll_batch(collate_clips([clips[2]] * len(angles)), angles)

figure, pictures = plt.subplots(1, len(angles), figsize=(8.5, 2.1), layout="constrained")
for number, axes in enumerate(pictures):
    axes.imshow(rolled.frames[number, :, 0].permute(1, 2, 0))
    for x1, y1, x2, y2 in rolled.boxes[rolled.clip_index == number].tolist():
        axes.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="#ffd640"))
    axes.set(title=f"{angles[number]:g}°", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Two detectors, one difference
#
# Both detectors use the same clips, the same number of steps and the same initial weights. They differ only in
# `augment.rotation=180`. Neither detector is trained on clips from microgravity.

# %%
SMALL = [
    "adaptation=source_only",
    "model=r2plus1d_tiny",
    "synthetic.train_clips=300",
    "synthetic.val_clips=20",
    "synthetic.test_clips=120",
    "training.batch_size=8",
    "training.epochs=4",
]
root = Path(tempfile.mkdtemp())
settings = {"trained upright": "augment.rotation=0", "trained under every roll": "augment.rotation=180"}
runs = {
    name: fit(load_config("ava2microg", [*SMALL, key]), root=root, name=key[-3:], console=Console(quiet=True))
    for name, key in settings.items()
}

# %% [markdown]
# ## mAP by roll
#
# `measure_roll_response` tests a run's detector once for each angle, on the test clips of its source domain. Upright is
# at the top, and the distance from the centre is mAP × 100. (The notebook uses eight angles; the command
# `roll-response` uses 24.)

# %%
responses = {}
for name, run in runs.items():
    trained = load_run_detector(run.path)
    responses[name], _ = measure_roll_response(trained.predictor, run.config, even_angles(8), run.path / "roll.json")
curves = {name: response.curves["all"] for name, response in responses.items()}
files = write_roll_figure(curves, root / "roll", "mAP × 100 on Earth, by camera roll")
Image(filename=next(file for file in files if file.suffix == ".png"), width=420)

# %%
table = pd.DataFrame(
    {
        name: {
            "mAP × 100, upright": 100 * response.curves["all"][0],
            "mean over all rolls": 100 * response.curves["all"].mean(),
            "lowest": 100 * response.curves["all"].min(),
            "roll of the lowest, degrees": response.worst_angle,
            "gravity bias, %": 100 * response.gravity_bias,
            "mAP × 100, microgravity": 100 * runs[name].results.source_only.target.map,
        }
        for name, response in responses.items()
    }
).T
table.round(1)

# %% [markdown]
# **Gravity bias** is the part of the upright mAP that is lost in the mean over all rolls. It is 0 % for a detector that
# scores equally at all rolls. It is negative if a detector is by chance better at other rolls. It is a property of the
# detector and is measured without clips from microgravity. The shape is long and narrow if the detector works at one
# roll, and round if the detector is invariant to roll. A round but small shape shows the cost of invariance: the same
# number of training steps must cover every direction.
#
# ## Gravity bias by group
#
# `PM` is person movement, `OM` is object manipulation, and `PI` is person interaction.

# %%
groups = {name: response.summary().query("kind == 'group'")["gravity_bias"] for name, response in responses.items()}
figure, axes = plt.subplots(figsize=(5.5, 2.4), layout="constrained")
(100 * pd.DataFrame(groups)).plot.bar(ax=axes, rot=0, color=["#2f81d0", "#d9822b"])
axes.axhline(0, color="#7d8590", linewidth=0.8)
axes.set(ylabel="gravity bias, %", xlabel="")
axes.legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1), loc="upper left")
plt.show()
bias = pd.DataFrame(groups)["trained upright"]
print(f"Trained upright, {bias.idxmax()} has the largest gravity bias and {bias.idxmin()} the smallest.")

# %%
first, second = table.index
change = table.loc[second] - table.loc[first]
print("Changes by training under every roll, in points:")
change[["gravity bias, %", "mAP × 100, upright", "mAP × 100, microgravity"]].round(1).to_frame("change")

# %% [markdown]
# ## Clips turned upright
#
# After training under every roll, a detector must recognise people at every angle. The gravity frame avoids this: a
# small network estimates each person's up, and the clip is turned until the person is upright. The detector that is
# trained on upright clips then receives upright people. `gravity_frame` acts at test time and does not change the
# weights of the detector.

# %%
keys = [*SMALL, "adaptation=gravity_frame", "adaptation.args={steps: 400, target_steps: 200}"]
start = f"checkpoint={runs['trained upright'].detector_file('source')}"
framed = fit(load_config("ava2microg", [*keys, start]), root=root, name="frame", console=Console(quiet=True))

# %% [markdown]
# Each row shows a clip from microgravity and a clip from Earth with the same action. The red arrow is the estimated up,
# and the orange shape around it is the density of up. The chart shows the probabilities of the same detector:
# *source-only* for the clip as filmed, *adapted* for the turned clip.

# %%
Image(filename=write_gravity_picture(framed, root / "frame.png"))

# %%
up = framed.results.adapted.up["target"]
scores = {
    "trained upright": runs["trained upright"].results.source_only,
    "trained under every roll": runs["trained under every roll"].results.source_only,
    "trained upright, in the gravity frame": framed.results.adapted,
}
print(f"Median error of the estimated up: {up.decided.median_error:.0f}°.")
print(f"Errors above {FLIP:.0f}°: {up.decided.flips:.0%} of {up.people} people.")
print(f"Detector passes per clip: {up.passes:.1f}")
pd.DataFrame(
    {
        name: {"Earth": 100 * result.source.map, "microgravity": 100 * result.target.map}
        for name, result in scores.items()
    }
).T.round(1)

# %% [markdown]
# ## Conclusions
#
# - Roll is the part of the shift that is known in advance, and it is cheap to simulate. Training under every roll is
#   therefore a baseline for adaptation methods.
# - A lower gravity bias does not imply a higher mAP in microgravity. With the few training steps of this notebook, the
#   detector that is trained under every roll has the lower bias and also the lower mAP in microgravity.
# - Up can be estimated. A detector that is trained on upright people can be used on turned clips. mAP on Earth hardly
#   changes, because upright clips are not rotated: [docs/gravity_frame.md](../docs/gravity_frame.md).
# - Roll does not explain the whole gap. Posture, motion and the appearance of the cabin also differ.
# - A network can also be invariant by design: `model.roll_pooling=c4` averages features over quarter turns.
#
# [docs/rotation.md](../docs/rotation.md) has more on camera roll.
