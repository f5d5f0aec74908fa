"""
Record a network of your own
============================

Any PyTorch network can be recorded in any training loop. This example uses a transformer of the Hugging Face library
with a small configuration and random weights, so that nothing is downloaded; ``from_pretrained`` could be used instead.
Two such networks learn a toy task, and their layers are compared during training.

This example needs the extra ``transformers``: ``pip install 'repsim-sg[transformers]'``.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from checkpoints import Capture, Run, Stimuli, TokenMean
from probes import NetworkLayers, ProbeConfig, probe_layers
from repsim import pairwise

# %%
# A task
# ------
#
# Sentences of 4 to 12 words from a vocabulary of 60. Each of five topics has 12 words of its own, and 40 % of the words
# of a sentence belong to its topic. Shorter sentences are padded with the token 0, which an attention mask marks.

rng = np.random.default_rng(0)
n, longest, n_topics = 600, 12, 5
topics = rng.integers(n_topics, size=n)
on_topic = rng.random((n, longest)) < 0.4
words = np.where(
    on_topic, 12 * topics[:, None] + rng.integers(12, size=(n, longest)), rng.integers(60, size=(n, longest))
)
mask = (np.arange(longest) < rng.integers(4, longest + 1, size=n)[:, None]).astype(np.int64)
inputs = {"input_ids": np.where(mask == 1, words + 1, 0), "attention_mask": mask}
split = np.repeat(["train", "validation", "test"], [300, 100, 200])

# %%
# Stimuli and layers
# ------------------
#
# ``Stimuli`` hold the examples that are shown to the network at every recorded step, each with an id, a label, a split
# and an input. The input is one array or, as here, several arrays by argument name. Stimuli are ordered by label:
# row i of every recorded layer belongs to ``stimuli.ids[i]``.

stimuli = Stimuli.of([f"sentence-{i}" for i in range(n)], topics, split, inputs)
print(len(stimuli), "stimuli, the first of them:", stimuli.ids[:3], stimuli.labels[:3])

# %%
# ``Capture`` selects modules, and a reduction for each of them. A layer of a transformer returns (n, tokens, units).
# The mean over tokens is one vector per sentence; the mask excludes padding. The pattern ``bert.encoder.layer.*``
# matches each layer, but no module inside of it. A module that returns a tuple gives one recorded layer per tensor.


def build(seed):
    """Return a small BERT with random weights."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=longest,
        num_labels=n_topics,
    )
    return BertForSequenceClassification(config)


def capture_of(model):
    """Return the capture of a model: embeddings and each layer, as means over tokens."""
    layers = ["bert.embeddings", "bert.encoder.layer.*"]
    return Capture(model, layers=layers, reduce={"**": TokenMean(mask="attention_mask")})


print(capture_of(build(0)).names)

# %%
# Your own training loop
# ----------------------
#
# ``Run.create`` creates the directory and holds its lock. ``run.checkpoint`` commits one step completely or not at all:
# weights, optimizer, random generators and activations. The model runs in evaluation mode without gradients, and is
# restored afterwards. ``run.log`` appends a line to ``metrics.jsonl``.

torch.set_num_threads(1)  # more threads do not help such a small network
folder = TemporaryDirectory()
x = {name: torch.from_numpy(part[:300]) for name, part in inputs.items()}
y = torch.from_numpy(topics[:300])


def train(seed, recorded=(0, 20, 80)):
    """Train and record one network."""
    model = build(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    capture = capture_of(model)
    batches = np.random.default_rng(seed)
    with Run.create(Path(folder.name) / f"bert-{seed}", {"lr": 2e-3, "seed": seed}, stimuli) as run:
        for step in range(max(recorded) + 1):
            if step in recorded:
                run.checkpoint(step, model, optimizer, capture=capture)
            rows = torch.from_numpy(batches.choice(300, size=32, replace=False))
            loss = model(**{name: part[rows] for name, part in x.items()}, labels=y[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log({"step": step + 1, "loss": loss.item()})
        run.set_status("finished")
    return Run.open(run.path)


runs = {seed: train(seed) for seed in (0, 1)}
for seed, run in runs.items():
    losses = [record["loss"] for record in run.metrics()]
    print(f"seed {seed}: steps {run.recorded_steps}, loss {losses[0]:.2f} at first and {losses[-1]:.2f} at the end")

# %%
# ``verify`` compares every checkpoint with its checksums.

print("intact steps:", runs[0].verify())
layer = runs[0].last().activations["bert.encoder.layer.2"]
print(f"{layer.name}: {layer.shape}, from {layer.source_shape} of {layer.source_dtype} by {layer.reduction}")

# %%
# Read it back
# ------------
#
# A linear probe can read the topic before any training, because the mean of random word vectors contains it. Training
# makes the topic easier to read.

recordings = [
    NetworkLayers(layers=run[step].activations, network="bert", seed=seed, checkpoint=step)
    for seed, run in runs.items()
    for step in run.recorded_steps
]
table = probe_layers(recordings, stimuli, config=ProbeConfig(Cs=[0.01, 0.1, 1.0]))
means = table.groupby(["layer", "checkpoint"], sort=False).accuracy.mean().unstack()
print(means.round(2))

# %%
# Similarity of the two networks
# ------------------------------
#
# CKA between all layers of one network and all layers of the other, on the test sentences, before and after training.

test = stimuli.split == "test"
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for ax, step in zip(axes, (0, 80), strict=True):
    a, b = ({name: X[test] for name, X in run[step].activations.items()} for run in runs.values())
    cka = pairwise(a, b)
    image = ax.imshow(cka.values, vmin=0, vmax=1, origin="lower", cmap="magma")
    names = [name.rpartition(".")[2] for name in cka.rows]
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("layer, seed 1")
    ax.set_title(f"after {step} updates", fontsize=10)
axes[0].set_ylabel("layer, seed 0")
figure.colorbar(image, ax=axes, label="unbiased linear CKA")

# %%
# Before training, a layer with small weights hardly changes its input, and means of random vectors of the same words
# are similar in any network: there CKA reflects the stimuli. The similarity of trained networks should therefore be
# compared with that of untrained networks.
#
# ``repsim analyze`` and ``repsim compare`` read these run directories as well. To record with the ``Trainer`` of the
# library, see ``checkpoints.callbacks.transformers``; to record a network that has been trained already, use
# ``repsim record``.

plt.show()
folder.cleanup()
