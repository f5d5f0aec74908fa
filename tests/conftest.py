"""Settings for all tests: one thread, so that a busy machine neither slows them nor changes their bits."""

import os

import torch

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # for the processes that tests start
torch.set_num_threads(1)
