"""Prediction of the next character of a text that ships with scikit-learn."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

import numpy as np

from repsim.learning.data.dataset import Dataset

__all__ = ["characters", "characters_of", "check_text"]

_LENGTH = 50  # of a piece
_FILES = (  # of sklearn/datasets/descr, which are equal in scikit-learn 1.7 to 1.9
    "breast_cancer",
    "diabetes",
    "digits",
    "iris",
    "kddcup99",
    "lfw",
    "linnerud",
    "olivetti_faces",
    "rcv1",
    "species_distributions",
    "twenty_newsgroups",
)
_SHA256 = "e2cf8d1898a4cd2c64538ccbe1b82d0feccba494fae0dbf1b7fee6f752bbe9b7"


def characters() -> Dataset:
    """Return the descriptions of data sets that scikit-learn ships, for the prediction of characters.

    See ``characters_of``; pieces have 50 characters.

    Raises
    ------
    ValueError
        If the installed version of scikit-learn has other texts.
    """
    return characters_of(_text(), _LENGTH, name="characters")


@lru_cache(maxsize=1)
def _text() -> str:
    folder = files("sklearn.datasets").joinpath("descr")
    parts = [folder.joinpath(f"{name}.rst") for name in _FILES]
    text = "".join(part.read_text("utf-8") for part in parts if part.is_file())
    check_text(text)
    return text


def check_text(text: str, sha256: str = _SHA256) -> None:
    """Raise ValueError unless a text has the expected hash."""
    if hashlib.sha256(text.encode()).hexdigest() != sha256:
        raise ValueError(
            "The data set 'characters' is made of texts of scikit-learn, and the installed version has other ones. "
            "Install scikit-learn 1.7 to 1.9, or use data of your own."
        )


def characters_of(text: str, length: int, *, name: str) -> Dataset:
    """Return a text in pieces that do not overlap, with the next character as the target at every time step.

    The class y of a piece is the kind of the character after it: letter, space or other.

    Parameters
    ----------
    text : str
        Longer than one piece; a rest that fills no piece is left out.
    length : int
        Characters per piece, 1 or more.
    name : str
        Name of the data set.

    Returns
    -------
    Dataset
        Examples have the shape (length, n_characters), one-hot in the order of code points.
    """
    alphabet = sorted(set(text))
    codes = np.searchsorted(np.array(alphabet), np.array(list(text)))
    n = (len(codes) - 1) // length
    pieces, targets = codes[: n * length].reshape(n, length), codes[1 : n * length + 1].reshape(n, length)
    X = np.eye(len(alphabet), dtype=np.float32)[pieces].reshape(n, -1)
    kinds = np.array([0 if each.isalpha() else 1 if each.isspace() else 2 for each in alphabet])
    return Dataset(
        name,
        X,
        kinds[targets[:, -1]].astype(np.int64),
        ("letter", "space", "other"),
        image_shape=(length, len(alphabet)),
        targets=targets.astype(np.int64),
        outputs=tuple(alphabet),
        scored=tuple(range(1, length + 1)),
    )
