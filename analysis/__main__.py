"""``python -m analysis``: the same as the command ``repsim``."""

from analysis.cli import main

if __name__ == "__main__":
    main()
