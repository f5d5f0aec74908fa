"""Settings for all tests: one thread, so that a busy machine neither slows them nor changes their bits; fixed seeds."""

import os
import random

import numpy as np
import pytest
import torch

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # for the processes that tests start
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed the global generators before the fixtures of each test, so that no result depends on the tests before."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator that others use
    torch.manual_seed(0)
