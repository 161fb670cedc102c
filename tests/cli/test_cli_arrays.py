"""``hangarlake array``, and what show and diff tell of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from hangarlake import Repository

from .conftest import Run


@pytest.fixture
def repo(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository that the commands work on."""
    url = str(tmp_path / "repo")
    monkeypatch.setenv("HANGARLAKE_REPO", url)
    assert run("init", url).status == 0
    return Repository.open(url)


def test_arrays_are_made_listed_and_described(repo: Repository, run: Run) -> None:
    made = run(
        "array", "create", "era/t2m", "--shape", "24,8", "--dtype", "float32", "--chunks", "6,8", "--fill-value", "nan"
    )
    assert made.status == 0, made.err
    assert run("array", "create", "era/t2m", "--shape", "2", "--dtype", "u1").status == 3
    assert run("array", "create", "x", "--shape", "a,b", "--dtype", "u1").status == 2
    assert run("commit", "-m", "an array").status == 0
    (listed,) = run("array", "ls", "--json").json
    assert (listed["path"], listed["shape"], listed["chunks"]) == ("era/t2m", [24, 8], [6, 8])
    assert "era/t2m" in run("array", "ls").out
    assert "nan" in run("array", "info", "era/t2m").out
    assert run("array", "info", "era", "--json").json == {"path": "era", "arrays": ["era/t2m"]}
    assert run("array", "info", "nothing").status == 3


def test_npy_files_come_in_and_go_out(repo: Repository, run: Run, tmp_path: Path) -> None:
    data = np.arange(12, dtype="i2").reshape(3, 4)
    np.save("data.npy", data)
    assert run("array", "import", "data.npy", "group/data").status == 0
    assert run("commit", "-m", "data").status == 0
    assert run("array", "export", "group/data", "out.npy").status == 0
    np.testing.assert_array_equal(np.load("out.npy"), data)
    assert run("array", "export", "group/data", "out.npy").status == 3
    assert run("array", "import", "data.npy", "group/data").status == 3
    assert run("array", "import", "data.npy", "group/data", "--overwrite", "--yes").status == 0
    assert run("array", "import", "data.txt").status == 2


def test_zarr_folders_come_in_and_go_out(repo: Repository, run: Run) -> None:
    group = zarr.create_group("in.zarr", attributes={"title": "weather"})
    group.create_array("a/x", shape=(4, 4), dtype="f8", chunks=(2, 2), attributes={"units": "m"})[...] = 7.0
    assert run("array", "import", "in.zarr", "stored").status == 0
    assert run("commit", "-m", "zarr").status == 0
    assert repo.checkout().arrays["stored/a/x"].attrs == {"units": "m"}
    assert run("array", "export", "stored", "out.zarr").status == 0
    back = zarr.open_group("out.zarr", mode="r")
    assert dict(back.attrs) == {"title": "weather"}
    assert (back["a/x"][...] == 7.0).all()


def test_netcdf_files_come_in_and_go_out(repo: Repository, run: Run) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    ds = xarray.Dataset({"t": (("time",), np.arange(3.0))}, attrs={"title": "x"})
    ds.to_netcdf("in.nc")
    assert run("array", "import", "in.nc", "g").status == 0
    assert run("commit", "-m", "netcdf").status == 0
    assert run("array", "export", "g", "out.nc").status == 0
    with xarray.open_dataset("out.nc") as back:
        xarray.testing.assert_equal(back.load(), ds)


def test_show_draws_the_hierarchy_and_diff_names_regions(repo: Repository, run: Run) -> None:
    with repo.checkout(write=True) as w:
        w.create_array("era/t2m", shape=(8, 8), dtype="f4", chunks=(4, 4))[...] = 1
        w.create_array("mask", shape=(8,), dtype="u1")
        w.commit("arrays")
        w.arrays["era/t2m"][0, 5] = 2
        w.commit("one value")
    shown = run("show").out
    assert "├── era/" in shown
    assert "│   └── t2m  float32 (8, 8)" in shown
    assert "└── mask  uint8 (8)" in shown
    assert "era/t2m[0:4, 4:8]" in run("diff", "main~1", "main").out
    assert run("diff", "main~1", "main", "--json").status in (0, 1)
