"""Conversion of inputs, labels and ids (tensors, lists of images, data sets) to NumPy arrays."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints.errors import UnreadableInputs

__all__ = [
    "APART",
    "PAD",
    "as_array",
    "as_column",
    "as_label_vector",
    "as_numbers",
    "as_texts",
    "is_data_set",
    "read_item",
]


def as_array(values: Any, what: str, n: int | None = None) -> NDArray[Any]:
    """Return values as one array, if there is only one way to read them as an array.

    Tensors may be on any device, require a gradient, or have a type that NumPy lacks (bfloat16 becomes float32).
    Sequences hold numbers, or arrays, tensors or images of one shape. A data set has a length, and returns one array or
    tensor for each index below it; one of another length than ``n`` is refused before it is read. ``what`` is a plural
    noun for messages.
    """
    try:
        return _array(values, what, n)
    except RecursionError:
        raise ValueError(f"{what} are nested too deeply to be an array.") from None


def as_texts(values: Any, what: str) -> NDArray[Any]:
    """Return values such as ids as an array of str."""
    is_plain = isinstance(values, list | tuple | range) and not any(_is_array(v) or _has_length(v) for v in values)
    return np.asarray(values if is_plain else as_array(values, what), dtype=str)


def as_column(values: Any, what: str) -> NDArray[Any]:
    """Return values of which none may be missing, such as labels, as an array; objects that are text become text."""
    is_of_objects = _is_array(values) and not _is_tensor(values) and np.asarray(values).dtype == object
    listed = np.asarray(values).tolist() if is_of_objects else values  # of a pandas Series of text, for example
    missing = sum(map(_is_missing, listed)) if isinstance(listed, list | tuple) else 0
    array = np.zeros(0) if missing else as_array(listed, what)
    if missing := missing or (int(np.isnan(array).sum()) if array.dtype.kind in "fc" else 0):
        raise ValueError(f"{missing} of {len(values)} {what.lower()} are NaN or None; leave out these stimuli.")
    return array


def _is_missing(value: Any) -> bool:
    is_nan = isinstance(value, float) and value != value
    return is_nan or value is None or type(value).__name__ in ("NAType", "NaTType")


def as_label_vector(labels: Any) -> NDArray[Any]:
    """Return one label per stimulus from shape (n,) or (n, 1), or from one-hot rows of shape (n, n_classes)."""
    array = as_column(labels, "Labels")
    if array.ndim == 0:
        raise ValueError("Labels are a single value; expected one label for each stimulus, shape (n,).")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim == 2 and _is_one_hot(array):
        array = array.argmax(1)
    if array.ndim != 1:
        raise ValueError(
            f"Labels have shape {array.shape}; expected one label for each stimulus: shape (n,), (n, 1), or one-hot "
            "rows of zeros and a single one."
        )
    return array


def as_numbers(values: Any, what: str, n: int | None = None) -> NDArray[Any]:
    """Return inputs of a network as an array: floats as float32, whole numbers in their own type."""
    array = as_array(values, what, n)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} are of type {array.dtype}; expected real numbers.")
    if array.dtype.kind != "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):
        plain = array.astype(np.float32)
    if (np.isinf(plain) & np.isfinite(array)).any():
        raise ValueError(
            f"{what} hold {np.abs(array[np.isfinite(array)]).max():.6g}, which exceeds the range of float32."
        )
    return plain


def is_data_set(values: Any) -> bool:
    """Return whether values are a map-style data set: neither an array nor a sequence, with a length and items."""
    known = isinstance(values, Mapping | Sequence) or _is_tensor(values) or _is_array(values)
    return not known and hasattr(values, "__len__") and hasattr(values, "__getitem__")


def read_item(values: Any, index: int, what: str) -> Any:
    """Return one item of a sequence or a data set; raise UnreadableInputs if it has none."""
    try:
        return values[index]
    except UnreadableInputs:
        raise
    except Exception as error:  # a data set of the user may raise anything
        raise UnreadableInputs(
            f"{what} of type {type(values).__name__} could not be read at {index} ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); expected a sequence, or a data set with an item for each index below "
            "its length."
        ) from error


def _array(values: Any, what: str, n: int | None = None, inside: bool = False) -> NDArray[Any]:
    if _is_tensor(values):
        return _from_tensor(values, what)
    if type(values).__name__ == "PackedSequence":
        raise ValueError(f"{what} are a packed sequence; expected rows of one length. {PAD}")
    if np.ma.is_masked(values):
        raise ValueError(f"{what} have masked values; fill them in, or leave out these stimuli.")
    if isinstance(values, Number | str | bytes) or (isinstance(values, list | tuple | range) and _is_numbers(values)):
        try:
            return np.asarray(values)
        except ValueError:  # rows of different lengths, which the items below will name
            pass
    if isinstance(values, Mapping):
        raise ValueError(
            f"{what} are dicts, one for each stimulus; expected one dict of arrays, such as "
            "{'input_ids': …, 'attention_mask': …} with one row for each stimulus, and labels apart."
        )
    if _is_array(values):
        return _from_array(values, what)
    if hasattr(values, "__len__") and hasattr(values, "__getitem__"):
        return _from_items(values, what, n, inside)
    raise ValueError(
        f"{what} are of type {type(values).__name__}; expected an array, a tensor, a sequence of those of one shape, "
        "or a data set with a length. Collect what an iterator gives first, for example with torch.stack."
    )


def _from_tensor(values: Any, what: str) -> NDArray[Any]:
    torch = sys.modules["torch"]
    if values.is_nested:
        raise ValueError(f"{what} are a nested tensor; expected rows of one length. {PAD}")
    if values.layout != torch.strided or values.is_quantized or values.device.type == "meta":
        raise ValueError(
            f"{what} are a tensor of layout {values.layout} and type {values.dtype} on {values.device.type}; expected "
            "a dense tensor with values. Convert it with to_dense() or dequantize()."
        )
    plain = values.detach().cpu().resolve_conj().resolve_neg()
    known = plain.dtype in (torch.float16, torch.float32, torch.float64) or not plain.is_floating_point()
    array: NDArray[Any] = (plain if known else plain.float()).numpy()
    return array


def _from_array(values: Any, what: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except Exception as error:  # the __array__ of another package may raise anything
        raise ValueError(
            f"{what} of type {type(values).__name__} cannot be converted to an array ({error})."
        ) from error
    has_parts = array.dtype == object and array.ndim == 1 and any(map(_has_length, array))
    return _from_items(array.tolist(), what) if has_parts else array


def _from_items(values: Any, what: str, n: int | None = None, inside: bool = False) -> NDArray[Any]:
    is_data_set = not isinstance(values, Sequence)
    if is_data_set and n is not None and len(values) != n:
        raise ValueError(f"{what} have {len(values)} items for {n} stimuli; expected one for each stimulus.")
    items = [read_item(values, index, what) for index in range(len(values))]
    if is_data_set and any(isinstance(item, tuple) for item in items):
        raise ValueError(f"{what} give a tuple for each stimulus; {APART}")
    parts = [_array(item, what, inside=True) for item in items]
    shapes = list(dict.fromkeys(part.shape for part in parts))
    if len(shapes) > 1 and inside and isinstance(values, tuple):
        raise ValueError(f"{what} give a tuple for each stimulus, of shapes {shapes[0]} and {shapes[1]}; {APART}")
    if len(shapes) > 1:
        raise ValueError(f"{what} differ in shape: {shapes[0]} and {shapes[1]}; expected the same for all. {PAD}")
    return np.stack(parts) if parts else np.zeros(0)


def _is_tensor(values: Any) -> bool:
    torch = sys.modules.get("torch")  # without it, nothing is a tensor
    return torch is not None and isinstance(values, torch.Tensor)


def _is_array(values: Any) -> bool:
    return hasattr(values, "__array__") or hasattr(values, "__array_interface__")


def _has_length(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def _is_numbers(values: Sequence[Any]) -> bool:
    """Return whether nested lists hold numbers or text only, which NumPy converts at once."""
    kinds = set(map(type, values))
    if kinds & {list, tuple}:
        return kinds <= {list, tuple} and all(map(_is_numbers, values))
    return all(issubclass(kind, Number | str | bytes) for kind in kinds)


def _is_one_hot(array: NDArray[Any]) -> bool:
    if array.dtype.kind not in "fiub" or array.shape[1] < 2:
        return False
    return bool(((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all())


PAD = "Pad them to one length, and give the network a mask (such as attention_mask) as another input if it takes one."
APART = (
    "expected the input alone. Give inputs and labels apart: inputs=[x for x, _ in data], labels=[y for _, y in data]."
)
