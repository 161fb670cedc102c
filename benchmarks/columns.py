"""Measure columns against the budgets of the design: ingest, scans, random reads, commits, memory.

Run ``python benchmarks/columns.py``; it prints a table and writes ``benchmarks/results/columns.json``. Every figure is the median of
several runs on a local disk; nothing is asserted.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import Row, machine, write_report

import hangarlake as hl

SHAPE = (28, 28)


def median(measure: Callable[[], float], runs: int) -> float:
    """Return the median of several runs."""
    return statistics.median(measure() for _ in range(runs))


def seconds(action: Callable[[], Any]) -> float:
    """Return how long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def digits(n: int, seed: int = 0) -> np.ndarray:
    """Return n images like handwritten digits: mostly dark, smooth strokes with noise; compressible, all different."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, *SHAPE), np.uint8)
    strokes = rng.integers(40, 256, (n, 16, 12), np.uint8)
    images[:, 6:22, 8:20] = strokes
    return images


class Folder:
    """A repository in a temporary folder, with its own cache directory."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="hangarlake-bench-"))
        self.repo = hl.Repository.create(
            self.path / "repo", author="Bench <b@example.org>", cache_dir=self.path / "cache"
        )

    def open(self) -> hl.Repository:
        """Open it again, cold."""
        return hl.Repository.open(self.path / "repo", author="Bench <b@example.org>", cache_dir=self.path / "cache")

    def close(self) -> None:
        """Remove everything."""
        self.repo.close()
        shutil.rmtree(self.path)


def stored_bytes(path: Path) -> dict[str, int]:
    """Return the bytes below each top-level prefix of a repository."""
    sizes: dict[str, int] = {}
    for file in path.rglob("*"):
        if file.is_file():
            top = file.relative_to(path).parts[0]
            sizes[top] = sizes.get(top, 0) + file.stat().st_size
    return sizes


def ingest(images: np.ndarray) -> tuple[float, Folder]:
    """Time one commit of all images by `extend`."""
    folder = Folder()
    with folder.repo.checkout(write=True) as w:
        column = w.add_ndarray_column("images", SHAPE, "uint8")
        start = time.perf_counter()
        column.extend(range(len(images)), images)
        w.commit("ingest")
        taken = time.perf_counter() - start
    return len(images) / taken, folder


def ingest_singly(images: np.ndarray) -> float:
    """Time setting images one by one, commit included."""
    folder = Folder()
    with folder.repo.checkout(write=True) as w:
        column = w.add_ndarray_column("images", SHAPE, "uint8")
        start = time.perf_counter()
        for key, image in enumerate(images):
            column[key] = image
        w.commit("ingest")
        taken = time.perf_counter() - start
    folder.close()
    return len(images) / taken


def scan(folder: Folder, n: int, **options: Any) -> float:
    """Time one pass over everything from a cold reader; the tree is read with it."""
    column = folder.open().checkout()["images"]
    start = time.perf_counter()
    seen = sum(len(keys) for keys, _ in column.scan(**options))
    taken = time.perf_counter() - start
    if seen != n:
        raise RuntimeError(f"{seen} samples instead of {n}")
    return n / taken


def random_single(folder: Folder, n: int, *, cached: bool) -> float:
    """Return µs per random read of one sample: tree warm, chunk cache cold (or warm)."""
    checkout = folder.open().checkout()
    column = checkout["images"]
    rng = random.Random(1)
    keys = [rng.randrange(n) for _ in range(2000)]
    memory = checkout.chunks.cache
    for key in keys:
        column[key]
    times = []
    for key in keys:
        if not cached:
            memory.clear()
        start = time.perf_counter()
        column[key]
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def random_batch(folder: Folder, n: int, *, cached: bool) -> float:
    """Return µs per sample of random batches of 64: tree warm, chunk cache warm (or cold)."""
    checkout = folder.open().checkout()
    column = checkout["images"]
    rng = random.Random(2)
    memory = checkout.chunks.cache
    for start in range(0, n, 4096):
        column.batch(range(start, min(start + 4096, n)))
    times = []
    for _ in range(200):
        keys = [rng.randrange(n) for _ in range(64)]
        if not cached:
            memory.clear()
        start_time = time.perf_counter()
        column.batch(keys)
        times.append((time.perf_counter() - start_time) / 64)
    return statistics.median(times) * 1e6


def commit_changes(folder: Folder, n: int, count: int, runs: int) -> tuple[float, float]:
    """Return (ms per commit, bytes of new metadata) for `count` scattered changes; fsync included."""
    rng = random.Random(count)
    times, sizes = [], []
    root = folder.path / "repo"
    with folder.open().checkout(write=True) as w:
        column = w["images"]
        for run in range(runs + 1):
            column.extend(
                rng.sample(range(n), count), np.random.default_rng(run).integers(0, 256, (count, *SHAPE), np.uint8)
            )
            w.repository._session.refs.flush_hints()
            before = stored_bytes(root)
            start = time.perf_counter()
            w.commit(f"{count} changes")
            times.append(time.perf_counter() - start)
            after = stored_bytes(root)
            w.repository._session.refs.flush_hints()
            sizes.append(sum(after[top] - before.get(top, 0) for top in after if top not in ("packs", "hints")))
    return statistics.median(times[1:]) * 1e3, statistics.median(sizes[1:])


def open_checkout(folder: Folder) -> float:
    """Return ms for open + checkout."""

    def once() -> None:
        folder.open().checkout()

    once()
    return median(lambda: seconds(once), 15) * 1e3


def first_sample(folder: Folder, n: int) -> tuple[float, float]:
    """Return (ms to open + checkout, ms to the first random sample), both cold but for the page cache."""
    opens, firsts = [], []
    for run in range(15):
        start = time.perf_counter()
        column = folder.open().checkout()["images"]
        opens.append(time.perf_counter() - start)
        start = time.perf_counter()
        column[(run * 7919) % n]
        firsts.append(time.perf_counter() - start)
    return statistics.median(opens[1:]) * 1e3, statistics.median(firsts[1:]) * 1e3


def peak_megabytes() -> float:
    """Return the peak memory of this process in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss of a child begins at what its parent had when it was started; this figure is its own.
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def ingest_memory(gigabytes: float) -> tuple[float, float]:
    """Return (peak MB of the process, samples/s) of a process of its own that ingests this much in batches."""
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import numpy as np
import columns
folder = columns.Folder()
n = int({gigabytes} * 1e9) // 784
start = time.perf_counter()
with folder.repo.checkout(write=True) as w:
    c = w.add_ndarray_column("images", (28, 28), "uint8")
    for at in range(0, n, 20_000):
        c.extend(range(at, min(at + 20_000, n)), columns.digits(min(20_000, n - at), at))
    w.commit("much")
taken = time.perf_counter() - start
folder.close()
print(columns.peak_megabytes(), n / taken)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak, rate = done.stdout.split()
    return float(peak), float(rate)


def main() -> None:
    """Run everything and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--quick", action="store_true", help="leave out the million samples and the large ingest")
    options = parser.parse_args()
    n, runs = options.samples, options.runs
    images = digits(n)
    noise = np.random.default_rng(9).integers(0, 256, (n, *SHAPE), np.uint8)
    rows: list[Row] = []

    def rate(data: np.ndarray) -> float:
        value, folder = ingest(data)
        folder.close()
        return value

    rows.append(Row("ingest by extend, digit-like", median(lambda: rate(images), runs), "samples/s", at_least=200_000))
    rows.append(Row("ingest by extend, noise", median(lambda: rate(noise), runs), "samples/s", at_least=200_000))
    rows.append(
        Row(
            "ingest one by one",
            median(lambda: ingest_singly(images[: n // 2]), max(3, runs // 2)),
            "samples/s",
            at_least=50_000,
        )
    )
    _, folder = ingest(images)
    _, noisy = ingest(noise)
    rows.append(Row("scan, digit-like", median(lambda: scan(folder, n), runs), "samples/s", at_least=800_000))
    rows.append(Row("scan, noise", median(lambda: scan(noisy, n), runs), "samples/s", at_least=800_000))
    rows.append(
        Row("scan in batches of 64", median(lambda: scan(folder, n, batch=64), runs), "samples/s", at_least=800_000)
    )
    rows.append(Row("random single, cold chunks", random_single(folder, n, cached=False), "µs", at_most=100))
    rows.append(Row("random single, from the cache", random_single(folder, n, cached=True), "µs", at_most=10))
    rows.append(Row("random batch of 64, warm chunks", random_batch(folder, n, cached=True), "µs/sample", at_most=15))
    rows.append(Row("random batch of 64, cold chunks", random_batch(folder, n, cached=False), "µs/sample"))
    for count, most_ms, most_bytes in ((100, 40, 1e6), (1, 15, 40e3)):
        ms, size = commit_changes(folder, n, count, 15)
        rows.append(Row(f"commit {count} scattered in {n:,}", ms, "ms", at_most=most_ms))
        rows.append(Row(f"  new metadata of {count}", size / 1e3, "kB", at_most=most_bytes / 1e3))
    rows.append(Row("open + checkout", open_checkout(folder), "ms", at_most=5))
    folder.close()
    noisy.close()
    if not options.quick:
        million = Folder()
        with million.repo.checkout(write=True) as w:
            column = w.add_ndarray_column("images", (4, 4), "uint8")
            data = np.random.default_rng(3).integers(0, 256, (1_000_000, 4, 4), np.uint8)
            taken = seconds(lambda: (column.extend(range(1_000_000), data), w.commit("million")))
            rows.append(Row("ingest 1,000,000 of 16 bytes", 1e6 / taken, "samples/s"))
        opened, first = first_sample(million, 1_000_000)
        rows.append(Row("open 1,000,000 samples", opened, "ms", at_most=20))
        rows.append(Row("first random sample of 1,000,000", first, "ms", at_most=5))
        million.close()
        peak, rate_large = ingest_memory(options.gigabytes)
        rows.append(Row(f"peak memory, ingest of {options.gigabytes:g} GB", peak, "MB", at_most=512))
        rows.append(Row("  its rate (making the data included)", rate_large, "samples/s"))
    write_report("columns", rows, machine())


if __name__ == "__main__":
    main()
