"""Links, pipes and folders in place of files, and malformed JSON."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.checkpoints.hostile.corpus import (
    CASES,
    LARGEST,
    Case,
    change_json,
    changing,
    hostile,
)
from tests.checkpoints.hostile.reader import Place, seal

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


ENTRY = {"size": 0, "sha256": hashlib.sha256().hexdigest()}
MALFORMED, OTHER_NAMES = "has a malformed list of files", "is missing|is not in its manifest"
NAMES = {
    MALFORMED: ("../secret", "/etc/passwd", "..", ".", "", "..\\secret", "a/b"),
    OTHER_NAMES: ("a\0b", "\ud800", "x" * 5000),
}
SIZES = {MALFORMED: (True, None, 1.5, "1", [1]), "were committed": (-1, 2**63, 10**4000)}


def name_a_file(manifest: Any, name: str) -> None:
    manifest["files"][name] = ENTRY


def state_a_size(manifest: Any, size: Any) -> None:
    manifest["files"]["state.json"]["size"] = size


for message, names in NAMES.items():
    changes = {f"the name {name[:12]!r}": partial(name_a_file, name=name) for name in names}
    changing("MANIFEST.json", "verify size, verify, restore", message, **changes)
for message, sizes in SIZES.items():
    changes = {
        f"size number {index}: {type(size)!s}": partial(state_a_size, size=size) for index, size in enumerate(sizes)
    }
    changing("MANIFEST.json", "verify size, verify, restore", message, **changes)
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
