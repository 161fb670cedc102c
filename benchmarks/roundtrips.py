"""Count the sequential round trips of common operations, on 100,000 samples.

A store wrapper records every request with its start and end; the longest chain of requests of which each began after the
one before had ended is the number of round trips that a person waits for. Every request is given a latency, so that
requests which run at the same time are seen to. Run ``python benchmarks/roundtrips.py``.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import Row, machine, write_report

import hangarlake as hl
from hangarlake.storage import MemoryStore
from hangarlake.testing import CountingStore

SAMPLES = 100_000
LATENCY = 0.02


def counted(store: MemoryStore, action: Callable[[hl.Repository], None], cache: Path) -> CountingStore:
    """Open the repository cold, run an action, and return the store that counted both."""
    counting = CountingStore(store, latency=LATENCY)
    action(hl.Repository.open(counting, author="Bench <b@example.org>", cache_dir=cache))
    return counting


def main() -> None:
    """Run everything and report."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        caches = (Path(folder) / str(i) for i in range(1000))
        store = MemoryStore()
        repo = hl.Repository.create(store, author="Bench <b@example.org>", cache_dir=next(caches))
        images = np.random.default_rng(0).integers(0, 256, (SAMPLES, 8, 8), np.uint8)
        with repo.checkout(write=True, staging="memory") as w:
            w.add_ndarray_column("images", (8, 8), "uint8").extend(range(SAMPLES), images)
            w.add_ndarray_column("labels", (), "int64").extend(range(SAMPLES), np.arange(SAMPLES) % 10)
            w.commit("first")
        repo.close()

        rng = random.Random(0)
        chains, requests, received = [], [], []
        for _ in range(10):
            key = rng.randrange(SAMPLES)
            counting = counted(store, lambda repo, key=key: repo.checkout()["images"][key], next(caches))
            chains.append(counting.round_trips())
            requests.append(len(counting.requests))
            received.append(counting.bytes_read)
        rows.append(Row("cold open → first sample, round trips (worst of 10)", max(chains), "", at_most=4))
        rows.append(Row("  requests", max(requests), ""))
        rows.append(Row("  bytes read", max(received) / 1e3, "kB"))

        counting = counted(
            store, lambda repo: repo.checkout()["images"].batch(rng.sample(range(SAMPLES), 64)), next(caches)
        )
        rows.append(Row("cold open → random batch of 64, round trips", counting.round_trips(), ""))
        rows.append(Row("  requests", len(counting.requests), ""))

        for count in (1, 100):
            counting = CountingStore(store, latency=LATENCY)
            repo = hl.Repository.open(counting, author="Bench <b@example.org>", cache_dir=next(caches))
            with repo.checkout(write=True, staging="memory") as w:
                # The first commit of a writer may still read the trees that it edits; what is steady is the next one.
                for run in range(2):
                    keys = rng.sample(range(SAMPLES), count)
                    w["images"].extend(
                        keys, np.random.default_rng(run + count).integers(0, 256, (count, 8, 8), np.uint8)
                    )
                    repo._session.refs.flush_hints()
                    counting.reset()
                    w.commit(f"{count} changed")
                    chain = counting.round_trips()
                    repo._session.refs.flush_hints()
                rows.append(Row(f"commit of {count} changed, round trips", chain, "", at_most=2))
                rows.append(Row("  requests, hint included", len(counting.requests), ""))
                rows.append(Row("  bytes written", counting.bytes_written / 1e3, "kB"))
            repo.close()

        counting = counted(store, lambda repo: repo.resolve("main"), next(caches))
        rows.append(Row("resolve a branch, cold: round trips", counting.round_trips(), ""))
        counting = counted(store, lambda repo: repo.create_branch(f"b{rng.random()}"), next(caches))
        rows.append(Row("create a branch, cold: round trips", counting.round_trips(), ""))
    write_report("roundtrips", rows, machine())


if __name__ == "__main__":
    main()
