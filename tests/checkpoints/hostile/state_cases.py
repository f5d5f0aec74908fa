"""Malformed states of optimizers and generators, and malformed weights and pickles."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.checkpoints.hostile.corpus import CASES, Case, changing, hostile
from tests.checkpoints.hostile.file_cases import DEEP
from tests.checkpoints.hostile.reader import Place


def set_numpy(position: Any) -> Callable[[Any], Any]:
    return lambda state: state["rng"]["numpy"].__setitem__(2, position)


changing(
    "state.json",
    "restore",
    "state.json.* holds no valid state of the generators",
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


@hostile("read_weights", r"calls posix\.system, which no file of weights needs; it was not read")
def archive_that_runs_a_command(place: Place) -> None:
    torch.save({"a": Run_a_command(place.outside / "executed")}, place.given / "w.pt")


@hostile("read_weights", NOT_READ)
def legacy_file_that_runs_a_command(place: Place) -> None:
    values = {"a": Run_a_command(place.outside / "executed")}
    torch.save(values, place.given / "w.pt", _use_new_zipfile_serialization=False)


@hostile("read_weights", "is not the index of several files of weights")
def index_nested_deeply(place: Place) -> None:
    (place.given / "w.bin.index.json").write_text('{"weight_map": ' + "[" * 10**5)


@hostile("read_weights", r"names '\.\./outside/w\.bin'; expected the name of a file of weights in the same folder")
def index_that_leaves_its_folder(place: Place) -> None:
    (place.given / "w.bin.index.json").write_text(json.dumps({"weight_map": {"a": "../outside/w.bin"}}))


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


@hostile("read_weights", "has an unknown type")
def given_weights_of_no_known_type(place: Place) -> None:
    (place.given / "w.pkl").write_bytes(pickle.dumps(Run_a_command(place.outside / "executed")))
