"""Workflows: the plain functions behind the commands.

What is here is listed in ``__init__.pyi``, and imported when it is asked for: where nothing is to be done, little is.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
