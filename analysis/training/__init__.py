"""Training and recording of networks."""
