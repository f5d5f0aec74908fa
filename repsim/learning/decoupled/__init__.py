"""Decoupled training: segments that step before those above them have run."""
