"""Model RDMs, and how well they explain others."""
