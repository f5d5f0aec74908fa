"""A comparison of two runs."""

from analysis import AnalysisConfig, RecordingConfig, compare_runs, train_run
from repsim.learning import TrainingConfig

for name, rule in {"backprop": "backprop", "sg": "synthetic-gradient@inner"}.items():
    training = TrainingConfig(data="digits", depth=3, width=8, epochs=1, rule=rule)
    recording = RecordingConfig(steps="first,last", n_train=60, n_validation=20, n_test=20)
    train_run(f"runs/{name}", training, recording)
compare_runs(["runs/backprop", "runs/sg"], config=AnalysisConfig(layers=("hidden.1", "hidden.2"), Cs=(0.1,)))
