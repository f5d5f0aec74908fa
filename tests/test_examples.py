"""Examples run by themselves, offline and without a warning; the site lists them, its pages, and every public name."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import repsim

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OPTIONAL = {
    "transformers": "transformers",
    "distributed": "cluster",
}  # what an example may need, and the extra that has it
REFERENCE = ("repsim.learning", "repsim.similarity", "probes", "checkpoints", "analysis", "analysis.plots")
REFERENCE += ("repsim.theory", "repsim.theory.critical_points", "repsim.theory.implied_loss", "repsim.theory.control")
OWN_WARNINGS = [  # what is warned of elsewhere is none of ours
    "error",
    "ignore:FigureCanvasAgg is non-interactive",
]
MOST_SECONDS = 300  # an example takes a few; the machine may be busy


def needed(example: Path) -> list[str]:
    source = example.read_text()
    return [module for module in OPTIONAL if re.search(rf"^ *(from|import) {module}\b", source, re.MULTILINE)]


def test_there_are_examples_in_order() -> None:
    assert len(EXAMPLES) > 4
    assert [example.stem.split("_")[1] for example in EXAMPLES] == [str(i + 1) for i in range(len(EXAMPLES))]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_by_itself(example: Path, tmp_path: Path) -> None:
    for module in needed(example):
        pytest.importorskip(module, reason=f"{module} is not installed (extra '{OPTIONAL[module]}')")
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    environment = os.environ | {
        "MPLBACKEND": "Agg",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
        "HF_HUB_OFFLINE": "1",
        "http_proxy": "http://127.0.0.1:9",  # nobody listens there
        "https_proxy": "http://127.0.0.1:9",
    }
    command = [sys.executable, *(f"-W{rule}" for rule in OWN_WARNINGS), str(example)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) < 60, "an example prints little"
    assert list(work.iterdir()) == []
    assert list(temporary.glob("tmp*")) == [], "an example removes its folder; the caches of torch and dask are theirs"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_begins_with_a_title_and_a_text(example: Path) -> None:
    title, line, blank, *text = example.read_text().removeprefix('"""\n').splitlines()
    assert title
    assert line == "=" * len(title)
    assert not blank
    assert text[0]


# The site


def test_the_site_is_made_of_all_examples() -> None:
    pytest.importorskip("sphinx", reason="sphinx is not installed (extra 'docs')")
    settings = runpy.run_path(str(DOCS / "conf.py"))["sphinx_gallery_conf"]
    assert (DOCS / settings["examples_dirs"]).resolve() == ROOT / "examples"
    assert all(re.search(settings["filename_pattern"], str(example)) for example in EXAMPLES)
    assert (ROOT / "examples" / "GALLERY_HEADER.rst").is_file()


def entries(page: Path) -> set[Path]:
    """Return the pages that the tables of contents of a page list, those that are generated left out."""
    text = page.read_text()
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"^\.\. toctree::\n((?:   .*\n|\n)*)", text + "\n", re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    names = [line.rpartition("<")[2].rstrip(">") for line in lines if line and not line.startswith(":")]
    found = {path for name in names for path in page.parent.glob(f"{name}.*")}
    return {path for path in found if path.suffix in (".md", ".rst")} - {DOCS / "gallery" / "index.rst"}


def test_every_page_is_reached_from_the_index() -> None:
    generated = [DOCS / "api" / "generated", DOCS / "gallery", DOCS / "_build", DOCS / "_templates"]
    pages = {page for ending in ("md", "rst") for page in DOCS.rglob(f"*.{ending}")}
    pages = {page for page in pages if not any(page.is_relative_to(folder) for folder in generated)}
    reached, ahead = {DOCS / "index.rst"}, {DOCS / "index.rst"}
    while ahead:
        ahead = {entry for page in ahead for entry in entries(page)} - reached
        reached |= ahead
    assert sorted(pages - reached) == []
    assert len(pages) > 20


@pytest.mark.parametrize("face", REFERENCE)
def test_the_reference_has_every_public_name(face: str) -> None:
    listed, module = set(), ""
    for line in "\n".join(page.read_text() for page in sorted((DOCS / "api").glob("*.rst"))).splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        if module == face and (found := re.match(r"(?:   |\.\. py:data:: )([A-Za-z_.]+)$", line)):
            listed.add(found[1])
    assert listed == set(importlib.import_module(face).__all__)


def test_who_cites_names_this_version() -> None:
    assert f"\nversion: {repsim.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"version = {{{repsim.__version__}}}" in (DOCS / "citing.md").read_text()
