"""State of a training: weights, optimizers and random generators, encoded as files of a step and restored from them."""
