"""Inputs of stimuli that are read when they are needed, from data sets, loaders and files, and the hash of inputs."""
