"""Pieces of an analysis: each is found out once, from activations that its name says exactly, and kept.

What is here is listed in ``__init__.pyi``, and imported when it is asked for: to find out pieces is slow to import.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
