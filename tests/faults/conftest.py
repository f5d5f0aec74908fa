"""The scripts here are run by hand, and in short by tests/checkpoints/test_faults.py; pytest need not import them."""

collect_ignore_glob = ["*.py"]
