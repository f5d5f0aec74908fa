"""A model with an encoder and a classifier, its stimuli, and a run with recorded teaching signals."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from analysis import RecordingConfig, train_run
from checkpoints import Stimuli
from repsim.learning import TrainingConfig


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
inputs, labels = np.float32(digits.data[:60]), digits.target[:60]
stimuli = Stimuli.of(range(60), labels, ["train", "validation", "test"] * 20, inputs)
model = Encoder()
optimizer = torch.optim.Adam(model.parameters())
step = 100

training = TrainingConfig(data="digits", depth=11, width=8, epochs=1, rule="synthetic-gradient@inner")
train_run("runs/sg", training, RecordingConfig(n_train=60, n_validation=20, n_test=20, record_signals=True))
