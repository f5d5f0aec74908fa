"""Statistics over seeds and over test examples; a network is one replicate, identified by its seed."""

from probes.statistics.bands import seed_bands
from probes.statistics.differences import seed_differences
from probes.statistics.examples import ExampleInterval, example_interval
from probes.statistics.first_layer import first_layer_reaching

__all__ = ["ExampleInterval", "example_interval", "first_layer_reaching", "seed_bands", "seed_differences"]
