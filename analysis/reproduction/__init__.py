"""Reproduction of the claims of the paper: a claim is tasks, a conclusion from their tables, and figures."""
