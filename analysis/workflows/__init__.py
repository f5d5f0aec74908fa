"""Workflows behind the commands: analysis and comparison of runs, sweeps, the demo."""
