"""Rules that run the network more than once per batch: inference of errors, and second forward passes."""
