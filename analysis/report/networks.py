"""Views by network: what a network is called, and which of its steps are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from analysis.comparison.view import View

__all__ = ["by_network", "network_names"]


def network_names(views: Sequence[View]) -> list[str]:
    """Return the network of each view; views of one run have one name, the run's own."""
    counts = Counter(view.run.path for view in views)
    names = []
    for view in views:
        own = view.label if counts[view.run.path] == 1 else view.run.path.absolute().name
        names.append(str(getattr(view, "network", own)))
    return names


def by_network(views: Sequence[View]) -> dict[str, list[View]]:
    """Return the views of each network, in the order of the views."""
    networks: dict[str, list[View]] = {}
    for name, view in zip(network_names(views), views, strict=True):
        networks.setdefault(name, []).append(view)
    return networks
