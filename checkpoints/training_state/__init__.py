"""State of a training (weights, optimizers, random generators) as files."""
