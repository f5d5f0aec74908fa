"""Model RDMs, and fits of RDMs by models."""
