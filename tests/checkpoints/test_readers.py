"""Files of a run can be read by other programs: h5dump and xarray."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Run

GOLDEN = Path(__file__).parent / "golden" / "run-v1"
ACTIVATIONS = [GOLDEN / f"checkpoints/step_0000000{step}/activations.h5" for step in (0, 1)]  # plain and gzip


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed (Debian: hdf5-tools)")
@pytest.mark.parametrize("path", [*ACTIVATIONS, GOLDEN / "stimuli.h5"], ids=lambda path: path.parent.name + path.stem)
def test_h5dump_reads_every_byte(path: Path) -> None:
    done = subprocess.run(["h5dump", "-p", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "FLETCHER32" in done.stdout
    assert "H5T_VLEN" not in done.stdout.replace("DIMENSION_LIST", "", 1).split("DATASET", 1)[0]
    if path.stem == "activations":
        assert '"split[1][half]"' in done.stdout


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("step", [0, 1])
def test_xarray_reads_a_layer_with_its_dimensions(step: int) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    layer = Run.open(GOLDEN)[step].activations["relu#0"]
    with xarray.open_dataset(layer.file, group=f"layers/{layer.key}", engine="h5netcdf") as data:
        assert data["data"].dims == ("stimulus_id", "feature")
        assert data.attrs["name"] == "relu#0"
        np.testing.assert_array_equal(data["data"].values, layer[:])
    with xarray.open_dataset(layer.file, engine="h5netcdf") as root:
        assert root["stimulus_id"].values.astype(str).tolist() == Run.open(GOLDEN).stimuli.ids.tolist()
