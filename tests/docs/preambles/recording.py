"""A model with an encoder and a classifier, its data, and weights of networks that are trained already."""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from analysis import ModelConfig, record_model


class Encoder(torch.nn.Module):
    """A classifier whose layers have the names of the page."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Module()
        self.encoder.layer = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(4)))
        self.classifier = torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.classifier(self.encoder.layer(x))


digits = load_digits()
inputs, labels = np.float32(digits.data[:100]), digits.target[:100]
ids, split = range(100), ["train", "train", "train", "validation", "test"] * 20
batches = [(torch.tensor(inputs), torch.tensor(labels))] * 20
model = Encoder()
optimizer = torch.optim.Adam(model.parameters())

Path("my_models.py").write_text("""
from torch import nn


class net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 8))
        self.output = nn.Linear(8, 10)

    def forward(self, x):
        return self.output(self.hidden(x))
""")
import my_models  # noqa: E402

np.savez("stimuli.npz", X=inputs, y=labels, split=split)
Path("ckpt").mkdir()
Path("old").mkdir()
for epoch in (1, 2):
    torch.save(my_models.net().state_dict(), f"ckpt/epoch_{epoch}.pt")
    torch.save(my_models.net().state_dict(), f"old/epoch_{epoch}.pt")
torch.save(my_models.net().state_dict(), "net.pt")
record_model(ModelConfig(model="my_models:net", weights=("old/epoch_*.pt",)), "runs/other", data="stimuli.npz")
