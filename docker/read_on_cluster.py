"""Read a repository on the workers of a Dask cluster: python read_on_cluster.py tcp://scheduler:8786 s3://bucket/digits.

What travels to a worker is the URL, a commit and some keys; each opens the repository for itself and fetches what it needs.
Takes what ``hangarlake demo`` has written there.
"""

from __future__ import annotations

import sys

import numpy as np
from distributed import Client, get_worker

import hangarlake as hl


def darkness(url: str, commit: str, keys: list[str]) -> tuple[str, int, float]:
    """Return the worker's address, how many images it read, and the sum of their pixels."""
    with hl.Repository.open(url) as repo, repo.checkout(commit) as view:
        images = view["images"].batch(keys)
    return get_worker().address, len(images), float(np.sum(images))


def read(client: Client, url: str, parts: int = 8) -> tuple[int, int, float]:
    """Return how many workers took part, how many images they read, and how dark an image is on average."""
    with hl.Repository.open(url) as repo, repo.checkout("v1") as view:
        keys = list(view["images"])
        commit = view.commit.id
    shares = [keys[start::parts] for start in range(parts)]
    done = client.gather([client.submit(darkness, url, commit, share, pure=False) for share in shares])
    count = sum(images for _, images, _ in done)
    return len({worker for worker, _, _ in done}), count, sum(pixels for _, _, pixels in done) / count


def main(scheduler: str, url: str) -> None:
    """Wait for two workers, read, and tell."""
    with Client(scheduler, timeout="60s") as client:
        client.wait_for_workers(2, timeout=60)
        workers, count, mean = read(client, url)
    print(f"{workers} workers read {count:,} images of {url}; the mean of their sums is {mean:.2f}")  # noqa: T201 -- a script


if __name__ == "__main__":
    main(*sys.argv[1:])
