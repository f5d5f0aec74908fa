"""Capture of the activations of any network, one row per stimulus."""
