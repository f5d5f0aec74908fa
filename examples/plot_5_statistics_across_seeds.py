"""
Statistics across seeds
=======================

A difference between two networks is a fact about two networks. A claim about two *learning rules* is about networks
that nobody has trained yet. So the unit of replication, the *replicate*, is a trained network; a thousand test images
of one network are one network. This page trains six of each rule and asks what may be said.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

from analysis import RecordingConfig, train_seeds
from analysis.plots import plot_by_layer
from probes import (
    LogisticProbe,
    NetworkLayers,
    ProbeConfig,
    example_interval,
    probe_layers,
    seed_bands,
    seed_differences,
)
from repsim import pairwise, rdm
from repsim.learning import TrainingConfig
from repsim.similarity import adjust, categorical_rdm, compare_groups, mantel_test

# %%
# Twelve networks
# ---------------
#
# ``train_seeds`` trains all seeds of a rule, as one stack where that is faster. Networks of equal seed start from equal
# weights and see the same batches, whatever the rule: they are *pairs*.

folder = TemporaryDirectory()
seeds = [0, 1, 2, 3, 4, 5]
rules = {"backprop": "backprop", "feedback alignment": "feedback-alignment"}
recording = RecordingConfig(steps="last", diagnose="none", n_train=400, n_validation=100, n_test=200)
runs = {}
for name, rule in rules.items():
    config = TrainingConfig(data="digits", depth=4, width=24, rule=rule, boundaries="all", epochs=10, batch_size=64)
    trained = train_seeds(Path(folder.name) / rule, config, recording, seeds=seeds)
    for seed, run in zip(seeds, trained, strict=True):
        runs[name, seed] = run

stimuli = runs["backprop", 0].stimuli
recordings = [
    NetworkLayers(layers=run.last().activations, network=name, seed=seed, checkpoint=run.steps[-1])
    for (name, seed), run in runs.items()
]
table = probe_layers(recordings, stimuli, config=ProbeConfig(Cs=[0.1]))
print(table.groupby(["network", "layer"]).accuracy.agg(["mean", "min", "max", "count"]).round(3))

# %%
# The inner level: examples
# -------------------------
#
# How sure is the accuracy of *one* network, given that there are 200 test images? Bootstrapping the images says so. It
# is an honest interval for this network and these weights. It is not one for the rule, however many images there are.

test = stimuli.split == "test"
last = runs["backprop", 0].last().activations["hidden.4"][:]
train = stimuli.split == "train"
probe = LogisticProbe(C=0.1).fit(last[train], stimuli.labels[train])
interval = example_interval(probe.predict(last[test]) == stimuli.labels[test])
print(f"one network: {interval.mean:.3f}, {interval.low:.3f} to {interval.high:.3f} with other images")

# %%
# The outer level: seeds
# ----------------------
#
# ``seed_bands`` gives an interval for one layer that was chosen beforehand, and a wider band that covers *all* layers
# at once. As one looks along a curve for the layer where something happens, the band is the one to draw.

bands = seed_bands(table, group="network")
bands["depth"] = bands.groupby("network").cumcount() + 1
figure, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
plot_by_layer(
    bands, "mean", ylabel="probe accuracy, mean of 6 seeds", curve="network", band=("band_low", "band_high"), ax=ax
)
ax.set_title("95 % bands over all layers", fontsize=10)

# %%
# Differences, in pairs
# ---------------------
#
# Bands that overlap do not show that there is no difference: what two networks of a pair have in common, their first
# weights and their batches, cancels when one is subtracted from the other. ``p_adjusted`` allows for four layers and
# takes nothing to be normal. It flips the signs of whole seeds. Of n seeds there are 2ⁿ⁻¹ flips that differ, so that
# there is a least p-value, in ``p_least``, however large the effect is.

differences = seed_differences(table, reference="backprop", group="network")
print(differences[["layer", "difference", "band_low", "band_high", "p_adjusted", "p_least"]].round(3).to_string())

# %%
# How many seeds?
# ---------------
#
# The same in numbers, two-sided: with five seeds nothing can be below 0.05. "Not significant" with three seeds says
# nothing at all about the rules.

for n in (2, 3, 4, 5, 6, 8, 10):
    print(f"{n:2} seeds: no p-value below {2.0 ** (1 - n):.4f}")

# %%
# Are layers less alike between rules than within one?
# ----------------------------------------------------
#
# Two backprop networks of different seeds are not alike either: that is the yardstick. ``compare_groups`` takes the
# similarity of every network with every other and asks whether feedback alignment is further from backprop than
# backprop from itself. Say ``seeds=``: pairs of equal seeds are alike because they started alike, and are left out.
# Groups are then permuted within seeds, in 2⁶ ways, so that no p-value is below 1/64; ``p_max`` allows for the four
# layers.

networks = {
    f"{name} {seed}": {layer: X[test] for layer, X in run.last().activations.items()}
    for (name, seed), run in runs.items()
}
names = [f"hidden.{k}" for k in (1, 2, 3, 4)]
cases = [pairwise({network: layers[name] for network, layers in networks.items()}) for name in names]
groups = [name for name, _ in runs]
outcome = compare_groups(cases, groups, reference="backprop", seeds=[seed for _, seed in runs])
print(outcome.frame({"layer": names}).round(3).to_string())
print(f"least p-value: {outcome.p_least:.4f}")

# %%
# The null distribution can be looked at: each of the 64 ways to call one network of each pair backprop.

figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), sharey=True, layout="constrained")
for ax, name, null, found in zip(axes, names, outcome.null.T, outcome.differences, strict=True):
    ax.hist(null, bins=15, color="0.75")
    ax.axvline(found, color="C3")
    ax.set_title(name, fontsize=10)
figure.supxlabel("CKA within backprop − CKA between the rules", fontsize=10)
axes[0].set_ylabel("divisions")

# %%
# Another question, another replicate
# -----------------------------------
#
# Does the geometry of *this* layer follow the classes? Here the replicates are stimuli. The Mantel test permutes which
# stimulus is which, in one network. It can reach small p-values, as there are many stimuli, and generalises to no other
# network. To say so of a rule one needs it of several seeds; as one test a layer was made, correct for their number.

D = {name: rdm(networks["feedback alignment 0"][name], "euclidean") for name in names}
classes = {"classes": categorical_rdm(stimuli.labels[test])}
tests = {name: mantel_test(classes, matrix, n_permutations=500, seed=0) for name, matrix in D.items()}
p = np.array([each.p[0] for each in tests.values()])
for name, each, corrected in zip(names, tests.values(), adjust(p, "holm"), strict=True):
    print(f"{name}: r = {each.values[0]:.3f}, p = {each.p[0]:.3f}, corrected {corrected:.3f}")

# %%
# With 500 permutations no p-value is below 1/501, for the same reason: what was observed counts as one of them.
#
# In short:
#
# - Decide what would be drawn again: images, or networks. Count those.
# - Pair by seed, and say so to the test.
# - One layer chosen beforehand has an interval; a curve has a band.
# - Report the least p-value that the number of seeds allows, above all if nothing is significant.

plt.show()
folder.cleanup()
