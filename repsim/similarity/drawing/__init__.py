"""Figures and notebook tables of results."""
