"""What probes of several networks say together: a network is one replicate, and its seed is its name."""

from probes.statistics.bands import seed_bands
from probes.statistics.differences import seed_differences
from probes.statistics.examples import ExampleInterval, example_interval
from probes.statistics.first_layer import first_layer_reaching

__all__ = ["ExampleInterval", "example_interval", "first_layer_reaching", "seed_bands", "seed_differences"]
