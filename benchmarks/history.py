"""Measure history against the budgets of the design: diff, merge, merge base, logs.

Run ``python benchmarks/history.py`` (``--quick`` leaves out the ten million samples); it prints a table and writes
``benchmarks/results/history.json``. Repositories are built once, in the folder for temporary files or in ``--folder``, and used again.
Times are medians of several runs on a local disk; a merge is measured in two parts, deciding it and making it durable (which
is what any commit costs), and node reads are counted. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import Row, machine, write_report

import hangarlake as hl
from hangarlake.merge_base import merge_base_of
from hangarlake.merging import three_way
from hangarlake.publish import stand_fields
from hangarlake.records.commits import commit_key, encode_commit
from hangarlake.records.graph import segment_due, write_segment
from hangarlake.records.node import Node, NodeRef
from hangarlake.records.nodes import NodeStore
from hangarlake.session import Snapshot

VERSION = 1
AUTHOR = "Bench <b@example.org>"
CHANGES = 100
COMMITS = 10_000


def median(measure: Callable[[], float], runs: int) -> float:
    """Return the median of several runs."""
    return statistics.median(measure() for _ in range(runs))


def seconds(action: Callable[[], Any]) -> float:
    """Return how long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Reads:
    """Counts nodes that are asked for, cached or not."""

    def __init__(self) -> None:
        self.count = 0
        plain = NodeStore.get_nodes

        def counted(nodes: NodeStore, refs: Sequence[NodeRef]) -> list[Node]:
            self.count += len(refs)
            return plain(nodes, refs)

        NodeStore.get_nodes = counted  # type: ignore[method-assign]  # for the length of this program

    def of(self, action: Callable[[], Any]) -> int:
        """Return how many nodes an action asks for."""
        before = self.count
        action()
        return self.count - before


def built(folder: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return a repository, building it if it is not there; what was left unfinished does not count."""
    place = folder / f"{name}-v{VERSION}"
    if not place.exists():
        unfinished = folder / f"{name}-{os.getpid()}"
        print(f"building {name} …", flush=True)
        build(unfinished)
        unfinished.rename(place)
    return place


# ---- samples ------------------------------------------------------------------------------------------------------------


def build_samples(place: Path, size: int) -> None:
    """Make a column of `size` values of 16 bytes, and two branches that changed scattered ones."""
    repo = hl.Repository.create(place, author=AUTHOR, cache_dir=place / "cache")
    with repo.checkout("main", write=True, staging="memory") as w:
        column = w.add_ndarray_column("x", (2,), "int64", encoding={"chunk_bytes": 1 << 20, "compressor": None})
        step = 1_000_000
        for start in range(0, size, step):
            n = min(step, size - start)
            column.extend(range(start, start + n), np.arange(2 * start, 2 * (start + n), dtype="int64").reshape(n, 2))
        w.commit("samples")
    rng = np.random.default_rng(0)
    for name, keys in zip(("left", "right"), rng.permutation(size)[: 2 * CHANGES].reshape(2, CHANGES), strict=True):
        repo.create_branch(name)
        with repo.checkout(name, write=True, staging="memory") as w:
            w["x"].extend(keys, np.full((CHANGES, 2), -1, "int64"))
            w.commit(name)
    repo.close()
    shutil.rmtree(place / "packs")  # nothing here needs data


def measure_samples(folder: Path, size: int, budget: float, reads: Reads, runs: int) -> list[Row]:
    """Measure diff and merge of scattered changes."""
    place = built(folder, f"samples-{size}", lambda at: build_samples(at, size))
    label = f"{CHANGES} in {size:,}"
    caches = Path(tempfile.mkdtemp(prefix="hangarlake-bench-"))

    def fresh() -> hl.Repository:
        return hl.Repository.open(place, author=AUTHOR, cache_dir=caches / str(time.perf_counter_ns()))

    def compare(repo: hl.Repository) -> None:
        change = repo.diff("left~1", "left").columns["x"]
        assert len(list(change.modified)) == len(change.modified) == CHANGES

    repo = fresh()
    asked = reads.of(lambda: compare(repo))
    warm = median(lambda: seconds(lambda: compare(repo)), runs)
    cold = median(lambda: (lambda r: seconds(lambda: compare(r)))(fresh()), 5)
    session, ours, theirs = repo._session, repo.resolve("left"), repo.resolve("right")

    def decide() -> Any:
        base = merge_base_of(session, ours, theirs)
        snapshot = Snapshot(ours, session.catalog(ours.catalog))
        return three_way(session, snapshot, session.catalog(theirs.catalog), base, resolve=None, what="benchmark")

    merge_reads = reads.of(decide)
    decided = median(lambda: seconds(decide), runs)
    if "work" not in repo.branches:
        repo.create_branch("work", "left")

    def whole() -> float:
        repo.reset_branch("work", "left")
        return seconds(lambda: repo.merge("right", "work"))

    merged = median(whole, runs)
    shutil.rmtree(caches, ignore_errors=True)
    return [
        Row(f"diff of {label}, warm", 1e3 * warm, "ms", at_most=budget),
        Row(f"diff of {label}, cold", 1e3 * cold, "ms"),
        Row(f"diff of {label}, node reads", asked, "nodes"),
        Row(f"merge of {label}, deciding it", 1e3 * decided, "ms", at_most=budget),
        Row(f"merge of {label}, with a durable commit", 1e3 * merged, "ms"),
        Row(f"merge of {label}, node reads", merge_reads, "nodes"),
    ]


# ---- commits ------------------------------------------------------------------------------------------------------------


def build_commits(place: Path) -> None:
    """Make two lines of history of 5,000 commits each, with the segments that writers leave."""
    repo = hl.Repository.create(place, author=AUTHOR, cache_dir=place / "cache")
    session, root = repo._session, repo.resolve()
    author = session.author
    for name in ("left", "right"):
        repo.create_branch(name)
        tip = root
        for number in range(COMMITS // 2):
            commit_id, record = encode_commit(
                catalog=root.catalog,
                parents=[tip.id],
                generation=tip.generation + 1,
                author=author,
                message=f"{name} {number}",
                time=datetime.now(UTC),
                renames=[{}],
            )
            path = place / commit_key(commit_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(record)
            tip = session.graph.add(commit_id, record)
            if segment_due(tip):
                write_segment(session.store, session.graph, tip)
        session.refs.move(
            name,
            session.refs.head(name),
            operation="commit",
            author=author,
            message="last",
            **stand_fields(session, Snapshot(tip, session.catalog(tip.catalog))),
        )
    repo.close()


def measure_commits(folder: Path) -> list[Row]:
    """Measure walks through 10,000 commits."""
    place = built(folder, "commits", build_commits)
    caches = Path(tempfile.mkdtemp(prefix="hangarlake-bench-"))

    def fresh() -> hl.Repository:
        return hl.Repository.open(place, author=AUTHOR, cache_dir=caches / str(time.perf_counter_ns()))

    def base(repo: hl.Repository) -> float:
        return seconds(lambda: repo.merge_base("left", "right"))

    def log(repo: hl.Repository) -> float:
        return seconds(lambda: sum(1 for _ in repo.log("left")) + sum(1 for _ in repo.log("right")))

    cold = median(lambda: base(fresh()), 5)
    one = hl.Repository.open(place, author=AUTHOR, cache_dir=caches / "kept")
    base(one)
    one.close()
    indexed = median(
        lambda: base(hl.Repository.open(place, author=AUTHOR, cache_dir=caches / "kept")),
        5,
    )
    logged = median(lambda: log(fresh()), 5)
    shutil.rmtree(caches, ignore_errors=True)
    return [
        Row(f"merge base across {COMMITS:,} commits, cold index", 1e3 * cold, "ms", at_most=200),
        Row(f"merge base across {COMMITS:,} commits, index there", 1e3 * indexed, "ms"),
        Row(f"log of {COMMITS:,} commits, cold index", 1e3 * logged, "ms", at_most=1000),
    ]


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the ten million samples")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hangarlake-bench-history")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    about = machine()
    reads = Reads()
    rows = measure_samples(options.folder, 100_000, 15, reads, options.runs)
    if not options.quick:
        rows += measure_samples(options.folder, 10_000_000, 150, reads, options.runs)
    rows += measure_commits(options.folder)
    write_report("history", rows, about)


if __name__ == "__main__":
    main()
