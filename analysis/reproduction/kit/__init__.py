"""Helpers that several claims share: numbers over seeds, figures, and training of networks."""
