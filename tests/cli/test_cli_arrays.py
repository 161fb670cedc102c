"""``hangarlake array``, and what show and diff tell of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from hangarlake import Repository
from hangarlake.cli import array_files

from .conftest import Run, one_line


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


@pytest.mark.parametrize("name", ["bad.npy", "bad.nc", "bad.zarr"])
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_staged(repo: Repository, run: Run, name: str) -> None:
    if name == "bad.nc":
        pytest.importorskip("xarray")
    np.save("data.npy", np.arange(4))
    run("array", "import", "data.npy", "x")
    run("commit", "-m", "data")
    Path(name).mkdir() if name == "bad.zarr" else Path(name).write_text("junk")
    line = one_line(run("array", "import", name, "x", "--overwrite", "--yes"), 3)
    assert name in line
    assert "fault of hangarlake" not in line
    assert "Nothing is staged" in run("status").out


def test_an_import_that_fails_half_way_leaves_nothing_staged(
    repo: Repository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = zarr.create_group("in.zarr")
    for name in ("a", "b"):
        group.create_array(name, shape=(4,), dtype="f8", chunks=(2,))[...] = 7.0
    assert run("array", "import", "in.zarr", "kept").status == 0
    assert run("commit", "-m", "kept").status == 0
    copied = array_files._copy_data

    def fail_at_the_second(source: zarr.Array, target: object) -> None:
        if source.name == "/b":
            raise OSError("the disk is gone")
        copied(source, target)

    monkeypatch.setattr(array_files, "_copy_data", fail_at_the_second)
    for args in (["new"], ["kept", "--overwrite", "--yes"]):
        assert "the disk is gone" in one_line(run("array", "import", "in.zarr", *args), 3)
        assert "Nothing is staged" in run("status").out
    assert sorted(repo.checkout().arrays) == ["kept/a", "kept/b"]


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_an_export_that_fails_leaves_the_file_that_was_there(
    repo: Repository, run: Run, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("data.npy", np.arange(4))
    run("array", "import", "data.npy", "g/x")
    run("commit", "-m", "data")
    target = Path("out" + suffix)
    name = "g/x" if suffix == ".npy" else "g"
    assert run("array", "export", name, target).status == 0
    before = sorted(Path().rglob("*"))

    def fail(_: object, *args: object) -> None:
        args[-1].mkdir() if suffix == ".zarr" else args[-1].write_text("half")  # type: ignore[attr-defined]
        raise OSError("the disk is full")

    monkeypatch.setattr(array_files, "_write_npy" if suffix == ".npy" else "_write_zarr", fail)
    assert "the disk is full" in one_line(run("array", "export", name, target, "--overwrite"), 3)
    assert sorted(Path().rglob("*")) == before


def test_a_group_that_netcdf_cannot_hold_is_refused_with_a_remedy(repo: Repository, run: Run) -> None:
    pytest.importorskip("xarray")
    np.save("data.npy", np.arange(4))
    run("array", "import", "data.npy", "g/x")
    run("commit", "-m", "data")
    assert ".zarr" in one_line(run("array", "export", "g", "g.nc"), 3)  # it has no names of dimensions
    assert ".npy" in one_line(run("array", "export", "g/x", "x.nc"), 3)
    assert "nosuch" in one_line(run("array", "export", "nosuch", "x.nc"), 3)
    assert not list(Path().glob("*.nc"))


def test_fill_values_are_checked_and_shown_as_json_has_them(repo: Repository, run: Run) -> None:
    assert "300" in one_line(run("array", "create", "x", "--shape", "2", "--dtype", "u1", "--fill-value", "300"), 2)
    for name, kind, text, value in (("a", "u1", "7", 7), ("b", "f4", "nan", "nan"), ("c", "f8", "0.5", 0.5)):
        assert run("array", "create", name, "--shape", "2", "--dtype", kind, "--fill-value", text).status == 0
        run("commit", "-m", name)
        assert run("array", "info", name, "--json").json["fill_value"] == value
        assert f"fill_value:      {text}\n" in run("array", "info", name).out


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


@pytest.fixture
def arrays(repo: Repository, run: Run) -> None:
    """Commit two arrays in a group, and a column."""
    for path in ("era/t2m", "era/q"):
        assert run("array", "create", path, "--shape", "4", "--dtype", "float32").status == 0
    assert run("column", "add", "labels", "--kind", "str").status == 0
    assert run("commit", "-m", "Begin").status == 0


def test_arrays_and_groups_are_renamed_and_removed(repo: Repository, run: Run, arrays: None) -> None:
    assert run("array", "rename", "era/q", "era/humidity").status == 0
    assert run("array", "remove", "era", "era/t2m", "--dry-run").out == "Would remove era (2 arrays), era/t2m.\n"
    assert run("array", "remove", "era/t2m", "--yes").out == "Staged the removal of era/t2m.\n"
    run("commit", "-m", "Rename and remove")
    assert [each["path"] for each in run("array", "ls", "--json").json] == ["era/humidity"]
    assert run("array", "remove", "era", "--yes").status == 0
    run("commit", "-m", "Remove all")
    assert run("array", "ls", "--json").json == []


def test_what_is_of_another_kind_is_told(repo: Repository, run: Run, arrays: None) -> None:
    line = one_line(run("column", "remove", "era/q", "--yes"), 3)
    assert "has no column 'era/q'; 'era/q' is an array; there are 'labels'" in line
    for args in (["remove", "labels", "--yes"], ["rename", "labels", "x"]):
        line = one_line(run("array", *args), 3)
        assert "has no array 'labels'; 'labels' is a column; there are 'era/q', 'era/t2m'" in line
    assert run("status").out.endswith("Nothing is staged.\n")


def test_an_array_is_replaced_when_the_new_one_can_be_made(repo: Repository, run: Run, arrays: None) -> None:
    again = ["array", "create", "era/q", "--overwrite", "--yes"]
    assert run("array", "create", "era/q", "--shape", "8", "--dtype", "int16").status == 3
    assert run(*again, "--shape", "8", "--dtype", "int16", "--chunks", "2,2").status == 3
    assert run("status").out.endswith("Nothing is staged.\n")
    assert run(*again, "--shape", "8", "--dtype", "int16").status == 0
    run("commit", "-m", "Replace")
    shapes = {each["path"]: each["shape"] for each in run("array", "ls", "--json").json}
    assert shapes == {"era/q": [8], "era/t2m": [4]}


def test_fill_values_in_attributes_are_shown_as_numbers(repo: Repository, run: Run) -> None:
    with repo.checkout("main", write=True) as w:
        w.create_array(
            "q",
            shape=(4,),
            dtype="float32",
            fill_value=np.nan,
            attributes={"_FillValue": "AAAAAAAA+H8=", "units": "K", "missing": "AAAA"},
        )
        w.commit("An array as xarray writes it")
    lines = run("array", "info", "q").out.splitlines()
    assert "  _FillValue = nan" in lines
    assert "  units = 'K'" in lines
    assert "np.float" not in "".join(lines)


def test_a_file_that_no_backend_reads_says_what_to_install(
    repo: Repository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    xarray = pytest.importorskip("xarray")
    Path("x.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))

    def none_matches(_: object) -> None:
        raise ValueError("did not find a match in any of xarray's currently installed IO backends ['scipy', 'zarr']")

    monkeypatch.setattr(xarray, "open_dataset", none_matches)
    line = one_line(run("array", "import", "x.nc"), 3)
    assert line.startswith("x.nc cannot be read as NetCDF")
    assert "pip install netcdf4" in line
