"""Training of several networks at once."""
