"""
Record a network of your own
============================

Any PyTorch network, in any training loop, can be recorded. Here it is a transformer of the Hugging Face library, made
from a small configuration with random weights, so that nothing is downloaded; with ``from_pretrained`` in its place the
rest is the same. Two such networks learn a toy task, and their layers are compared while they learn.

This example needs the extra ``transformers``: ``pip install 'repsim-sg[transformers]'``.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from checkpoints import Capture, Run, Stimuli, TokenMean
from probes import NetworkLayers, probe_layers
from repsim import pairwise

# %%
# A task
# ------
#
# Sentences of 4 to 12 words from a vocabulary of 60. Each of five topics has 12 words of its own, and four words in
# ten are of the topic. Shorter sentences are padded with the token 0, and an attention mask says what is padding.

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
# What is recorded
# ----------------
#
# ``Stimuli`` are what the network is shown at every recorded step: a name, a label, a part of the split and the input
# of each. The input is one array, or as here several by name, which the network is called with. They are kept in the
# order of their labels: from here on, ``stimuli.ids`` and ``stimuli.labels`` say which row is which.

stimuli = Stimuli.of([f"sentence-{i}" for i in range(n)], topics, split, inputs)
print(len(stimuli), "stimuli, the first of them:", stimuli.ids[:3], stimuli.labels[:3])

# %%
# ``Capture`` says which modules, and how each is made smaller. A layer of a transformer returns (n, tokens, units). Its
# mean over tokens is one vector a sentence; the mask keeps padding out of it. The pattern ``bert.encoder.layer.*``
# matches each layer, but nothing inside of it. A layer that returns a tuple gives one recorded layer a tensor in it.


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
    """Return what is recorded of a model: embeddings and each layer, as means over tokens."""
    layers = ["bert.embeddings", "bert.encoder.layer.*"]
    return Capture(model, layers=layers, reduce={"**": TokenMean(mask="attention_mask")})


print(capture_of(build(0)).names)

# %%
# A loop of your own
# ------------------
#
# ``Run.create`` makes the directory and holds its lock. ``run.checkpoint`` commits one step: weights, optimizer, random
# generators and activations, all or nothing. Meanwhile the model is in evaluation mode and without gradients;
# afterwards it is as it was. ``run.log`` adds a line to ``metrics.jsonl``.

torch.set_num_threads(1)  # so small a network gains nothing from more
folder = TemporaryDirectory()
x = {name: torch.from_numpy(part[:300]) for name, part in inputs.items()}
y = torch.from_numpy(topics[:300])


def train(seed, recorded=(0, 20, 80)):
    """Train one network, and record it."""
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
# ``verify`` reads every checkpoint again and compares it with its checksums.

print("intact steps:", runs[0].verify())
layer = runs[0].last().activations["bert.encoder.layer.2"]
print(f"{layer.name}: {layer.shape}, from {layer.source_shape} of {layer.source_dtype} by {layer.reduction}")

# %%
# Read it back
# ------------
#
# From a linear probe's point of view, the topic is there before any training: a mean of random word vectors is enough
# to read it. What training does is to make it easier to read.

recordings = [
    NetworkLayers(layers=run[step].activations, network="bert", seed=seed, checkpoint=step)
    for seed, run in runs.items()
    for step in run.recorded_steps
]
table = probe_layers(recordings, stimuli.labels, stimuli.split, Cs=[0.01, 0.1, 1.0])
means = table.groupby(["layer", "checkpoint"], sort=False).accuracy.mean().unstack()
print(means.round(2))

# %%
# Are they alike?
# ---------------
#
# CKA of each layer of one network with each of the other, on the held-out sentences, before and after training.

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
# Before training, a layer with small weights hardly changes what it is given, and means of random vectors of the same
# words are somewhat alike in any network: what CKA sees there are the stimuli. A similarity between trained networks is
# worth something only beside that of untrained ones.
#
# Such a run directory is one that ``repsim analyze`` and ``repsim compare`` read, too. To record with the library's
# ``Trainer``, see ``checkpoints.callbacks.transformers``; to record a network that is trained already, ``repsim
# record``.

plt.show()
folder.cleanup()
