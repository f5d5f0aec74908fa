"""Learning: networks as chains of segments, and rules that choose the gradient of each segment.

The public names are listed in ``__init__.pyi`` and imported on first use, so that reading settings needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
