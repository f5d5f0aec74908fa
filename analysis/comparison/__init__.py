"""Comparison of recorded layers: views of runs, tasks, tables, figures and results."""
