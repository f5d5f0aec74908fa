"""Workflows behind the commands that join training, comparison and report: analyze, compare, sweep, demo."""
