"""Runs that somebody made to harm whoever reads them: refused by name, soon, in little memory, and inside the run.

Every case changes a small valid run, and seals its hashes anew, as an attacker would. A server that has imported
everything reads it in a forked process of its own, so that time, memory and signals belong to the case.
"""

import ctypes
import gc
import hashlib
import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from checkpoints import Activations, Capture, Run, Stimuli, read_weights
from checkpoints.storage.activation_file import LayerValues, write_activations

STEP = 5
LARGEST = 2**20  # bytes of a hostile file on disk
MOST_SECONDS = 5
MOST_MEMORY = 300 * 2**20  # or, if an honest read takes more than 200 MiB as with torch 2.13:
ROOM = 100 * 2**20  # beyond that read
DATA = "layers/0000/data"
FLOATS = np.ones((6, 8), np.float32)


# The run that is attacked


def build() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def build_stimuli() -> Stimuli:
    inputs = np.random.default_rng(0).normal(size=(6, 3))
    return Stimuli.of([f"s{index}" for index in range(6)], [1, 0] * 3, ["train"] * 6, inputs)


def write_run(path: Path) -> None:
    model = build()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(16, 3)).square().mean().backward()
    optimizer.step()
    with Run.create(path, {"lr": 0.1}, build_stimuli()) as run, Capture(model, ["0", "2"]) as capture:
        run.log({"step": 1, "loss": 0.5})
        run.checkpoint(STEP, model, optimizer, capture=capture)


@dataclass(frozen=True)
class Place:
    """Where a case is made: the run, files given beside it, and what lies outside and is nobody's to touch."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def step(self) -> Path:
        return self.run / "checkpoints" / f"step_{STEP:08d}"

    @property
    def activations(self) -> Path:
        return self.step / "activations.h5"

    @property
    def given(self) -> Path:
        return self.folder / "given"

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    def of(self, name: str) -> Path:
        """Return the path of a file of the run or of its step."""
        return self.run / name if (self.run / name).is_symlink() or (self.run / name).exists() else self.step / name


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that ``place`` copies."""
    folder = tmp_path_factory.mktemp("original")
    write_run(folder / "run")
    (folder / "given").mkdir()
    shutil.copytree(folder / "run", folder / "outside")
    (folder / "outside" / "secret").write_bytes(FLOATS.tobytes())
    (folder / "outside" / ".tmp-precious").write_text("do not remove")
    return folder


@pytest.fixture
def place(original: Path, tmp_path: Path) -> Place:
    return Place(shutil.copytree(original, tmp_path / "case"))


def seal(place: Place) -> None:
    """Make every hash fit what is there now; links are followed, and what cannot be hashed gets some hash."""
    if not place.step.is_symlink() and (place.step / "MANIFEST.json").is_file():
        manifest = json.loads((place.step / "MANIFEST.json").read_bytes())
        for name in manifest["files"]:
            manifest["files"][name] = described(place.step / name)
        if not (place.step / "MANIFEST.json").is_symlink():
            write_json(place.step / "MANIFEST.json", manifest)
    if (place.run / "run.json").is_file() and not (place.run / "run.json").is_symlink():
        info = json.loads((place.run / "run.json").read_bytes())
        info["stimuli_sha256"] = described(place.run / "stimuli.h5")["sha256"]
        write_json(place.run / "run.json", sealed(info))


def described(path: Path) -> dict[str, Any]:
    content = path.read_bytes() if path.is_file() and path.stat().st_size < 2**24 else b""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def sealed(info: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in info.items() if name != "sha256"}
    return {**rest, "sha256": hashlib.sha256((json.dumps(rest, indent=2) + "\n").encode()).hexdigest()}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


# The reader, in a process of its own


def operations(place: Place) -> dict[str, Callable[[], Any]]:
    """Return what readers and writers of a run do, by name."""

    def step() -> Any:
        return Run.open(place.run)[STEP]

    def restore() -> None:
        model = build()
        step().restore(model, torch.optim.Adam(model.parameters()))

    return {
        "open": lambda: Run.open(place.run),
        "status": lambda: Run.open(place.run).status,
        "steps": lambda: Run.open(place.run).steps,
        "metrics": lambda: Run.open(place.run).metrics(),
        "stimuli": lambda: Run.open(place.run).stimuli,
        "activations": lambda: [block for layer in step().activations.values() for block in layer.blocks()],
        "weights": lambda: step().weights(),
        "restore": restore,
        "verify size": lambda: Run.open(place.run).verify("size"),
        "verify": lambda: Run.open(place.run).verify("sha256"),
        "resume": lambda: go_on(place.run),
        "read_weights": lambda: [read_weights(path) for path in sorted(place.given.iterdir())],
    }


def go_on(path: Path) -> None:
    with Run.resume(path, build_stimuli()) as run:
        run.set_status("running")
        run.log({"step": 6, "loss": 0.25})
        run.cut_metrics(STEP)
        run.checkpoint(6, build())


def serve() -> None:
    """Read one case a line of the standard input, each in a forked process, and answer with a line each."""
    torch.optim.Adam(build().parameters())  # it imports more at its first use
    gc.freeze()  # or each fork would copy what its collector walks over
    for line in sys.stdin:
        request = json.loads(line)
        source, sink = os.pipe()
        if (child := os.fork()) == 0:
            os.close(source)
            os.write(sink, json.dumps(attempt(**request)).encode())
            os._exit(0)
        os.close(sink)
        with os.fdopen(source, "rb") as answer:
            attempted = json.loads(answer.read() or "{}")
        _, status, usage = os.wait4(child, 0)
        print(json.dumps({**attempted, "status": status, "memory": usage.ru_maxrss * 1024}), flush=True)


def attempt(folder: str, resume: bool, torch_version: str | None) -> dict[str, Any]:
    """Do all a reader does, in bounded time and memory, and return the errors that it met and its longest time."""
    signal.alarm(20)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 2**30
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**31,) * 2)
    if torch_version is not None:
        torch.__version__ = torch_version  # type: ignore[assignment]
    errors, seconds = {}, 0.0
    for name, operation in operations(Place(Path(folder))).items():
        if name == "resume" and not resume:
            continue
        started = time.monotonic()
        try:
            operation()
        except BaseException as error:
            errors[name] = ([each.__name__ for each in type(error).__mro__], str(error)[:20_000])
        seconds = max(seconds, time.monotonic() - started)
    return {"errors": errors, "seconds": seconds}


@dataclass
class Reader:
    """The server; ``honest`` is the memory that it takes to read the untouched run."""

    process: subprocess.Popen[str]
    honest: int = 0

    def read(self, place: Place, *, resume: bool = True, torch_version: str | None = None) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"folder": str(place.folder), "resume": resume, "torch_version": torch_version}
        print(json.dumps(request), file=self.process.stdin)
        self.process.stdin.flush()
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        return report


@pytest.fixture(scope="module")
def reader(original: Path) -> Iterator[Reader]:
    command = [sys.executable, __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        reader = Reader(process)
        copy = Place(shutil.copytree(original, original.parent / f"{original.name}-honest"))
        report = reader.read(copy)
        assert report["errors"] == {}
        reader.honest = report["memory"]
        yield reader
        assert process.stdin is not None
        process.stdin.close()


# What is touched outside


class WatchedModule:
    """Tells which files below a folder are opened, read, written, made or removed, by whichever process."""

    _OPEN, _ACCESS, _MODIFY, _CREATE, _DELETE, _MOVED = 0x20, 0x1, 0x2, 0x100, 0x200, 0xC0

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            pytest.skip("inotify is not available: what is opened outside cannot be seen")
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            pytest.skip("inotify gives no more instances: what is opened outside cannot be seen")
        mask = self._OPEN | self._ACCESS | self._MODIFY | self._CREATE | self._DELETE | self._MOVED
        for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            assert libc.inotify_add_watch(self._descriptor, os.fsencode(each), mask) >= 0

    def close(self) -> list[str]:
        """Return the names of what was touched."""
        try:
            events = os.read(self._descriptor, 2**16)
        except BlockingIOError:
            events = b""
        os.close(self._descriptor)
        names = []
        while events:
            length = struct.unpack_from("iIII", events)[3]
            names.append(events[16 : 16 + length].rstrip(b"\0").decode() or ".")
            events = events[16 + length :]
        return names


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The corpus


@dataclass(frozen=True)
class Case:
    """A change of the run, the operations that must refuse it, and a part of what they say."""

    make: Callable[[Place], None]
    refusing: tuple[str, ...]
    message: str
    sealed: bool = field(default=True, kw_only=True)
    torch_version: str | None = field(default=None, kw_only=True)


CASES: dict[str, Case] = {}


def hostile(
    refusing: str, message: str, **options: Any
) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    """Add the decorated change to the corpus, under its name."""

    def add(make: Callable[[Place], None]) -> Callable[[Place], None]:
        CASES[make.__name__] = Case(make, tuple(filter(None, refusing.split(", "))), message, **options)
        return make

    return add


def in_activations(edit: Callable[[h5py.File, Place], Any], place: Place, **options: Any) -> None:
    with h5py.File(place.activations, "r+", **options) as file:
        edit(file, place)


def hostile_hdf5(message: str, **options: Any) -> Callable[[Callable[[h5py.File, Place], Any]], Any]:
    """Add an edit of ``activations.h5`` to the corpus."""

    def add(edit: Callable[[h5py.File, Place], Any]) -> Any:
        CASES[edit.__name__] = Case(partial(in_activations, edit, **options), ("activations", "verify"), message)
        return edit

    return add


def replaced(file: h5py.File, name: str = DATA, **options: Any) -> h5py.Dataset:
    """Put another dataset in the place of one."""
    del file[name]
    return file.create_dataset(name, **options)


def created(
    file: h5py.File, name: str, kind: Any, shape: tuple[int, ...], properties: Any = None
) -> h5py.h5d.DatasetID:
    """Put a dataset of a type that only HDF5 knows in the place of one."""
    del file[name]
    return h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), properties)


def linked(file: h5py.File, name: str, link: Any) -> None:
    del file[name]
    file[name] = link


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


@hostile_hdf5(ELSEWHERE)
def dangling_soft_link(file: h5py.File, place: Place) -> None:
    linked(file, DATA, h5py.SoftLink("/nowhere"))


@hostile_hdf5(ELSEWHERE)
def soft_link_to_itself(file: h5py.File, place: Place) -> None:
    linked(file, DATA, h5py.SoftLink(f"/{DATA}"))


@hostile_hdf5("external or virtual")
def external_storage(file: h5py.File, place: Place) -> None:
    replaced(file, shape=(6, 8), dtype="<f4", external=[(place.outside / "secret", 0, FLOATS.nbytes)])


@hostile_hdf5("external or virtual")
def external_storage_of_ids(file: h5py.File, place: Place) -> None:
    replaced(file, "stimulus_id", shape=(6,), dtype="S2", external=[(place.outside / "secret", 0, 12)])


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


@hostile_hdf5("data in .* is missing")
def layers_that_hold_themselves(file: h5py.File, place: Place) -> None:
    linked(file, "layers/0000", file["layers"])


@hostile_hdf5("is not a dataset")
def data_that_is_its_own_group(file: h5py.File, place: Place) -> None:
    linked(file, DATA, file["layers/0000"])


@hostile_hdf5("claims 10001 layers; at most 10000 are read", libver=("v110", "v110"))
def one_layer_linked_ten_thousand_times(file: h5py.File, place: Place) -> None:
    link_often(file["layers"], file[DATA], 9999)


@hostile_hdf5("has two layers of the same name")
def one_layer_linked_nine_thousand_times(file: h5py.File, place: Place) -> None:
    link_often(file["layers"], file["layers/0000"], 9000)


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


@hostile_hdf5("of type unknown to numpy")
def time_type(file: h5py.File, place: Place) -> None:
    created(file, DATA, h5py.h5t.UNIX_D32LE, (6, 8))


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


@hostile_hdf5(r"uses unknown filters \(6\)")
def filter_scaleoffset(file: h5py.File, place: Place) -> None:
    replaced(file, data=FLOATS, scaleoffset=3)


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


@hostile_hdf5("claims 192 bytes but stores 32")
def one_chunk_of_many_without_filter(file: h5py.File, place: Place) -> None:
    replaced(file, shape=(6, 8), chunks=(1, 8), dtype="<f4").id.write_direct_chunk((0, 0), bytes(32))


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


# Not a file, or a file elsewhere

REFUSED = {
    "weights.safetensors": "weights, restore, verify size, verify",
    "optimizer.safetensors": "restore, verify size, verify",
    "state.json": "restore, verify size, verify",
    "activations.h5": "activations, restore, verify size, verify",
    "MANIFEST.json": "restore, verify size, verify",
    "run.json": "open, status, steps, activations, verify, resume",
    "metrics.jsonl": "metrics, verify, resume",
    "run.lock": "status, resume",
    "run.lease-1": "status, resume",
    "stimuli.h5": "stimuli, verify, resume",
}


def link_outside(path: Path, target: Path) -> None:
    path.symlink_to(target)


SUBSTITUTES: dict[str, Callable[[Path, Path], Any]] = {
    "a link": link_outside,
    "a pipe": lambda path, target: os.mkfifo(path),
    "a folder": lambda path, target: path.mkdir(),
    "a dangling link": lambda path, target: path.symlink_to(target.parent / "missing"),
}
for name, refusing in REFUSED.items():
    for kind, substitute in SUBSTITUTES.items():

        def substituted(place: Place, name: str = name, substitute: Any = substitute) -> None:
            path = place.run / name if "lease" in name else place.of(name)
            path.unlink(missing_ok=True)
            substitute(path, place.outside / path.relative_to(place.run))

        CASES[f"{kind} instead of {name}"] = Case(substituted, tuple(refusing.split(", ")), name)


@hostile("activations, weights, restore, verify", "is missing or not a folder")
def step_that_is_a_link(place: Place) -> None:
    shutil.rmtree(place.step)
    place.step.symlink_to(place.outside / "checkpoints" / place.step.name)


@hostile("steps, activations, weights, restore, verify, resume", "is a link|is missing or not a folder")
def checkpoints_that_are_a_link(place: Place) -> None:
    shutil.rmtree(place.run / "checkpoints")
    (place.run / "checkpoints").symlink_to(place.outside)


@hostile("activations, weights, restore, resume", "has no checkpoint of step 5|is missing or not a folder")
def checkpoints_that_are_a_pipe(place: Place) -> None:
    shutil.rmtree(place.run / "checkpoints")
    os.mkfifo(place.run / "checkpoints")


@hostile("", "")
def abandoned_work_that_is_a_link(place: Place) -> None:
    (place.run / ".tmp-a").symlink_to(place.outside)
    (place.run / ".tmp-b").mkdir()
    (place.run / ".tmp-b" / "c").symlink_to(place.outside)
    (place.run / "checkpoints" / ".tmp-d").symlink_to(place.outside / "secret")


@hostile("weights, verify", "cannot be read|bytes", sealed=False)
def weights_of_a_sparse_petabyte(place: Place) -> None:
    os.truncate(place.step / "weights.safetensors", 2**43)


@hostile("metrics, resume, verify", "cannot be read")
def metrics_of_sparse_terabytes(place: Place) -> None:
    os.truncate(place.run / "metrics.jsonl", 2**43)


# JSON

DEEP = "[" * 100_000 + "]" * 100_000
BAD_JSON: dict[str, str] = {
    "nested deeply": DEEP,
    "nested and never closed": "[" * (LARGEST - 2000),
    "a number of a million digits": "9" * (LARGEST - 2000),
    "objects nested and never closed": '{"a":' * 200_000,
    "nothing": "",
    "no text": "\udcff",
    "no object": "[]",
}
READERS = {**REFUSED, "state.json": "restore, verify", "run.json": "open, steps, verify, resume"}
for name in ("MANIFEST.json", "state.json", "run.json"):
    for kind, text in BAD_JSON.items():

        def jsoned(place: Place, name: str = name, text: str = text) -> None:
            place.of(name).write_bytes(text.encode(errors="surrogateescape"))
            if name == "state.json":
                seal(place)

        CASES[f"{name} that is {kind}"] = Case(jsoned, tuple(READERS[name].split(", ")), name, sealed=False)


def change_json(place: Place, name: str, change: Callable[[Any], Any]) -> None:
    value = json.loads(place.of(name).read_bytes())
    change(value)
    if name == "run.json":
        value = sealed(value)
    write_json(place.of(name), value)
    if name != "MANIFEST.json":
        seal(place)


def changing(name: str, refusing: str, message: str, **changes: Callable[[Any], Any]) -> None:
    for what, change in changes.items():
        make = partial(change_json, name=name, change=change)
        CASES[f"{name} with {what}"] = Case(make, tuple(refusing.split(", ")), message, sealed=False)


MALFORMED = "has a malformed list of files"
ENTRY = {"size": 0, "sha256": hashlib.sha256().hexdigest()}
for name in ("../secret", "/etc/passwd", "..", ".", "", "..\\secret", "a/b"):
    changing(
        "MANIFEST.json",
        "verify size, verify, restore",
        MALFORMED,
        **{f"the name {name!r}": lambda manifest, name=name: manifest["files"].update({name: ENTRY})},
    )
for name in ("a\0b", "\ud800", "x" * 5000):
    changing(
        "MANIFEST.json",
        "verify size, verify, restore",
        "is missing|is not in its manifest",
        **{f"the name {name[:9]!r}": lambda manifest, name=name: manifest["files"].update({name: ENTRY})},
    )
for size in (True, None, 1.5, "1", [1]):
    changing(
        "MANIFEST.json",
        "verify size, verify, restore",
        MALFORMED,
        **{f"size {size!r}": lambda manifest, size=size: manifest["files"]["state.json"].update(size=size)},
    )
for size in (-1, 2**63, 10**4000):
    changing(
        "MANIFEST.json",
        "verify size, verify, restore",
        "were committed",
        **{
            f"size {size:.0e}" if size < 2**70 else "a size of 4001 digits": lambda manifest, size=size: manifest[
                "files"
            ]["state.json"].update(size=size)
        },
    )
changing(
    "MANIFEST.json",
    "verify size, verify, restore",
    "MANIFEST.json|not in its manifest",
    files_in_a_list=lambda manifest: manifest.update(files=[ENTRY]),
    files_without_end=lambda manifest: manifest.update(files=json.loads("[" * 400 + "]" * 400)),
    entries_of_another_kind=lambda manifest: manifest.update(files={"state.json": [1]}),
    no_weights=lambda manifest: manifest["files"].pop("weights.safetensors"),
    another_version=lambda manifest: manifest.update(format_version=[1]),
    another_format=lambda manifest: manifest.update(format={"a": 1}),
)


@hostile("verify size, verify, restore", "has changed since it was written", sealed=False)
def manifest_with_a_name_twice(place: Place) -> None:
    text = (place.step / "MANIFEST.json").read_text()
    (place.step / "MANIFEST.json").write_text(text.replace('"files"', '"files": {},\n  "files"'))


@hostile("verify", "recorded elsewhere: its weights_hash", sealed=False)
def step_without_weights(place: Place) -> None:
    (place.step / "weights.safetensors").unlink()
    change_json(place, "MANIFEST.json", lambda manifest: manifest["files"].pop("weights.safetensors"))


@hostile("verify", "has changed since it was written", sealed=False)
def run_whose_indentation_is_a_bomb(place: Place) -> None:
    info = json.loads((place.run / "run.json").read_bytes())
    text = json.dumps({**info, "config": {"a": "HERE"}})
    (place.run / "run.json").write_text(text.replace('"HERE"', f"[{','.join(['[' * 900 + ']' * 900] * 150)}]"))


@hostile("verify", "is not readable JSON", sealed=False)
def run_with_what_is_no_number(place: Place) -> None:
    change_json(place, "run.json", lambda info: info.update(config={"a": 1e400}))


changing(
    "run.json", "open, verify, resume", "run.json|format version", config_in_a_list=lambda info: info.update(config=[1])
)
changing(
    "run.json",
    "verify",
    "the status does not state the size of .*metrics.jsonl",
    a_log_of_negative_size=lambda info: info.update(metrics={"size": -1, "sha256": ""}),
    no_log=lambda info: info.update(metrics=3),
    a_log_of_half_a_byte=lambda info: info.update(metrics={"size": 0.5}),
)
changing(
    "run.json",
    "verify",
    r"metrics.jsonl has \d+ bytes; the status was committed after",
    a_log_of_exabytes=lambda info: info.update(metrics={"size": 2**70}),
)
for kind, text in BAD_JSON.items():
    if text:

        def logged(place: Place, text: str = text) -> None:
            with (place.run / "metrics.jsonl").open("ab") as file:
                file.write(text.encode(errors="surrogateescape") + b"\n")

        CASES[f"a line of metrics that is {kind}"] = Case(
            logged, ("metrics", "verify", "resume"), r"Line 2 of .*metrics"
        )


@hostile("resume", r"Line 2 of .*metrics.jsonl has step \[5\]; expected a whole number")
def metrics_of_a_step_that_is_no_number(place: Place) -> None:
    with (place.run / "metrics.jsonl").open("a") as file:
        file.write('{"step": [5]}\n')


@hostile("status, resume", "65 leases are beside this lock; at most 64 are read")
def leases_without_number(place: Place) -> None:
    for number in range(65):
        (place.run / f"run.lease-{number}").touch()


for name, text in {"an endless number": '{"pid": 1e999, "host": 3}', "deep": "[" * 5000, "no text": "\udcff"}.items():

    def owned(place: Place, text: str = text) -> None:
        (place.run / "run.lock").write_bytes(text.encode(errors="surrogateescape"))

    CASES[f"a lock whose owner is {name}"] = Case(owned, (), "")


# The state of optimizers and generators


def set_numpy(position: Any) -> Callable[[Any], Any]:
    return lambda state: state["rng"]["numpy"].__setitem__(2, position)


changing(
    "state.json",
    "restore",
    "state.json.* holds no state of the generators",
    a_position_beyond_the_generator=set_numpy(10**6),
    a_position_before_the_generator=set_numpy(-1),
    a_position_beyond_64_bits=set_numpy(10**30),
    a_position_of_text=set_numpy("1"),
    a_generator_of_another_kind=lambda state: state["rng"]["numpy"].__setitem__(0, "PCG64"),
    a_huge_flag=lambda state: state["rng"]["numpy"].__setitem__(3, 10**30),
    generators_in_a_list=lambda state: state.update(rng=[1]),
    a_short_generator=lambda state: state["rng"].update(torch="00"),
    no_generator=lambda state: state["rng"].update(torch=None),
    an_odd_generator=lambda state: state["rng"]["python"].__setitem__(1, "00" * 2501),
    a_normal_draw_of_text=lambda state: state["rng"]["python"].__setitem__(2, "1"),
    devices_of_another_kind=lambda state: state["rng"].update(cuda={"0": 1}),
)
TWICE = {"__items__": [["a", {"__tensor__": "0"}], ["b", {"__tensor__": "0"}]]}
changing(
    "state.json",
    "restore",
    "does not match optimizer.safetensors",
    one_tensor_twice=lambda state: state.update(optimizer=TWICE),
    a_tensor_of_another_name=lambda state: state.update(optimizer={"__tensor__": "../0"}),
    a_tensor_whose_name_is_a_list=lambda state: state.update(optimizer={"__tensor__": [1]}),
    items_that_are_a_number=lambda state: state.update(optimizer={"__items__": 3}),
    items_that_are_triples=lambda state: state.update(optimizer={"__items__": [[1, 2, 3]]}),
    keys_that_are_lists=lambda state: state.update(optimizer={"__items__": [[[1], 2]]}),
    no_items=lambda state: state.update(optimizer={"a": 1}),
)
changing(
    "state.json",
    "restore",
    "does not hold (the|a) state of (an|this) optimizer",
    an_optimizer_that_is_a_number=lambda state: state.update(optimizer=[1]),
    an_optimizer_that_is_text=lambda state: state.update(optimizer="adam"),
    an_optimizer_without_groups=lambda state: state.update(optimizer={"__items__": [["state", 3]]}),
    groups_that_are_a_number=lambda state: state.update(
        optimizer={"__items__": [["state", {"__items__": []}], ["param_groups", 3]]}
    ),
    groups_nested_deeply=lambda state: state.update(
        optimizer={"__items__": [["state", 3], ["param_groups", json.loads("[" * 150 + "]" * 150)]]}
    ),
)


# Weights


def tensors(header: Any, data: bytes = bytes(64), size: int | None = None) -> bytes:
    """Return a safetensors file; ``header`` may be text, ``size`` the length that it claims."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


class Run_a_command:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


TENSORS: dict[str, bytes] = {
    "100 MB of header": tensors({}, size=100_000_000),
    "a header of 2^63 bytes": tensors({}, size=2**63),
    "a header of 2^64 - 1 bytes": tensors({}, size=2**64 - 1),
    "tensors that overlap": tensors({"a": tensor([16], 0, 64), "b": tensor([16], 0, 64)}),
    "a tensor beyond the file": tensors({"a": tensor([1000], 0, 4000)}),
    "a tensor before itself": tensors({"a": tensor([16], 64, 0)}),
    "a hole": tensors({"a": tensor([8], 32, 64)}),
    "a huge shape": tensors({"a": tensor([2**40, 2**40], 0, 64)}),
    "a shape beyond 64 bits": tensors({"a": tensor([2**64, 2**64], 0, 64)}),
    "an empty tensor of a huge shape": tensors({"a": tensor([0, 2**62, 8], 0, 0)}, b""),
    "an empty tensor of 2^63 columns": tensors({"a": tensor([0, 2**63], 0, 0)}, b""),
    "a tensor that wraps around": tensors({"a": tensor([2**62, 4], 0, 0)}, b""),
    "a negative shape": tensors({"a": tensor([-16], 0, 64)}),
    "a type that nobody knows": tensors({"a": tensor([16], 0, 64, "X9")}),
    "numbers of half a byte": tensors({"a": tensor([128], 0, 64, "F4")}),
    "a header nested deeply": tensors(DEEP.encode()),
    "a header that is no JSON": tensors(b"\xff" * 100),
    "nothing": b"",
    "seven bytes": b"\x01" * 7,
    "a pickle": pickle.dumps({"a": 1}),
}
for name, content in TENSORS.items():

    def given_tensors(place: Place, content: bytes = content) -> None:
        (place.given / "w.safetensors").write_bytes(content)
        (place.step / "weights.safetensors").write_bytes(content)

    CASES[f"safetensors of {name}"] = Case(
        given_tensors, ("read_weights", "weights", "restore", "verify"), "safetensors|recorded"
    )


def archive(place: Place, values: Any, change: Callable[[str, bytes], bytes] | None = None, **options: Any) -> None:
    """Give a file as torch.save writes it, with some of its records changed."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(place.given / "w.pt", "w", **options) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content if change is None else change(name, content))


NOT_READ = "is not a file of plain tensors, but a whole model, other objects or no pickle; it was not read"


@hostile("read_weights", NOT_READ)
def pickle_that_runs_a_command(place: Place) -> None:
    (place.given / "w.pt").write_bytes(pickle.dumps(Run_a_command(place.outside / "executed")))


@hostile("read_weights", NOT_READ)
def archive_that_runs_a_command(place: Place) -> None:
    torch.save({"a": Run_a_command(place.outside / "executed")}, place.given / "w.pt")


@hostile("read_weights", NOT_READ)
def legacy_file_that_runs_a_command(place: Place) -> None:
    values = {"a": Run_a_command(place.outside / "executed")}
    torch.save(values, place.given / "w.pt", _use_new_zipfile_serialization=False)


@hostile("read_weights", "cannot be read")
def pickle_named_safetensors(place: Place) -> None:
    (place.given / "w.safetensors").write_bytes(pickle.dumps(Run_a_command(place.outside / "executed")))


@hostile("read_weights", r"is a pickle, which torch 2\.9\.1 does not read safely", torch_version="2.9.1")
def weights_for_a_torch_that_is_too_old(place: Place) -> None:
    torch.save({"a": torch.zeros(3)}, place.given / "w.pt")


@hostile("read_weights", r"is a pickle, which torch 2\.5\.0a0\+git does not", torch_version="2.5.0a0+git")
def command_for_a_torch_that_is_too_old(place: Place) -> None:
    pickle_that_runs_a_command(place)


@hostile("read_weights", "is a compressed archive")
def archive_bomb(place: Place) -> None:
    archive(
        place,
        {"a": torch.zeros(4)},
        lambda name, content: bytes(2**28) if name.endswith("data/0") else content,
        compression=zipfile.ZIP_DEFLATED,
    )


@hostile("read_weights", "is a compressed archive")
def archive_of_overlapping_records(place: Place) -> None:
    torch.save({"a": torch.zeros(2**16), "b": torch.zeros(2**16)}, place.given / "w.pt")
    with zipfile.ZipFile(place.given / "w.pt", "a") as file:
        largest = next(info for info in file.infolist() if info.filename.endswith("data/0"))
        for index in range(100):
            again = zipfile.ZipInfo(f"archive/data/{index + 10}")
            again.header_offset, again.file_size, again.compress_size = largest.header_offset, 2**18, 2**18
            again.CRC = largest.CRC
            file.filelist.append(again)
        file._didModify = True  # type: ignore[attr-defined]


@hostile("read_weights", "not read|claims more values")
def archive_whose_tensor_is_larger_than_its_record(place: Place) -> None:
    archive(place, {"a": torch.zeros(2**10)}, lambda name, content: content[:8] if name.endswith("data/0") else content)


@hostile("read_weights", "claims more values at 'a' than it stores")
def archive_of_a_petabyte_repeated(place: Place) -> None:
    torch.save({"a": torch.zeros(1).expand(2**24, 2**24)}, place.given / "w.pt")


@hostile("read_weights", "claims more values at 'a' than it stores")
def archive_of_a_tensor_without_values(place: Place) -> None:
    torch.save({"a": torch.zeros(2**24, 2**24, device="meta")}, place.given / "w.pt")


@hostile("read_weights", "claims more values at 'a' than it stores")
def archive_of_a_sparse_petabyte(place: Place) -> None:
    sparse = torch.sparse_coo_tensor(
        torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (2**24, 2**24), check_invariants=True
    )
    torch.save({"a": sparse}, place.given / "w.pt")


PICKLES: dict[str, bytes] = {
    "a million marks": b"\x80\x02" + b"(" * 10**6,
    "a string beyond the file": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "an empty stack": b"\x80\x02s.",
    "an unknown memo": b"\x80\x02h\x05.",
    "an unhashable key": b"\x80\x02}]K\x01s.",
    "lists nested deeply": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "a cycle": b"\x80\x02]q\x00h\x00a.",
    "a call of a number": b"\x80\x02K\x01)R.",
    "a state for a number": b"\x80\x02K\x01}b.",
    "nothing": b"",
    "half an archive": b"PK\x03\x04" + bytes(100),
    "an archive without records": b"PK\x05\x06" + bytes(18),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
}
for name, content in PICKLES.items():

    def given_pickle(place: Place, content: bytes = content) -> None:
        (place.given / "w.pt").write_bytes(content)

    CASES[f"pickle of {name}"] = Case(given_pickle, ("read_weights",), "not read|holds")


@hostile("read_weights", "not read")
def old_archive_of_another_kind(place: Place) -> None:
    with tarfile.open(place.given / "w.pt", "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            file.addfile(tarfile.TarInfo(name))


@hostile("read_weights", "is missing or not a regular file")
def given_weights_that_are_a_pipe(place: Place) -> None:
    os.mkfifo(place.given / "w.pt")


@hostile("read_weights", "is of no known type")
def given_weights_of_no_known_type(place: Place) -> None:
    (place.given / "w.pkl").write_bytes(pickle.dumps(Run_a_command(place.outside / "executed")))


# The claims


def size_on_disk(folder: Path) -> int:
    return max(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_run_is_refused_by_name_and_harms_nothing(name: str, place: Place, reader: Reader) -> None:
    case = CASES[name]
    case.make(place)
    if case.sealed:
        seal(place)
    assert size_on_disk(place.folder) <= LARGEST
    before = contents(place.outside)
    watch = WatchedModule(place.outside)
    resume = "resume" in case.refusing or not case.refusing  # the other cases are for readers; resuming syncs a lot
    report = reader.read(place, resume=resume, torch_version=case.torch_version)
    touched = watch.close()
    errors = report["errors"]
    assert report["status"] == 0, f"ended with status {report['status']}"
    assert touched == []
    assert contents(place.outside) == before
    assert report["seconds"] < MOST_SECONDS
    assert report["memory"] < max(MOST_MEMORY, reader.honest + ROOM)
    for operation, (types, message) in errors.items():
        assert {"OSError", "ValueError", "KeyError"} & set(types), (operation, types, message)
        assert str(place.folder) in message, (operation, types, message)
    for operation in case.refusing:
        types, message = errors[operation]
        assert re.search(case.message, message), (operation, message)


@pytest.mark.parametrize("name", ["external link at layers/0000/data", "external_storage", "virtual_dataset"])
def test_the_watch_sees_a_reader_that_follows_what_it_is_given(name: str, place: Place) -> None:
    CASES[name].make(place)
    watch = WatchedModule(place.outside)
    with h5py.File(place.activations) as file:
        assert file[DATA][()].shape == (6, 8)
    assert watch.close()


@pytest.mark.parametrize("compress", [False, True])
def test_honest_zeros_are_read_though_they_shrink_most(tmp_path: Path, compress: bool) -> None:
    path, ids = tmp_path / "activations.h5", np.array(["a", "b", "c", "d"])
    zeros = LayerValues(np.zeros((4, 500_000), np.float32), (500_000,), "torch.float32")
    write_activations(path, [{"zeros": zeros}], ids, {"step": 1}, compress=compress)
    layer = Activations(path)["zeros"]
    for selected in (layer[:], layer[[3, 0, 1, 2]], np.concatenate(list(layer.blocks(1))), layer[...]):
        np.testing.assert_array_equal(selected, zeros.values, strict=True)
    assert layer[-1, 7] == layer[np.int64(2), 7] == 0


def test_incompressible_values_are_read_though_gzip_gave_up(tmp_path: Path) -> None:
    path, ids = tmp_path / "activations.h5", np.array(["a", "b"])
    values = np.random.default_rng(0).normal(size=(2, 100_000))
    write_activations(path, [{"noise": LayerValues(values, (100_000,), "float64")}], ids, {"step": 1}, compress=True)
    np.testing.assert_array_equal(Activations(path)["noise"][:], values, strict=True)


if __name__ == "__main__":
    serve()
