"""Runs of two methods with three seeds each."""

from analysis import RecordingConfig, train_run
from repsim.learning import TrainingConfig

for seed in range(3):
    for name, rule in {"backprop": "backprop", "sg": "synthetic-gradient@inner"}.items():
        training = TrainingConfig(data="digits", depth=3, width=8, epochs=1, rule=rule, seed=seed)
        recording = RecordingConfig(steps="last", n_train=60, n_validation=20, n_test=20)
        train_run(f"runs/{name}/seed-{seed}", training, recording)
