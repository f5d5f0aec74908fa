"""Checkpoints: run directories, capture of activations from any network, and the store that holds them.

What is here is listed in ``__init__.pyi``, and imported when it is asked for: reading a run needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
