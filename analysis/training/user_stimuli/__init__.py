"""Stimuli that people bring: arrays, folders of images, texts, data sets and loaders."""
