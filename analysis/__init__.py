"""Analysis: commands, comparison, figures and reports over the packages that learn, store, probe and compare.

The names that the package offers are listed in ``__init__.pyi``; each is imported on first use.
"""

import lazy_loader

from analysis.own_parts.siblings import import_siblings

import_siblings()
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
