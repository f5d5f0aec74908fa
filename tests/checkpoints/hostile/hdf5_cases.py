"""HDF5 files with links to elsewhere, other types, large attributes, unknown filters and false sizes."""

import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import h5py
import numpy as np

from tests.checkpoints.hostile.corpus import (
    CASES,
    DATA,
    Case,
    created,
    hostile,
    hostile_hdf5,
    in_activations,
    linked,
    replaced,
)
from tests.checkpoints.hostile.reader import FLOATS, Place

# Links, and bytes that lie elsewhere

ELSEWHERE = "is missing or only a link"
for name in (DATA, "layers/0000", "layers", "stimulus_id"):

    def outer(file: h5py.File, place: Place, name: str = name) -> None:
        linked(file, name, h5py.ExternalLink(place.outside / "checkpoints" / place.step.name / "activations.h5", name))

    CASES[f"external link at {name}"] = Case(partial(in_activations, outer), ("activations", "verify"), ELSEWHERE)


@hostile_hdf5(ELSEWHERE)
def soft_link(file: h5py.File, place: Place) -> None:
    file["layers/0000/real"] = file[DATA]
    linked(file, DATA, h5py.SoftLink("/layers/0000/real"))


@hostile_hdf5("external or virtual")
def virtual_dataset(file: h5py.File, place: Place) -> None:
    layout = h5py.VirtualLayout((6, 8), "<f4")
    source = place.outside / "checkpoints" / place.step.name / "activations.h5"
    layout[:] = h5py.VirtualSource(source, DATA, (6, 8))
    del file[DATA]
    file.create_virtual_dataset(DATA, layout)


@hostile_hdf5("external or virtual")
def virtual_dataset_of_every_file_that_there_is(file: h5py.File, place: Place) -> None:
    source = place.outside / "checkpoints" / place.step.name / "activations%b.h5"
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    unlimited = h5py.h5s.UNLIMITED
    here, there = h5py.h5s.create_simple((6, 8), (unlimited, 8)), h5py.h5s.create_simple((6, 8))
    here.select_hyperslab((0, 0), (unlimited, 1), stride=(6, 1), block=(6, 8))
    properties.set_virtual(here, str(source).encode(), DATA.encode(), there)
    del file[DATA]
    h5py.h5d.create(
        file.id, DATA.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((6, 8), (unlimited, 8)), properties
    )


def write_old(place: Place, link: Any) -> bytes:
    """Write activations without checksums in metadata, where a byte can be patched, and return them."""
    with h5py.File(place.activations) as file:
        attributes = dict(file.attrs)
    with h5py.File(place.activations, "w", libver="earliest") as file:
        file.attrs.update(attributes)
        file["stimulus_id"] = np.array([b"s0", b"s1", b"s2", b"s3", b"s4", b"s5"])
        group = file.create_group("layers/0000", track_order=True)
        group.attrs["feature_shape"] = np.arange(20) + 0x7E57
        group["data"] = link
    return place.activations.read_bytes()


@hostile("activations, verify", "cannot be read")
def user_defined_link(place: Place) -> None:
    content = write_old(place, h5py.ExternalLink(place.outside / "secret", "/x"))
    start = content.index(b"\x04data") - 9
    assert content[start] == 64  # the class of an external link
    place.activations.write_bytes(content[:start] + b"\x41" + content[start + 1 :])


@hostile("activations, verify", "cannot be read")
def hard_link_to_nowhere(place: Place) -> None:
    content = write_old(place, FLOATS)
    start = content.index(b"\x04data") + 5
    place.activations.write_bytes(content[:start] + struct.pack("<Q", 2**40) + content[start + 8 :])


@hostile("activations, verify", "is not a group|is not a dataset|cannot be read")
def hard_link_into_the_middle_of_data(place: Place) -> None:
    content = write_old(place, FLOATS)
    start = content.index(b"\x04data") + 5
    place.activations.write_bytes(content[:start] + struct.pack("<Q", len(content) - 100) + content[start + 8 :])


@hostile_hdf5("data in .* is missing")
def layers_that_are_the_root(file: h5py.File, place: Place) -> None:
    del file["layers"]
    file["layers"] = file["/"]


@hostile_hdf5("claims 10001 layers; at most 10000 are read", libver=("v110", "v110"))
def one_layer_linked_ten_thousand_times(file: h5py.File, place: Place) -> None:
    link_often(file["layers"], file[DATA], 9999)


def link_often(group: h5py.Group, target: Any, times: int) -> None:
    for index in range(times):
        h5py.h5o.link(target.id, group.id, b"x%04d" % index)


@hostile_hdf5("is not a dataset", libver=("v110", "v110"))
def deep_nesting(file: h5py.File, place: Place) -> None:
    del file[DATA]
    group = file.create_group(DATA)
    for _ in range(2000):
        group = group.create_group("g")


# Types

ENUM = h5py.enum_dtype({"a": 0, "b": 6}, basetype="i8")
TYPES: dict[str, Any] = {
    "vlen string": h5py.string_dtype(),
    "vlen array": h5py.vlen_dtype(np.float32),
    "reference": h5py.ref_dtype,
    "region reference": h5py.regionref_dtype,
    "compound": np.dtype([("x", "<f4"), ("y", "S9")]),
    "enum": ENUM,
    "opaque": h5py.opaque_dtype(np.dtype("datetime64[s]")),
    "array": np.dtype(("<f4", (3,))),
}
for kind, dtype in TYPES.items():
    for name, shape in {DATA: (6, 8), "stimulus_id": (6,)}.items():

        def typed(file: h5py.File, place: Place, name: str = name, shape: Any = shape, dtype: Any = dtype) -> None:
            replaced(file, name, shape=shape, dtype=dtype)

        CASES[f"{kind} in {name}"] = Case(partial(in_activations, typed), ("activations", "verify"), "axes of type")

    for name in ("name", "n_rows", "feature_shape"):

        def stated(file: h5py.File, place: Place, name: str = name, dtype: Any = dtype) -> None:
            del file["layers/0000"].attrs[name]
            kind = h5py.h5t.py_create(dtype, logical=True)
            h5py.h5a.create(file["layers/0000"].id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))

        CASES[f"{kind} in attribute {name}"] = Case(
            partial(in_activations, stated), ("activations", "verify"), f"Attribute '{name}' .* is missing or is not a"
        )


@hostile("stimuli, resume, verify", "axes of type")
def labels_of_an_enumeration(place: Place) -> None:
    with h5py.File(place.run / "stimuli.h5", "r+") as file:
        replaced(file, "label", shape=(6,), dtype=ENUM)


# Attributes


def stating(name: str, value: Any, message: str, **options: Any) -> None:
    def state(file: h5py.File, place: Place) -> None:
        file["layers/0000"].attrs[name] = value

    shown = f"attribute {name} of {np.size(value)} {np.asarray(value).dtype} {str(value)[:30]}"
    CASES[shown] = Case(partial(in_activations, state, **options), ("activations", "verify"), message)


NO_SIZES = "Attribute 'feature_shape' .* is missing or is not a list of sizes"
UNFIT = "these contradict each other"
stating("feature_shape", [np.nan], NO_SIZES)
stating("feature_shape", [-2, -4], NO_SIZES)
stating("feature_shape", np.array([2**40, 2**40]), UNFIT)
stating("feature_shape", np.array([2**63 - 1] * 64), UNFIT)
stating("feature_shape", np.array([2**63 + 4, 2], np.uint64), UNFIT)  # their product is 8 in 64 bits
stating("feature_shape", np.zeros(120_000, np.int64), NO_SIZES, libver=("v110", "v110"))
stating("n_rows", 7, UNFIT)
stating("n_rows", -6, UNFIT)
stating("n_rows", np.nan, "Attribute 'n_rows' .* is missing or is not a whole number")
stating("name", np.bytes_(b"x" * 900_000), "Attribute 'name' .* is missing or is not a text", libver=("v110", "v110"))
stating("name", np.bytes_(b"\xff\xfe"), "Attribute 'name' .* is missing or is not a text")
stating("name", np.bytes_(b"2"), "has two layers of the same name")


@hostile("activations, verify", "cannot be read|is missing")
def attribute_of_a_declared_petabyte(place: Place) -> None:
    content = write_old(place, FLOATS)
    sizes = struct.pack("<Q", 20)
    start = content.index(sizes, content.index(b"feature_shape"))
    place.activations.write_bytes(content[:start] + struct.pack("<Q", 2**47) + content[start + 8 :])


# Filters


def filtered(*codes: int, flag: int = h5py.h5z.FLAG_OPTIONAL) -> Callable[[h5py.File, Place], None]:
    def edit(file: h5py.File, place: Place) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((6, 8))
        for code in codes:
            properties.set_filter(code, flag, (1,) if code == h5py.h5z.FILTER_DEFLATE else ())
        dataset = created(file, DATA, h5py.h5t.IEEE_F32LE, (6, 8), properties)
        dataset.write_direct_chunk((0, 0), FLOATS.tobytes(), 2 ** len(codes) - 1)

    return edit


FILTERS = {"szip": 4, "lzf": 32000, "blosc": 32001, "nobody's": 305}
for name, code in FILTERS.items():
    CASES[f"filter {name}"] = Case(
        partial(in_activations, filtered(code)), ("activations", "verify"), rf"uses unknown filters \({code}\)"
    )
CASES["gzip twice"] = Case(
    partial(in_activations, filtered(1, 1)), ("activations", "verify"), r"uses a filter twice \(gzip, gzip\)"
)


@hostile_hdf5(r"uses unknown filters \(5\)")
def filter_nbit(file: h5py.File, place: Place) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((6, 8))
    properties.set_filter(h5py.h5z.FILTER_NBIT, h5py.h5z.FLAG_OPTIONAL)
    created(file, DATA, h5py.h5t.IEEE_F32LE, (6, 8), properties)


# Claims far beyond what is stored

LITTLE = r"claims \d+ bytes but stores"
CLAIMS: dict[str, dict[str, Any]] = {
    "petabytes in chunks": {"shape": (6, 10**15), "chunks": (1, 1000)},
    "petabytes in one piece": {"shape": (6, 10**15)},
    "more bytes than 64 bits count": {"shape": (2**40, 2**40), "chunks": (1, 1000)},
    "a huge chunk": {"shape": (6, 8), "chunks": (2**15, 2**14), "maxshape": (None, None), "compression": "gzip"},
    "a chunk of one huge axis": {"shape": (6, 8), "chunks": (1, 2**29), "maxshape": (None, None)},
    "chunks without number": {"shape": (6, 2**40), "chunks": (1, 1), "compression": "gzip"},
    "rows without number": {"shape": (2**62, 0)},
}
for name, options in CLAIMS.items():

    def claiming(file: h5py.File, place: Place, options: dict[str, Any] = options) -> None:
        replaced(file, dtype="<f4", **options)
        file["layers/0000"].attrs["feature_shape"] = [options["shape"][1]]
        file["layers/0000"].attrs["n_rows"] = options["shape"][0]

    message = UNFIT if name == "rows without number" else LITTLE
    CASES[name] = Case(partial(in_activations, claiming), ("activations", "verify"), message)


def zeros(size: int, level: int = 9) -> bytes:
    """Return so many zeros, compressed."""
    packer = zlib.compressobj(level)
    pieces = [packer.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join(pieces) + packer.flush()


@hostile_hdf5(LITTLE)
def gzip_bomb(file: h5py.File, place: Place) -> None:
    width = 20 * 2**20
    dataset = replaced(file, shape=(6, width), chunks=(1, width), dtype="<f4", compression="gzip")
    for row in range(6):
        dataset.id.write_direct_chunk((row, 0), zeros(4 * width))
    file["layers/0000"].attrs["feature_shape"] = [width]


def gzip_bomb_inside_a_chunk(file: h5py.File, place: Place) -> None:
    width = 2**20
    dataset = replaced(file, shape=(6, width), chunks=(1, width), dtype="<f4", compression="gzip")
    for row in range(6):
        dataset.id.write_direct_chunk((row, 0), zeros(500 * 2**20) if row == 3 else zeros(4 * width))
    file["layers/0000"].attrs["feature_shape"] = [width]


CASES["gzip bomb inside a chunk"] = Case(  # hashes are verified without inflating anything
    partial(in_activations, gzip_bomb_inside_a_chunk), ("activations",), "inflates to more than the 4194308 bytes"
)


@hostile_hdf5("has 1 chunks; expected 600")
def one_chunk_of_many(file: h5py.File, place: Place) -> None:
    dataset = replaced(file, shape=(6, 100), chunks=(1, 1), dtype="<f4", compression="gzip")
    dataset.id.write_direct_chunk((0, 0), os.urandom(1000))
    file["layers/0000"].attrs["feature_shape"] = [100]


@hostile_hdf5("All layers in .* claims")
def one_dataset_in_many_layers(file: h5py.File, place: Place) -> None:
    width = 4 * 2**20
    dataset = replaced(file, shape=(6, width), chunks=(1, width), dtype="<f4", compression="gzip")
    for row in range(6):
        dataset.id.write_direct_chunk((row, 0), zeros(4 * width, level=1))
    file["layers/0000"].attrs["feature_shape"] = [width]
    for index in range(20):
        group = file.create_group(f"layers/x{index}")
        group.attrs.update({**file["layers/0000"].attrs, "name": np.bytes_(b"%d" % (100 + index))})
        group["data"] = dataset


@hostile_hdf5(UNFIT)
def more_rows_than_ids(file: h5py.File, place: Place) -> None:
    replaced(file, data=np.ones((600, 8), np.float32))
    file["layers/0000"].attrs["n_rows"] = 600


@hostile_hdf5("of type unknown to numpy")
def ids_longer_than_numpy_knows(file: h5py.File, place: Place) -> None:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(2**31)
    created(file, "stimulus_id", kind, (6,))


@hostile_hdf5(LITTLE)
def ids_of_a_gigabyte_each(file: h5py.File, place: Place) -> None:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(2**30)
    created(file, "stimulus_id", kind, (6,))


@hostile_hdf5("stimulus_id in .* is compressed")
def ids_compressed(file: h5py.File, place: Place) -> None:
    longest = 2**20
    dataset = replaced(file, "stimulus_id", shape=(6,), chunks=(1,), dtype=f"S{longest}", compression="gzip")
    for row in range(6):
        dataset.id.write_direct_chunk((row,), zeros(longest, level=1))


# Edits of one call

EDITS: dict[str, tuple[str, Callable[[h5py.File, Place], Any]]] = {
    "dangling soft link": (ELSEWHERE, lambda file, place: linked(file, DATA, h5py.SoftLink("/nowhere"))),
    "soft link to itself": (ELSEWHERE, lambda file, place: linked(file, DATA, h5py.SoftLink(f"/{DATA}"))),
    "external storage": (
        "external or virtual",
        lambda file, place: replaced(
            file, shape=(6, 8), dtype="<f4", external=[(place.outside / "secret", 0, FLOATS.nbytes)]
        ),
    ),
    "external storage of ids": (
        "external or virtual",
        lambda file, place: replaced(
            file, "stimulus_id", shape=(6,), dtype="S2", external=[(place.outside / "secret", 0, 12)]
        ),
    ),
    "layers that hold themselves": (
        "data in .* is missing",
        lambda file, place: linked(file, "layers/0000", file["layers"]),
    ),
    "data that is a type": (
        "/layers/0000/data in .* is not a dataset",
        lambda file, place: linked(file, DATA, np.dtype("<f4")),
    ),
    "layer that is a dataset": (
        "/layers/0000 in .* is not a group",
        lambda file, place: linked(file, "layers/0000", FLOATS),
    ),
    "layers that are a dataset": ("/layers in .* is not a group", lambda file, place: linked(file, "layers", FLOATS)),
    "layer whose name is no text": (ELSEWHERE, lambda file, place: file["layers"].create_group(b"\xff")),
    "data that is its own group": ("is not a dataset", lambda file, place: linked(file, DATA, file["layers/0000"])),
    "one layer linked nine thousand times": (
        "has two layers of the same name",
        lambda file, place: link_often(file["layers"], file["layers/0000"], 9000),
    ),
    "time type": ("of type unknown to numpy", lambda file, place: created(file, DATA, h5py.h5t.UNIX_D32LE, (6, 8))),
    "filter scaleoffset": (
        r"uses unknown filters \(6\)",
        lambda file, place: replaced(file, data=FLOATS, scaleoffset=3),
    ),
    "one chunk of many without filter": (
        "claims 192 bytes but stores 32",
        lambda file, place: replaced(file, shape=(6, 8), chunks=(1, 8), dtype="<f4").id.write_direct_chunk(
            (0, 0), bytes(32)
        ),
    ),
}
for name, (message, edit) in EDITS.items():
    CASES[name] = Case(partial(in_activations, edit), ("activations", "verify"), message)
