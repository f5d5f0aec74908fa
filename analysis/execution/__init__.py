"""Execution of tasks: in this process, in processes of this machine, or on the workers of a Dask cluster.

A task runs on one thread whatever the executor, and its result lies on disk, so no number depends on where it ran. The
names that the package offers are listed in ``__init__.pyi``; each is imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
