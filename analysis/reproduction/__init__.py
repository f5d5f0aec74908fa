"""Reproduction of the claims of the papers."""
