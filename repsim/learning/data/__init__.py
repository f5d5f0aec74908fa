"""Data sets: real, artificial, and the user's own."""
