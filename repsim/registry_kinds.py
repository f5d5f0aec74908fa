"""Registries of this package that are open to users. Each place is imported when it is first needed."""

from repsim.registration import RegistryKind

__all__ = ["KINDS"]

_SIMILARITY = "repsim.similarity.own_entries"
_LEARNING = "repsim.learning.own.learning_entries"
_NETWORKS = "repsim.learning.networks.architectures"

KINDS: dict[str, RegistryKind] = {
    name: RegistryKind(name, noun, place, make)
    for name, noun, place, make in (
        ("measures", "measure", "repsim.similarity.measures:MEASURES", f"{_SIMILARITY}:make_measure"),
        ("distances", "distance", "repsim.similarity.distances:DISTANCES", f"{_SIMILARITY}:make_distance"),
        ("comparators", "comparator", "repsim.similarity.comparators:COMPARATORS", f"{_SIMILARITY}:make_comparator"),
        ("statistics", "statistic", "repsim.similarity.statistics:STATISTICS", f"{_SIMILARITY}:make_statistic"),
        ("rules", "rule", "repsim.learning.estimators:ESTIMATORS", f"{_LEARNING}:make_rule"),
        ("networks", "network", f"{_NETWORKS}:NETWORKS", f"{_LEARNING}:make_network"),
        ("norms", "norm", f"{_NETWORKS}:NORMS", f"{_NETWORKS}:Norm"),
        (
            "activations",
            "activation",
            f"{_NETWORKS}:ACTIVATIONS",
            f"{_LEARNING}:make_activation",
        ),
        ("losses", "loss", "repsim.learning.losses:LOSSES", f"{_LEARNING}:make_loss"),
        ("optimizers", "optimizer", "repsim.learning.optimizers:OPTIMIZERS", f"{_LEARNING}:make_optimizer"),
        ("schedules", "schedule", "repsim.learning.schedules:SCHEDULES", f"{_LEARNING}:make_schedule"),
        ("datasets", "data set", "repsim.learning.data.loading:DATASETS", f"{_LEARNING}:make_dataset"),
    )
}
