"""
First steps: two learning rules, layer by layer
===============================================

Two networks of equal shape, equal initial weights and equal batches learn to read handwritten digits. One is trained by
backpropagation. In the other a synthetic gradient stands in the middle: the lower half never sees the true gradient of
the loss, but what a small module predicts it to be. Both solve the task. What do their layers do?

This page goes once through the house: train and record, probe, compare. The commands ``repsim train``, ``repsim
analyze`` and ``repsim compare`` do the same and write a report.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import pandas as pd

from analysis import RecordingConfig, train_run
from analysis.plots import plot_by_layer, plot_rdm
from probes import NetworkLayers, probe_layers
from repsim import class_structure, pairwise, rdm
from repsim.learning import TrainingConfig

# %%
# Train and record
# ----------------
#
# A ``TrainingConfig`` holds everything that decides the numbers of a training run, and a ``RecordingConfig`` says which
# activations are kept, and when. ``digits`` are 1,797 images of 8 × 8 pixels, which come with scikit-learn. Each run is
# a directory; here it is in a temporary folder.
#
# The rule acts at a *boundary*: boundary 4 lies after hidden layer 4. At all other boundaries there is backprop.

folder = TemporaryDirectory()
rules = {"backprop": "backprop", "synthetic gradient": "synthetic-gradient@4"}
runs = {
    name: train_run(
        Path(folder.name) / name.replace(" ", "-"),
        TrainingConfig(data="digits", depth=8, width=32, rule=rule, epochs=20, batch_size=64, seed=0),
        RecordingConfig(steps="first,last", layers=("hidden.*",), diagnose="none"),
    )
    for name, rule in rules.items()
}
for name, run in runs.items():
    print(f"{name}: recorded at steps {run.recorded_steps}")

# %%
# A run opens its last recorded step as ``run.last()``. Its ``activations`` are a mapping from layer names to arrays
# that are read from HDF5 when they are asked for. The stimuli, in order of their labels, are the same of both runs,
# since the split and the choice of stimuli follow from ``split_seed`` and not from the seed of the network.

layers = {name: run.last().activations for name, run in runs.items()}
stimuli = runs["backprop"].stimuli
print(list(layers["backprop"]))
print(layers["backprop"]["hidden.4"].shape, "of which", (stimuli.split == "test").sum(), "held out")

# %%
# What can be read from each layer?
# ---------------------------------
#
# A linear probe is fitted to each layer on the training stimuli, its penalty chosen on the validation stimuli, and
# scored once on the test stimuli. Each row carries a certificate: the objective is no further above its minimum than
# ``relative_gap`` times the objective.

recordings = [NetworkLayers(layers=activations, network=name) for name, activations in layers.items()]
table = probe_layers(recordings, stimuli.labels, split=stimuli.split)
print(table.pivot(index="layer", columns="network", values="accuracy").round(3))
print("largest relative gap:", f"{table.relative_gap.max():.1e}")

# %%
# How are the classes arranged?
# -----------------------------
#
# A representational dissimilarity matrix (RDM) holds the distance of each pair of stimuli in one layer. With stimuli in
# order of their labels, classes are blocks along the diagonal. ``class_structure`` is one number for that: the mean
# distance between classes minus the mean distance within.
#
# Correlation distance is 1 for unrelated patterns, 0 for proportional ones. What is shown is held out.

test = stimuli.split == "test"
labels = stimuli.labels[test]
shown = ["hidden.1", "hidden.4", "hidden.8"]
figure, axes = plt.subplots(2, len(shown), figsize=(8, 5.2), layout="constrained")
for row, (name, activations) in zip(axes, layers.items(), strict=True):
    for ax, layer in zip(row, shown, strict=True):
        matrix = rdm(activations[layer][test], method="correlation")
        plot_rdm(matrix, labels, {digit: str(digit) for digit in range(10)}, limits=(0, 1.5), ax=ax)
        ax.set_title(f"{name}, {layer}", fontsize=9)
figure.colorbar(axes[0, 0].images[0], ax=axes, label="correlation distance", extend="max")

# %%
# Probes and structure by layer
# -----------------------------
#
# With the synthetic gradient in the middle, the classes come apart in earlier layers, though a probe reads the digits
# from every layer of both networks, to within a few hundredths: a probe asks what *can* be read, a distance what lies
# near to what. These are two networks, and no more; what may be said of two *rules* is the subject of :ref:`another
# example <sphx_glr_gallery_plot_5_statistics_across_seeds.py>`.

structure = pd.DataFrame(
    {
        "network": name,
        "layer": layer,
        "depth": depth,
        "structure": class_structure(rdm(activations[layer][test]), labels),
    }
    for name, activations in layers.items()
    for depth, layer in enumerate(activations, start=1)
)
table["depth"] = table.groupby("network").cumcount() + 1
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
plot_by_layer(table, "accuracy", ylabel="accuracy of a linear probe, test", curve="network", ax=left)
plot_by_layer(structure, "structure", ylabel="class structure", curve="network", ax=right)

# %%
# Are the layers alike?
# ---------------------
#
# Unbiased linear centred kernel alignment (CKA) of each layer of one network with each of the other: 1 for layers that
# differ by a rotation, a scale and a shift, 0 on average for unrelated ones. Row: backprop, column: synthetic gradient.

held_out = {name: {layer: X[test] for layer, X in activations.items()} for name, activations in layers.items()}
cka = pairwise(held_out["backprop"], held_out["synthetic gradient"], measure="cka")
figure, ax = plt.subplots(figsize=(4.8, 4), layout="constrained")
image = ax.imshow(cka.values, vmin=0, vmax=1, origin="lower", cmap="magma")
ticks = range(len(cka.rows))
ax.set_xticks(ticks, [name.rpartition(".")[2] for name in cka.columns])
ax.set_yticks(ticks, [name.rpartition(".")[2] for name in cka.rows])
ax.set_xlabel("hidden layer, synthetic gradient")
ax.set_ylabel("hidden layer, backprop")
figure.colorbar(image, label="unbiased linear CKA")

plt.show()
folder.cleanup()
