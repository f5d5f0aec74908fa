"""Importing the package loads no large library until a name is used."""

import subprocess
import sys

import pytest

import probes

SCRIPT = """
import sys
import probes
assert {large!r} & {{name.partition(".")[0] for name in sys.modules}} == set(), "loaded by import"
assert "probe_layers" in dir(probes)
assert {large!r} & {{name.partition(".")[0] for name in sys.modules}} == set(), "loaded by dir"
probes.probe_layers
assert {{"torch", "pandas", "sklearn"}} <= set(sys.modules), "not loaded by use"
"""


def test_importing_probes_loads_no_torch_pandas_or_sklearn() -> None:
    script = SCRIPT.format(large={"torch", "pandas", "sklearn", "scipy", "numpy", "matplotlib"})
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", probes.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(probes, name).__doc__
