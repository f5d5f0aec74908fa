"""Preambles make names for the blocks of a page; they are not modules."""

collect_ignore_glob = ["preambles/*.py"]
