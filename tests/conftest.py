"""For all tests: one thread, and property tests that draw the same examples everywhere."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for kernels that tests start

import torch
from hypothesis import configuration, settings

torch.set_num_threads(1)
configuration.set_hypothesis_home_dir(os.path.join(os.path.dirname(__file__), "..", "_build", "hypothesis"))
settings.register_profile("book", deadline=None, database=None, derandomize=True)
settings.load_profile("book")
