"""Runs of two methods with three seeds each, and a network that was trained elsewhere, with a table of targets."""

from pathlib import Path

import numpy as np
import torch

from analysis import ModelConfig, RecordingConfig, record_model, train_run
from repsim.learning import TrainingConfig

for seed in range(3):
    for name, rule in {"backprop": "backprop", "sg": "synthetic-gradient@inner"}.items():
        training = TrainingConfig(data="digits", depth=3, width=8, epochs=1, rule=rule, seed=seed)
        recording = RecordingConfig(steps="last", n_train=60, n_validation=20, n_test=20)
        train_run(f"runs/{name}/seed-{seed}", training, recording)

Path("my_models.py").write_text("""
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))

    def forward(self, x):
        return self.hidden(x)
""")
rng = np.random.default_rng(0)
speakers = np.arange(40) % 10
split = np.array(["train", "train", "train", "validation", "test"])[speakers % 5]
np.savez("stimuli.npz", X=rng.normal(size=(40, 4)).astype("float32"), y=np.arange(40) // 10 % 2, split=split)
rows = [f"{i:08d},{rng.normal():.3f},speaker-{speakers[i]}" for i in range(40)]
Path("targets.csv").write_text("\n".join(["id,loudness,speaker", *rows]))
torch.manual_seed(0)
record_model(ModelConfig(model="my_models:Net"), "runs/net", data="stimuli.npz")
