"""repsim: what a learning rule does to the layers of a network."""

__version__ = "0.1.0"
