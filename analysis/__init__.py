"""Analysis: the roof that wires learning, store, probes and similarity into commands, tables, figures and reports.

The commands' functions are in ``analysis.workflows``; nothing heavy is imported until they are.
"""
