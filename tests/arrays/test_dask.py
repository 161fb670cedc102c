"""Dask: reading as collections, and writing from the workers of a real cluster."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import ReadOnlyError, Repository, WriteCheckout

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

from hangarlake.integrations.dask import store_arrays  # noqa: E402
from tests.arrays.cluster_tasks import write_row  # noqa: E402
from tests.arrays.conftest import AUTHOR  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

DATA = np.arange(24 * 10, dtype="f8").reshape(24, 10)


@pytest.fixture
def stored(repo: Repository) -> Repository:
    """A repository with an array, a column of arrays and one of text."""
    with repo.checkout(write=True) as w:
        w.create_array("x", shape=DATA.shape, dtype="f8", chunks=(4, 5))[...] = DATA
        w.create_array("sharded", shape=DATA.shape, dtype="f8", chunks=(2, 5), shards=(8, 10))[...] = DATA
        w.add_ndarray_column("rows", (10,), "f8").extend(range(24), DATA)
        w.add_str_column("names").extend(range(5), list("abcde"))
        w.commit("data")
    return repo


def test_arrays_and_columns_as_dask_collections(stored: Repository) -> None:
    co = stored.checkout()
    np.testing.assert_array_equal(co.arrays["x"].to_dask().compute(), DATA)
    lazy = co.arrays["x"].to_dask(chunks=(4, 5))
    assert lazy.chunks == ((4,) * 6, (5, 5))
    assert float((lazy + 1).sum().compute()) == DATA.sum() + DATA.size
    np.testing.assert_array_equal(lazy[3:9, ::2].compute(), DATA[3:9, ::2])
    assert all(n % 8 == 0 for n in co.arrays["sharded"].to_dask().chunks[0])
    rows = co.columns["rows"].to_dask(batch=7)
    assert rows.shape == (24, 10)
    np.testing.assert_array_equal(rows.compute(), DATA)
    assert co.columns["names"].to_dask(batch=2).compute(scheduler="sync") == list("abcde")


def test_names_follow_the_content(stored: Repository) -> None:
    first, again = stored.checkout(), stored.checkout()
    assert first.arrays["x"].to_dask().name == again.arrays["x"].to_dask().name
    assert first.columns["rows"].to_dask().name == again.columns["rows"].to_dask().name
    with stored.checkout(write=True) as w:
        w.arrays["x"][0, 0] = -1
        assert w.arrays["x"].to_dask().name != first.arrays["x"].to_dask().name
        w.commit("another value")
    assert stored.checkout().arrays["x"].to_dask().name != first.arrays["x"].to_dask().name
    assert stored.checkout().columns["rows"].to_dask().name == first.columns["rows"].to_dask().name


def test_blocks_are_written_as_one_commit(w: WriteCheckout, repo: Repository) -> None:
    w.create_array("x", shape=(24, 10), dtype="f8", chunks=(4, 5))
    store_arrays(da.from_array(DATA, chunks=(8, 5)), w, "x")
    w.commit("blocks")
    np.testing.assert_array_equal(repo.checkout().arrays["x"][...], DATA)
    store_arrays(da.zeros((8, 10), chunks=(4, 10)), w, "x", regions=(slice(8, 16), slice(None)))
    assert float(w.arrays["x"][8:16].sum()) == 0.0
    with pytest.raises(ValueError, match="rechunk"):
        store_arrays(da.from_array(DATA, chunks=(5, 5)), w, "x")


USED_ELSEWHERE = """
import pickle, sys
import zarr
from hangarlake import ReadOnlyError

store = pickle.loads(bytes.fromhex(sys.argv[1]))
assert pickle.dumps(store) == bytes.fromhex(sys.argv[1])
for use in (
    lambda: zarr.open_group(store, mode="r"),
    lambda: zarr.open_group(store, mode="w"),
    lambda: zarr.create_array(store, name="x", shape=(2,), dtype="i4"),
    lambda: list(zarr.core.sync.sync(zarr.core.sync.collect_aiterator(store.list()))),
):
    try:
        use()
    except ReadOnlyError as error:
        assert "; with Dask's workers use hangarlake.integrations.xarray.to_hangarlake(ds, w), or w.fork();" in str(error)
    else:
        raise AssertionError("nothing was raised")
"""


def test_a_writable_store_refuses_everything_elsewhere(w: WriteCheckout) -> None:
    import subprocess
    import sys

    data = pickle.dumps(w.store)
    assert pickle.loads(data) == w.store
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USED_ELSEWHERE, data.hex()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(ReadOnlyError):
        w.repository.checkout().store.with_read_only(False)


def test_a_write_checkout_and_its_arrays_say_what_to_pickle_instead(w: WriteCheckout) -> None:
    w.create_array("x", shape=(2,), dtype="i4")
    w.add_str_column("names")
    for held in (w, w["x"], w["names"]):
        with pytest.raises(TypeError, match=r"use w\.fork\(\)"):
            pickle.dumps(held)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of two worker processes on this machine."""
    settings = {
        "distributed.worker.daemon": False,
        "distributed.comm.timeouts.connect": "30s",
        "distributed.scheduler.allowed-failures": 5,
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as connected,
    ):
        yield connected


def blocks() -> Any:
    xr = pytest.importorskip("xarray")
    return xr.Dataset({"t": (("time", "x"), da.from_array(DATA, chunks=(8, 10)))})


def written(client: Any, w: WriteCheckout) -> Any:
    """Write blocks through the store by a cluster, in a time that a call which hangs exceeds."""
    delayed = blocks().to_zarr(w.store, mode="w", consolidated=False, compute=False)
    return client.compute(delayed).exception(timeout=60)


def test_the_workers_of_a_cluster_are_refused_the_store_at_once(client: Any, repo: Repository) -> None:
    with repo.checkout(write=True, staging="memory") as w:
        error = written(client, w)
        assert isinstance(error, ReadOnlyError)
        assert "to_hangarlake(ds, w), or w.fork()" in str(error)
        w.create_array("x", shape=DATA.shape, dtype="f8", chunks=(8, 10))
        with pytest.raises(Exception, match=r"pickle|serialize"):
            da.store(da.from_array(DATA, chunks=(8, 10)), w.arrays["x"], lock=False)


def test_threads_of_the_same_process_write_through_the_store(repo: Repository) -> None:
    with repo.checkout(write=True, staging="memory") as w:
        with dask.config.set(scheduler="threads"):
            blocks().to_zarr(w.store, mode="w", consolidated=False)
        np.testing.assert_array_equal(w.arrays["t"][...], DATA)
        w.remove("t")
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as inside,
        ):
            assert written(inside, w) is None
            np.testing.assert_array_equal(w.arrays["t"][...], DATA)


@pytest.fixture(params=["local", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    """A repository that several processes reach: in a folder, and in a bucket."""
    where: dict[str, Any] = {"author": AUTHOR, "cache_dir": tmp_path / "cache"}
    if request.param == "s3":
        url = request.getfixturevalue("s3_url")
        return Repository.create(url, storage_options=request.getfixturevalue("s3_options"), **where)
    return Repository.create(str(tmp_path / "repo"), **where)


def prepared(repo: Repository, branch: str) -> WriteCheckout:
    w = repo.checkout(branch, write=True)
    w.create_array("x", shape=(16, 8), dtype="i4", chunks=(4, 8))
    w.add_ndarray_column("samples", (3,), "i4")
    return w


def test_workers_of_a_cluster_write_one_commit(client: Any, shared: Repository) -> None:
    expected = np.concatenate([np.arange(32).reshape(4, 8) + row for row in range(4)])
    with prepared(shared, "main") as w:
        fork = w.fork()
        w.join(*client.gather([client.submit(write_row, fork, row, pure=False) for row in range(4)]))
        w.commit("rows")
    view = shared.checkout()
    np.testing.assert_array_equal(view.arrays["x"][...], expected)
    assert view["samples", 3].tolist() == [3, 3, 3]
    lazy = view.arrays["x"].to_dask(chunks=(4, 8))
    assert int(client.compute(lazy.sum()).result()) == int(expected.sum())


def test_a_killed_worker_loses_nothing_but_its_task(client: Any, repo: Repository, tmp_path: Path) -> None:
    catalogs = []
    for branch, victim in (("calm", None), ("wild", str(tmp_path / "killed"))):
        repo.create_branch(branch)
        with prepared(repo, branch) as w:
            fork = w.fork()
            tasks = [
                client.submit(write_row, fork, row, victim if row == 2 else None, pure=False, retries=3)
                for row in range(4)
            ]
            w.join(*client.gather(tasks))
            catalogs.append(w.commit("rows").catalog)
    assert Path(tmp_path / "killed").exists()
    assert catalogs[0] == catalogs[1]
