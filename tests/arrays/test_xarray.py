"""xarray on top of repositories: by engine, by store, from many workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import Repository, WriteCheckout

xr = pytest.importorskip("xarray")
dask = pytest.importorskip("dask")

from hangarlake.integrations.xarray import to_hangarlake  # noqa: E402
from tests.arrays.weather import weather  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def options(repo: Repository) -> dict[str, Any]:
    return {"engine": "hangarlake", "cache_dir": Path(repo.url).parent / "cache"}


@pytest.fixture
def stored(repo: Repository) -> Repository:
    """A repository with a day of weather."""
    with repo.checkout(write=True) as w:
        weather().to_zarr(w.store, zarr_format=3, consolidated=False)
        w.commit("a day")
    return repo


def same(a: Any, b: Any) -> None:
    a, b = a.load(), b.load()
    xr.testing.assert_equal(a, b)
    assert {k: v for k, v in a.attrs.items() if k != "missing"} == {k: v for k, v in b.attrs.items() if k != "missing"}
    for name in b.variables:
        assert a[name].attrs == b[name].attrs, name


def test_what_was_written_is_there_again(stored: Repository) -> None:
    ds = xr.open_dataset(stored.url, **options(stored))
    same(ds, weather())
    assert np.isnan(ds.attrs["missing"])
    assert ds.station_name.values.tolist() == ["Ålesund", "Bern", "Curaçao", "東京"]
    assert ds.time.dtype.kind == "M"
    same(xr.open_zarr(stored.checkout().store, consolidated=False), weather())


def test_a_folder_with_a_repository_is_recognised(stored: Repository) -> None:
    assert "hangarlake" in xr.backends.list_engines()
    same(xr.open_dataset(stored.url), weather())
    same(xr.open_dataset(stored.checkout(), engine="hangarlake"), weather())


def test_revisions_and_groups(stored: Repository) -> None:
    stored.create_tag("day-1")
    with stored.checkout(write=True) as w:
        weather(24, "2026-01-02").to_zarr(w.store, append_dim="time", zarr_format=3, consolidated=False)
        weather(2).rename(time="hour").to_zarr(w.store, group="hourly/first", zarr_format=3, consolidated=False)
        w.commit("another day, and a group")
    both = xr.concat([weather(), weather(24, "2026-01-02")], "time", data_vars="minimal")
    xr.testing.assert_equal(xr.open_dataset(stored.url, rev="main", **options(stored)).load(), both)
    same(xr.open_dataset(stored.url, rev="day-1", **options(stored)), weather())
    first = weather(2).rename(time="hour")
    same(xr.open_dataset(stored.url, group="hourly/first", **options(stored)), first)
    tree = xr.open_datatree(stored.url, rev="main", **options(stored))
    assert set(tree.groups) >= {"/", "/hourly", "/hourly/first"}
    xr.testing.assert_equal(tree["hourly/first"].to_dataset().drop_vars("time").load(), first)


def test_columns_are_invisible_to_xarray(stored: Repository) -> None:
    with stored.checkout(write=True) as w:
        w.add_str_column("notes")["a"] = "beside the arrays"
        w.commit("a column")
    same(xr.open_dataset(stored.url, **options(stored)), weather())
    assert list(stored.checkout().columns) == ["notes"]


def test_chunks_give_dask_arrays_with_the_stored_chunks(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        encoding = {"t2m": {"chunks": (6, 12, 24)}, "tp": {"chunks": (4, 6, 12), "shards": (8, 12, 24)}}
        weather().to_zarr(w.store, zarr_format=3, consolidated=False, encoding=encoding)
        w.commit("chunked")
    ds = xr.open_dataset(repo.url, chunks={}, **options(repo))
    assert ds.t2m.chunks == ((6,) * 4, (12,), (24,))
    assert ds.tp.chunks == ((4,) * 6, (6, 6), (12, 12))
    same(ds, weather())
    assert float(ds.t2m.mean()) == pytest.approx(float(weather().t2m.mean()))


def test_regions_and_modes(stored: Repository) -> None:
    with stored.checkout(write=True) as w:
        part = weather().isel(time=slice(3, 5))[["tp"]].drop_vars(["lat", "lon", "time"])
        (part * 0).to_zarr(w.store, region={"time": slice(3, 5)}, consolidated=False)
        w.commit("no rain for two hours")
        extra = xr.Dataset({"mask": (("lat",), np.ones(12, "i1"))})
        extra.to_zarr(w.store, mode="a", consolidated=False)
        w.commit("a mask")
    ds = xr.open_dataset(stored.url, **options(stored)).load()
    assert float(abs(ds.tp[3:5]).sum()) == 0.0
    assert float(ds.tp[5:].sum()) > 0
    assert ds.mask.values.tolist() == [1] * 12
    regions = stored.diff("main~2", "main~1").arrays["tp"].regions()
    assert regions
    with stored.checkout(write=True) as w:
        weather(3).to_zarr(w.store, mode="w", zarr_format=3, consolidated=False)
        w.commit("anew")
    same(xr.open_dataset(stored.url, **options(stored)), weather(3))


def test_datasets_of_dask_are_written_by_its_workers(repo: Repository, w: WriteCheckout) -> None:
    ds = weather(24).chunk({"time": 6, "lat": 12, "lon": 24})
    to_hangarlake(ds, w)
    w.commit("first day")
    same(xr.open_dataset(repo.url, **options(repo)), weather(24))
    to_hangarlake(weather(12, "2026-01-02").chunk({"time": 6, "lat": 12, "lon": 24}), w, append_dim="time")
    w.commit("half of the second")
    got = xr.open_dataset(repo.url, **options(repo)).load()
    assert got.sizes["time"] == 36
    xr.testing.assert_equal(got.isel(time=slice(24, None)).t2m, weather(12, "2026-01-02").t2m)
    to_hangarlake(
        (weather(6).chunk({"time": 6})[["tp"]] * 0).drop_vars(["lat", "lon", "time"]), w, region={"time": slice(6, 12)}
    )
    w.commit("six dry hours")
    got = xr.open_dataset(repo.url, **options(repo)).load()
    assert float(got.tp[6:12].sum()) == 0.0
    assert float(got.tp[12:18].sum()) > 0


def test_blocks_that_meet_within_a_chunk_are_refused(w: WriteCheckout) -> None:
    ds = weather(24).chunk({"time": 5})
    with pytest.raises(ValueError, match="chunk"):
        to_hangarlake(ds, w, encoding={"t2m": {"chunks": (6, 12, 24)}})


def test_fill_values_of_xarray_are_readable(w: WriteCheckout) -> None:
    from hangarlake.arrays.metadata import readable_attributes

    values = {"f4": np.array([1, np.nan], "f4"), "f8": np.array([1.5, 2]), "i4": np.array([1, 2], "i4")}
    fills: dict[str, Any] = {"f4": np.nan, "f8": -999.5, "i4": -9}
    ds = xr.Dataset({name: (("n",), each, {"units": "m"}) for name, each in values.items()})
    ds.to_zarr(w.store, mode="w", consolidated=False, encoding={n: {"_FillValue": fill} for n, fill in fills.items()})
    for name, fill in fills.items():
        array = w.arrays[name]
        shown = readable_attributes(array.attrs, array.dtype)
        assert repr(shown.pop("_FillValue")) == repr(fill)
        assert shown == {"units": "m"}
    zero, two = "AAAAAAAAAAA=", "AAAAAAAAAEA="
    assert readable_attributes({"_FillValue": [two, zero]}, np.dtype("c8")) == {"_FillValue": 2 + 0j}
    assert readable_attributes({"_FillValue": "YWI="}, np.dtype("S2")) == {"_FillValue": b"ab"}
    for attributes in ({"_FillValue": 3}, {"_FillValue": "no double"}, {"_FillValue": "YWI="}, {"a": zero}, {}):
        assert readable_attributes(attributes, np.dtype("f4")) == attributes
