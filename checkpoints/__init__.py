"""Checkpoints: run directories, capture of activations from any network, and their storage.

The public names are listed in ``__init__.pyi`` and imported on first use, so that reading a run needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
