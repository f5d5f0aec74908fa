"""Figures and tables in which results of comparisons show themselves."""
