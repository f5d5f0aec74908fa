"""Names of layers as names of HDF5 data sets, in which a slash would be a path."""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["dataset_name", "layer_name"]

_ESCAPE = re.compile(r"%(?:2F|2E|25|00)")
_TO_ESCAPE = re.compile(rf"[/\0]|^\.$|{_ESCAPE.pattern}")


def dataset_name(layer: str) -> str:
    """Return the name of a layer's data set: the layer's own, but ``%2F`` for a slash.

    Also escaped are a zero byte (``%00``), the name ``.`` (``%2E``) and what looks like one of these escapes (``%25``
    for its per cent sign), so that no two layers have the same name.

    Examples
    --------
    >>> dataset_name("hidden.1"), dataset_name("a/b"), dataset_name("50%")
    ('hidden.1', 'a%2Fb', '50%')
    """
    return _TO_ESCAPE.sub(lambda found: f"%{ord(found[0][0]):02X}{found[0][1:]}", layer)


def layer_name(dataset: str) -> str:
    """Return the layer for which ``dataset_name`` gives this name.

    Examples
    --------
    >>> layer_name("a%2Fb")
    'a/b'
    """
    return _ESCAPE.sub(lambda found: unquote(found[0]), dataset)
