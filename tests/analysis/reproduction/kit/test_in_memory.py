from dataclasses import replace

import numpy as np
import torch

from analysis.reproduction.kit.in_memory import InMemoryTraining, rate_groups
from repsim.learning import TrainingConfig

CONFIG = TrainingConfig(data="digits", depth=2, width=8, rule="synthetic-gradient@all", epochs=1, batch_size=128)


def test_a_restarted_training_repeats_the_first_exactly() -> None:
    training = InMemoryTraining.of(CONFIG, None, torch.float64)
    first = [step.loss for step in training.steps()]
    assert len(first) > 5
    assert [step.loss for step in training.restarted(CONFIG).steps()] == first
    other = training.restarted(replace(CONFIG, seed=1))
    assert [step.loss for step in other.steps()] != first
    assert other.X is training.X
    assert next(other.learner.parameters()).dtype == torch.float64


def test_examples_are_selected_by_split_or_by_rows() -> None:
    training = InMemoryTraining.of(CONFIG, None)
    X, y = training.examples("validation")
    assert len(X) == len(y) == len(training.split["validation"])
    assert torch.equal(training.examples(np.array([3, 1]))[1], training.y[[3, 1]])


def test_network_and_modules_have_separate_rates() -> None:
    learner = InMemoryTraining.of(CONFIG, None).learner
    assert [group["lr"] for group in rate_groups(learner, (0.1, 0.2))] == [0.1, 0.2]
    plain = InMemoryTraining.of(replace(CONFIG, rule="backprop"), None).learner
    assert [group["lr"] for group in rate_groups(plain, (0.1, 0.2))] == [0.1]
