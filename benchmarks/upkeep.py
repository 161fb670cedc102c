"""Measure `verify` at each level: 100,000 samples of 28×28 bytes with some history, and larger samples that do not compress.

Run ``python benchmarks/upkeep.py``. It prints a table and writes ``benchmarks/results/upkeep.json``; nothing is asserted. Everything is
on the local disk, and in the page cache. ``--small`` takes a tenth of the samples.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import Row, machine, write_report

import hangarlake as hl

AUTHOR = "Bench <b@example.org>"
COMMITS = 20


def digits(folder: Path, samples: int) -> hl.Repository:
    """Make a repository of small samples, as compressible as digits are, with some commits that change a hundred of them each."""
    repo = hl.Repository.create(folder, author=AUTHOR)
    rng = np.random.default_rng(0)
    with repo.checkout("main", write=True, staging="memory") as w:
        column = w.add_ndarray_column("images", shape=(28, 28), dtype="u1")
        for start in range(0, samples, 10_000):
            count = min(10_000, samples - start)
            values = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            column.extend(range(start, start + count), values * (rng.random((count, 28, 28)) < 0.2).astype("u1"))
        w.commit("Add digits")
        for number in range(COMMITS):
            keys = rng.choice(samples, 100, replace=False).tolist()
            column.extend(keys, rng.integers(0, 256, (100, 28, 28), dtype=np.uint8))
            w.commit(f"Change {number}")
    return repo


def patches(folder: Path, samples: int) -> hl.Repository:
    """Make a repository of samples of 64 KiB that cannot be compressed."""
    repo = hl.Repository.create(folder, author=AUTHOR)
    rng = np.random.default_rng(1)
    with repo.checkout("main", write=True, staging="memory") as w:
        column = w.add_ndarray_column("patches", shape=(256, 256), dtype="u1")
        for start in range(0, samples, 512):
            count = min(512, samples - start)
            column.extend(range(start, start + count), rng.integers(0, 256, (count, 256, 256), dtype=np.uint8))
        w.commit("Add patches")
    return repo


def verified(repo: hl.Repository, level: str, sample: float | None = None) -> tuple[float, hl.VerifyReport]:
    """Return the best of three runs, in seconds, and what was reported."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        report = repo.verify(level=level, sample=sample)  # type: ignore[arg-type]  # one of the three
        seconds.append(time.perf_counter() - start)
        if not report:
            raise SystemExit(f"{report}: {report.problems[0]}")
    return min(seconds), report


def measure(repo: hl.Repository, what: str, raw: int) -> list[Row]:
    """Measure each level; `raw` bytes are what the samples of the newest commit hold."""
    rows = []
    for level in ("refs", "records", "full"):
        seconds, report = verified(repo, level)
        rows.append(Row(f"{what}, level {level}", seconds, "s"))
        if level == "records":
            rows.append(Row("  nodes", report.checked["nodes"], ""))
        if level == "full":
            rows.append(Row("  samples per second", report.checked["samples"] / seconds, "/s"))
            rows.append(Row("  stored bytes", report.checked["bytes"] / 1e6 / seconds, "MB/s"))
            rows.append(Row("  raw bytes", raw / 1e6 / seconds, "MB/s"))
    seconds, _ = verified(repo, "full", 0.05)
    rows.append(Row(f"{what}, a sample of 5%", seconds, "s"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a tenth of the samples")
    scale = 10 if parser.parse_args().small else 1
    with tempfile.TemporaryDirectory(prefix="hangarlake-upkeep-") as name:
        folder = Path(name)
        os.environ["HANGARLAKE_CACHE_DIR"] = str(folder / "cache")
        os.environ["HANGARLAKE_CONFIG_DIR"] = str(folder / "config")
        samples = 100_000 // scale
        rows = measure(digits(folder / "digits", samples), f"{samples:,} samples of 28×28", samples * 784)
        count = 4096 // scale
        rows += measure(patches(folder / "patches", count), f"{count:,} samples of 64 KiB", count << 16)
    write_report("upkeep", rows, machine())


if __name__ == "__main__":
    main()
