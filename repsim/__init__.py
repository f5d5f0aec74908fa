"""repsim: what a learning rule does to the layers of a network.

``repsim.learning`` trains networks, ``repsim.theory`` holds what is known of synthetic gradients, and the names listed
in ``__init__.pyi`` compare representations; each is imported on first use. Recorded runs are read with
``checkpoints``, probes are fitted with ``probes``.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
