"""A cluster reads lazily: workers know one URL and a commit, and fetch what they need.

Two worker processes of dask.distributed compute on a column, and on a Zarr array through xarray. What travels to them is the URL and
the commit, never the data. Needs dask, distributed and xarray.

Run ``python examples/cluster.py [URL]``.
"""

from __future__ import annotations

import os

import numpy as np
import xarray as xr
from distributed import Client, LocalCluster
from place import place

import hangarlake as hl


def sums(column: hl.Column, keys: list[int]) -> tuple[int, np.ndarray, int]:
    """Run on a worker: read some samples and add them up."""
    batch = column.batch(keys)
    return os.getpid(), batch.sum(axis=0, dtype=np.float64), len(batch)


def fill(repo: hl.Repository) -> None:
    """Commit 4,000 images, and 120 days of a gridded field."""
    rng = np.random.default_rng(0)
    field = rng.normal(15, 5, (120, 45, 90)).astype("float32")
    with repo.checkout("main", write=True) as w:
        images = w.add_ndarray_column("images", shape=(32, 32), dtype="uint8")
        images.extend(range(4000), rng.integers(0, 256, (4000, 32, 32)).astype("uint8"))
        dataset = xr.Dataset({"temperature": (("time", "lat", "lon"), field)}).chunk({"time": 30})
        dataset.to_zarr(w.store, mode="w", consolidated=False)
        w.commit("Add images and a field")


def main() -> None:
    # `place` comes first: the workers inherit its settings.
    with place("cluster") as url:
        with hl.Repository.create(url, author="Ada <ada@example.org>") as repo:
            fill(repo)
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client, hl.Repository.open(url) as repo, repo.checkout("main") as co:
            print(
                f"{len(client.scheduler_info()['workers'])} workers; they are told {type(co).__name__} {co.commit.id[:12]}."
            )

            parts = [list(range(start, start + 500)) for start in range(0, 4000, 500)]
            done = client.gather(client.map(sums, [co["images"]] * len(parts), parts, pure=False))
            mean = sum(total for _, total, _ in done) / sum(count for _, _, count in done)
            print(f"The mean image, of {sum(count for _, _, count in done):,} read by the workers: {mean.mean():.2f}")
            assert os.getpid() not in {pid for pid, _, _ in done}

            field = xr.open_zarr(co.store, consolidated=False).temperature
            print(f"A field of {dict(field.sizes)} in {field.data.npartitions} chunks, read by whoever computes it:")
            print("  mean of each month:", field.coarsen(time=30).mean().mean(("lat", "lon")).values.round(3))
            print("  standard deviation:", round(float(field.std()), 3))


if __name__ == "__main__":
    main()
