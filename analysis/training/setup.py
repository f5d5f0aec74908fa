"""Setup of a training: settings, data, split, stimuli and learner, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.config.recorded_steps import is_trained_here
from analysis.config.recording import RecordingConfig, choose_steps
from analysis.execution.threads import using_threads
from analysis.own_parts.importing import imported_modules
from analysis.training.user_networks.own_data import load_data
from analysis.training.user_networks.own_network import check_update, describe_network, own_network
from checkpoints import Capture, Run, Stimuli
from repsim.learning import (
    SPLITS,
    Dataset,
    Learner,
    TrainingConfig,
    build_learner,
    count_steps,
    split_dataset,
)
from repsim.learning.parallel.training_memory import available_memory

__all__ = [
    "TrainingSetup",
    "check_data",
    "check_device",
    "check_layers",
    "choose_stimuli",
    "configurations",
    "describe",
    "for_network",
    "prepare",
]


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that one training run needs, checked.

    ``recorded_steps`` and ``diagnosed_steps`` are ascending.
    """

    training: TrainingConfig
    recording: RecordingConfig
    dataset: Dataset
    split: dict[str, NDArray[np.int64]]
    stimuli: Stimuli
    learner: Learner
    n_steps: int
    recorded_steps: Sequence[int]
    diagnosed_steps: Sequence[int]

    @property
    def steps_per_epoch(self) -> int:
        """Number of updates in a pass over the training examples."""
        return self.n_steps // max(self.training.epochs, 1)

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """Return X (n, n_features) and y (n,), or targets of sequences, of one part of the split."""
        indices = self.split[name]
        X, y = torch.from_numpy(self.dataset.X[indices]), torch.from_numpy(self.dataset.learned[indices])
        return X.to(self.training.device), y.to(self.training.device)


def prepare(
    training: TrainingConfig,
    recording: RecordingConfig,
    data_dir: str | Path | None = None,
    dataset: Dataset | None = None,
    started: Mapping[int, int] | None = None,
    *,
    is_recorded: bool = False,
) -> TrainingSetup:
    """Load the data, unless a data set is given, and build the network of a configuration. Nothing is written.

    ``started`` as for ``Learner``; if it is given, steps to record that lie after the end of the training are left out,
    as a fork keeps those of its source and may be shorter. Of a run that is recorded, the layers are not tried out.
    """
    dataset = for_network(dataset or load_data(training.data, data_dir), training)
    _check_targets(training, recording, dataset)
    split = split_dataset(dataset, training.split_seed)
    n_steps = count_steps(len(split["train"]), training)
    steps = choose_steps(recording.steps, n_steps, check_range=started is None)
    if not steps:
        raise ValueError(f"steps '{recording.steps}' name no step of this training, which ends at step {n_steps}.")
    _check_size(training)
    shape, n_outputs = dataset.shape, dataset.n_outputs
    rows = torch.from_numpy(dataset.X[split["train"][:8]])
    network = own_network(training, shape, n_outputs, rows)
    if network is not None:
        training = replace(training, depth=len(network.boundaries))
    learner = build_learner(training, shape, n_outputs, network=network, started=started, scored=dataset.scored)
    training = _with_length(training, learner)
    n_tried = min(8, training.batch_size)
    check_update(learner, rows[:n_tried], torch.from_numpy(dataset.y[split["train"][:n_tried]]))
    learner = learner.to(check_device(training.device))
    stimuli = choose_stimuli(dataset, split, recording.sizes, training.split_seed)
    if not is_recorded:
        check_layers(learner, recording.layers, stimuli)
    diagnosed = recording.diagnosed_steps(n_steps)
    return TrainingSetup(training, recording, dataset, split, stimuli, learner, n_steps, steps, diagnosed)


def _with_length(training: TrainingConfig, learner: Learner) -> TrainingConfig:
    """Return settings with the number of time steps as depth, if the network is recurrent."""
    if not training.is_recurrent:
        return training
    length = len(learner.network.hidden)
    if training.depth not in (None, length):
        raise ValueError(
            f"depth is {training.depth}, but the sequences of {training.data} have {length} time steps, which are the "
            "layers of a recurrent network. Leave depth out."
        )
    return replace(training, depth=length)


def _check_targets(training: TrainingConfig, recording: RecordingConfig, dataset: Dataset) -> None:
    """Raise ValueError if a network cannot learn the targets of a data set."""
    if dataset.targets is None:
        return
    if not training.is_recurrent:
        network = f"network '{training.network}'" if training.model is None else f"model '{training.model}'"
        raise ValueError(
            f"The examples of {dataset.name} are sequences with targets of their own, and {network} learns one class "
            "per example. Use network rnn, gru or lstm."
        )
    if dataset.scored is None and training.loss == "log_loss":
        raise ValueError(
            f"The targets of {dataset.name} are numbers, and the loss 'log_loss' needs classes. Use the loss 'mse'."
        )
    if recording.record_signals:
        raise ValueError(
            f"record_signals needs one class per example, and {dataset.name} has other targets. Leave it out; the log "
            "compares the gradients of training batches."
        )


def for_network(dataset: Dataset, training: TrainingConfig) -> Dataset:
    """Return a data set as the network of a configuration takes it: only one of the user takes whole numbers."""
    if training.model is None and dataset.X.dtype.kind == "i":
        return replace(dataset, X=dataset.X.astype(np.float32))
    return dataset


def _check_size(training: TrainingConfig) -> None:
    """Raise ValueError if the weights exceed the free memory, as the system may kill a process that allocates more."""
    if training.model is not None or (training.depth is None and not training.is_recurrent):
        return
    if training.is_recurrent:
        described, n_weights = "", _DRAWN_IN_MEMORY * training.width**2
    else:
        maps, taps = _WEIGHTS.get(training.network, (0, 0))  # of a registered network, nothing is known
        described, n_weights = f"depth {training.depth} and ", maps * taps * training.n_hidden * training.width**2
    needed = 4 * n_weights
    available = available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"A network of {described}width {training.width} needs about {needed / 1e9:.2g} GB of "
            f"memory, and {available / 1e9:.2g} GB are free. Use a smaller one."
        )


_DRAWN_IN_MEMORY = 10  # squares of the width: maps of the state, and those that are made orthogonal
_WEIGHTS = {"mlp": (1, 1), "conv": (1, 9), "residual": (2, 9)}  # affine maps of a hidden layer, and pixels each sees


def check_device(name: str) -> torch.device:
    """Return a device by name."""
    try:
        ones = torch.ones(1, device=name)
        ones.cpu()  # which fails on the device meta, where tensors have no values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise ValueError(
            f"There is no device '{name}' here ({reason}). Use cpu, or cuda where there is a GPU."
        ) from error
    return ones.device


def describe(setup: TrainingSetup, data_dir: str | Path | None) -> dict[str, Any]:
    """Return the configuration that a run directory stores."""
    training, network = located(setup.training), setup.learner.network
    imported = {str(module): module.sha256 for module in imported_modules()}
    own = {} if training.model is None else {"architecture": describe_network(network)}
    dataset = setup.dataset
    sequences = {"n_outputs": dataset.n_outputs, "scored": dataset.scored} if dataset.targets is not None else {}
    whole = {"dtype": "int64"} if setup.dataset.X.dtype.kind == "i" else {}
    return {
        **({"imported": imported} if imported else {}),
        "training": training.to_dict(),
        **own,
        "boundaries": _boundaries(training),
        "recording": setup.recording.to_dict(),
        "data": {
            "name": setup.dataset.name,
            "data_dir": str(Path(data_dir).absolute()) if data_dir is not None else None,
            "n_features": int(setup.dataset.X.shape[1]),
            "shape": list(setup.dataset.shape),
            "classes": list(setup.dataset.classes),
            "sha256": setup.dataset.sha256,
            **whole,
            **sequences,
            **{f"n_{part}": len(setup.split[part]) for part in SPLITS},
        },
    }


def check_data(run: Run, setup: TrainingSetup) -> None:
    """Raise ValueError if the data set of a setup is not the one that a run was trained on.

    Runs of earlier versions do not state the hash of their data; of these, only the recorded stimuli are checked later.
    """
    if run.config["data"].get("sha256", setup.dataset.sha256) != setup.dataset.sha256:
        raise ValueError(
            f"The data set {setup.dataset.name} has changed since {run.path} was trained on it. Restore the data, "
            "or train a new run."
        )


def located(training: TrainingConfig) -> TrainingConfig:
    """Return settings with the absolute path of a data file, so that it is found from any folder."""
    if training.data.endswith(".npz"):
        return replace(training, data=str(Path(training.data).absolute()))
    return training


def _boundaries(training: TrainingConfig) -> dict[str, list[int]]:
    """Return the boundaries at which each rule acts; backprop acts at all others."""
    boundaries: dict[str, list[int]] = {}
    for k, rule in training.rules.items():
        boundaries.setdefault(f"{rule.name} (observed)" if rule.observe else rule.name, []).append(k)
    return boundaries


def configurations(run: Run) -> tuple[TrainingConfig, RecordingConfig]:
    """Return the settings that a run was trained and recorded with."""
    config = run.config
    if not is_trained_here(config):
        raise ValueError(
            f"{run.path} was not trained by repsim train, so it cannot be retrained, forked or recorded anew."
        )
    try:
        training = TrainingConfig.from_dict(config["training"])
    except ValueError as error:
        missing = _missing_imports(config)
        if not missing:
            raise
        raise ValueError(
            f"{run.path}: {error} It was trained with {' '.join(f'--import {each}' for each in missing)}, whose code "
            "runs when it is imported; if you trust it, give the same command with this option."
        ) from error
    return training, RecordingConfig.from_dict(config["recording"])


def _missing_imports(config: Mapping[str, Any]) -> list[str]:
    """Return files and modules that were imported when a run was trained, and are not imported now."""
    now = {str(module) for module in imported_modules()}
    return [name for name in config.get("imported", {}) if name not in now]


def choose_stimuli(dataset: Dataset, split: dict[str, NDArray[np.int64]], sizes: dict[str, int], seed: int) -> Stimuli:
    """Return the stimuli to record: from each part, a random draw that is balanced over classes."""
    chosen = {part: _draw_evenly(split[part], dataset.y, sizes[part], seed) for part in SPLITS}
    indices = np.concatenate([chosen[part] for part in SPLITS])
    parts = np.repeat(SPLITS, [len(chosen[part]) for part in SPLITS])
    ids = [f"{index:08d}" for index in indices]
    return Stimuli.of(ids, dataset.y[indices], parts, dataset.X[indices], classes=dataset.classes)


def _draw_evenly(indices: NDArray[np.int64], y: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    shuffled = np.random.default_rng([seed, 0x571]).permutation(indices)
    labels = y[shuffled]
    turn = np.zeros(len(shuffled), dtype=np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:size]])


def check_layers(learner: Learner, layers: Sequence[str], stimuli: Stimuli) -> None:
    """Record one stimulus without writing it, to find layers that cannot be recorded."""
    with using_threads(1):  # enough for one stimulus, and a process with one thread can be forked later
        Capture(learner.network, layers).record(stimuli.first_inputs(1))
