"""The scripts here are run by hand and by .ci/run; pytest need not import them."""

collect_ignore_glob = ["bare.py", "run.py"]
