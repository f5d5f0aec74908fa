"""Tables of probes: one row per layer, network and checkpoint."""
