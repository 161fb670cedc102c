"""Measure arrays side by side with zarr-python on a plain store, Icechunk and TensorStore: writing, reading, windows, cold opens.

Run ``python benchmarks/arrays.py`` (``--s3`` adds an S3 endpoint over HTTP by moto, ``--small`` uses smaller arrays). It prints
medians, and every figure as a ratio to that of Hangarlake's ``Array``; it writes ``benchmarks/results/arrays.json``. The
contenders take turns within each round, so that a slow moment of the machine meets all of them. All write before anybody reads, for most
leave what they wrote to the system to write out. What is not installed is left out.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

sys.path.insert(0, str(Path(__file__).resolve().parent))

from report import Row, machine, write_report

import hangarlake as hl

AUTHOR = "Bench <b@example.org>"


def field(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return a smooth field with noise in it: compressible about as weather data is."""
    rng = np.random.default_rng(0)
    waves = sum(
        np.sin(np.linspace(0, 9 + axis, n)).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        for axis, n in enumerate(shape)
    )
    if np.dtype(dtype).kind == "f":
        out = (waves * 100).astype(dtype)
        out += rng.standard_normal(shape, dtype="f4").astype(dtype) * np.asarray(0.05, dtype)
        return np.round(out, 2).astype(dtype)
    return (waves * 1000).astype(dtype) + rng.integers(0, 16, shape, dtype)


class Place:
    """Where repositories and stores are put: a local folder, or a bucket."""

    def __init__(self, server: Any = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hangarlake-arrays-"))
        self.server = server
        self.bucket = f"bench-{self.folder.name[-8:].lower().replace('_', 'x')}"
        if server is not None:
            server.create_bucket(self.bucket)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Contender:
    """One way to keep an array. `write` makes everything durable; `open` returns something that is indexed."""

    name = ""

    def __init__(self, place: Place) -> None:
        self.place = place

    def write(self, number: int, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        """Write an array under a number, durably."""
        raise SystemExit(f"{self.name} does not write {number}: {data.shape} in {chunks}")

    def open(self, number: int) -> Any:
        """Open what was written under a number."""
        raise SystemExit(f"{self.name} does not open {number}")


class Direct(Contender):
    """Hangarlake's Array."""

    name = "Array"

    def url(self, number: int) -> str:
        place = self.place
        folder = f"{self.name}-{number}"
        return str(place.folder / folder) if place.server is None else f"s3://{place.bucket}/{folder}"

    def options(self) -> dict[str, Any]:
        server = self.place.server
        options: dict[str, Any] = {"cache_dir": self.place.folder / "cache"}
        if server is not None:
            options["storage_options"] = server.storage_options
        return options

    def write(self, number: int, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        repo = hl.Repository.create(self.url(number), author=AUTHOR, **self.options())
        with repo.checkout(write=True, staging="memory") as w:
            self.put(w, data, chunks)
            w.commit("data")

    def put(self, w: Any, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        w.create_array("x", shape=data.shape, dtype=data.dtype, chunks=chunks)[...] = data

    def open(self, number: int) -> Any:
        return hl.Repository.open(self.url(number), **self.options()).checkout().arrays["x"]


class Store(Direct):
    """zarr-python on Hangarlake's store."""

    name = "Store"

    def put(self, w: Any, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        array = zarr.create_array(w.store, name="x", shape=data.shape, dtype=data.dtype, chunks=chunks)
        array[...] = data

    def open(self, number: int) -> Any:
        checkout = hl.Repository.open(self.url(number), **self.options()).checkout()
        return zarr.open_array(checkout.store, path="x", mode="r")


class Plain(Contender):
    """zarr-python on a plain store."""

    name = "zarr"

    def store(self, number: int) -> Any:
        if self.place.server is None:
            return zarr.storage.LocalStore(self.place.folder / f"zarr-{number}")
        server = self.place.server
        options = {
            "key": server.key,
            "secret": server.secret,
            "client_kwargs": {"endpoint_url": server.endpoint, "region_name": "us-east-1"},
        }
        return zarr.storage.FsspecStore.from_url(f"s3://{self.place.bucket}/zarr-{number}", storage_options=options)

    def write(self, number: int, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        zarr.create_array(self.store(number), name="x", shape=data.shape, dtype=data.dtype, chunks=chunks)[...] = data

    def open(self, number: int) -> Any:
        return zarr.open_array(self.store(number), path="x", mode="r")


class Icechunk(Contender):
    """zarr-python on an Icechunk session."""

    name = "Icechunk"

    def storage(self, number: int) -> Any:
        import icechunk

        if self.place.server is None:
            return icechunk.local_filesystem_storage(str(self.place.folder / f"ice-{number}"))
        options = self.place.server.storage_options
        return icechunk.s3_storage(
            bucket=self.place.bucket,
            prefix=f"ice-{number}",
            region="us-east-1",
            endpoint_url=self.place.server.endpoint,
            allow_http=True,
            force_path_style=True,
            access_key_id=options["key"],
            secret_access_key=options["secret"],
        )

    def write(self, number: int, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        import icechunk

        session = icechunk.Repository.create(self.storage(number)).writable_session("main")
        zarr.create_array(session.store, name="x", shape=data.shape, dtype=data.dtype, chunks=chunks)[...] = data
        session.commit("data")

    def open(self, number: int) -> Any:
        import icechunk

        session = icechunk.Repository.open(self.storage(number)).readonly_session("main")
        return zarr.open_array(session.store, path="x", mode="r")


class _Tensor:
    def __init__(self, opened: Any) -> None:
        self.opened = opened

    def __getitem__(self, selection: Any) -> np.ndarray:
        return self.opened[selection].read().result()


class TensorStore(Contender):
    """TensorStore's zarr3 driver."""

    name = "TensorStore"

    def spec(self, number: int) -> dict[str, Any]:
        if self.place.server is not None:
            # It takes credentials from the environment only.
            os.environ.update(AWS_ACCESS_KEY_ID=self.place.server.key, AWS_SECRET_ACCESS_KEY=self.place.server.secret)
            kvstore: dict[str, Any] = {
                "driver": "s3",
                "bucket": self.place.bucket,
                "path": f"ts-{number}/",
                "endpoint": self.place.server.endpoint,
                "aws_region": "us-east-1",
                "aws_credentials": {"type": "environment"},
            }
        else:
            kvstore = {"driver": "file", "path": str(self.place.folder / f"ts-{number}")}
        return {"driver": "zarr3", "kvstore": kvstore}

    def write(self, number: int, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        import tensorstore

        codecs = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 0}},
        ]
        metadata = {
            "shape": list(data.shape),
            "data_type": data.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "codecs": codecs,
        }
        spec = {**self.spec(number), "metadata": metadata}
        tensorstore.open(spec, create=True).result()[...].write(data).result()

    def open(self, number: int) -> Any:
        import tensorstore

        return _Tensor(tensorstore.open(self.spec(number), read=True).result())


def contenders(place: Place) -> list[Contender]:
    """Return those that are installed."""
    from importlib.util import find_spec

    chosen: list[Contender] = [Direct(place), Store(place), Plain(place)]
    if find_spec("icechunk"):
        chosen.append(Icechunk(place))
    if find_spec("tensorstore"):
        chosen.append(TensorStore(place))
    return chosen


def timed(action: Callable[[], Any]) -> float:
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def take_memory(nbytes: int) -> None:
    """Touch as much memory as a result has, and give it back, so that whoever reads next finds it at hand.

    A virtual machine may take a second for each GiB that it has given back to its host, which hits every other reader.
    """
    np.ones(2 * nbytes, np.uint8)


def windows_of(shape: tuple[int, ...], side: int, count: int) -> list[tuple[slice, ...]]:
    rng = np.random.default_rng(1)
    chosen = []
    for _ in range(count):
        starts = [int(rng.integers(0, max(1, n - side))) for n in shape]
        chosen.append(tuple(slice(s, s + side) for s in starts))
    return chosen


def compare(
    label: str, data: np.ndarray, chunks: tuple[int, ...], rounds: int, server: Any, count: int = 100
) -> list[Row]:
    """Measure all contenders on one array; return a row for each figure."""
    place = Place(server)
    figures: dict[tuple[str, str], list[float]] = {}
    windows = windows_of(data.shape, 10, count)
    everyone = contenders(place)
    one = tuple(slice(0, side) for side in chunks)

    def attempt(contender: Contender, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            print(f"  {contender.name} on {label}: {type(error).__name__}: {str(error)[:200]}")
            everyone.remove(contender)

    def write(contender: Contender, number: int) -> None:
        figures.setdefault(("write and commit", contender.name), []).append(
            timed(lambda: contender.write(number, data, chunks))
        )
        if number == 0:
            np.testing.assert_array_equal(np.asarray(contender.open(0)[windows[0]]), data[windows[0]])

    def read(contender: Contender, number: int) -> None:
        array = contender.open(number)
        take_memory(data.nbytes)
        figures.setdefault(("full read", contender.name), []).append(timed(lambda: array[...]))
        fresh = contender.open(number)
        figures.setdefault((f"{count} windows of 10", contender.name), []).append(
            timed(lambda: [fresh[window] for window in windows])
        )
        figures.setdefault(("open and one chunk", contender.name), []).append(
            timed(lambda: contender.open(number)[one])
        )

    try:
        for number in range(rounds):
            for contender in list(everyone):
                attempt(contender, lambda c=contender, n=number: write(c, n))
        # What somebody wrote and did not flush is written out now, and not while another one reads.
        os.sync()
        for number in range(rounds):
            for contender in list(everyone):
                attempt(contender, lambda c=contender, n=number: read(c, n))
    finally:
        place.close()
    rows = []
    print(f"\n{label}, {data.nbytes / 1e6:,.0f} MB in {chunks}")
    names = [c.name for c in everyone]
    print(f"  {'':22}" + "".join(f"{name:>22}" for name in names))
    for metric in dict.fromkeys(metric for metric, _ in figures):
        medians = {name: statistics.median(figures[metric, name]) for name in names}
        ours = medians["Array"]
        cells = []
        for name, value in medians.items():
            speed = f"{data.nbytes / value / 1e6:,.0f} MB/s" if metric in ("full read", "write and commit") else ""
            cells.append(f"{value * 1e3:,.1f} ms {speed} {value / ours:.2f}×")
            rows.append(Row(f"{label}: {metric}, {name}", round(value * 1e3, 3), "ms"))
            rows.append(Row(f"{label}: {metric}, {name} ÷ Array", round(value / ours, 3), "×"))
        print(f"  {metric:22}" + "".join(f"{cell:>22}" for cell in cells))
    return rows


def million(folder: Path) -> list[Row]:
    """Append one chunk to an array of a million."""
    repo = hl.Repository.create(folder / "million", author=AUTHOR, cache_dir=folder / "cache")
    w = repo.checkout(write=True)
    array = w.create_array("x", shape=(1_000_001, 8), dtype="i4", chunks=(1, 8), compressors=None, fill_value=-1)
    values = np.arange(1_000_000 * 8, dtype="i4").reshape(-1, 8)
    start = time.perf_counter()
    for at in range(0, 1_000_000, 100_000):
        array[at : at + 100_000] = values[at : at + 100_000]
    w.commit("a million chunks")
    filled = time.perf_counter() - start
    trees = sum(path.stat().st_size for path in (folder / "million" / "trees").rglob("*") if path.is_file())
    times, sizes = [], []
    for number in range(9):
        before = _bytes_of(folder / "million")
        start = time.perf_counter()
        array[1_000_000] = np.arange(8) + number
        w.commit("one more")
        times.append(time.perf_counter() - start)
        sizes.append(_bytes_of(folder / "million") - before)
    w.close()
    rows = [
        Row("one more chunk of a million: commit", round(statistics.median(times) * 1e3, 2), "ms"),
        Row("one more chunk of a million: written", round(statistics.median(sizes) / 1e3, 1), "kB"),
        Row("a million chunks: tree", round(trees / 1_000_000, 2), "bytes per chunk"),
        Row("a million chunks: written in", round(filled, 1), "s"),
    ]
    for row in rows:
        print(f"  {row}")
    return rows


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fifty(latency: float = 0.03) -> list[Row]:
    """Commit changes of fifty arrays to a store whose every write takes a while."""
    from hangarlake.storage import MemoryStore

    class Slow(MemoryStore):
        def put(self, key: str, data: Any) -> None:
            time.sleep(latency)
            super().put(key, data)

        def put_new(self, key: str, data: Any) -> bool:
            time.sleep(latency)
            return super().put_new(key, data)

    folder = Path(tempfile.mkdtemp(prefix="hangarlake-fifty-"))
    repo = hl.Repository.create(Slow(), author=AUTHOR, cache_dir=folder)
    w = repo.checkout(write=True, staging="memory")
    arrays = [w.create_array(f"a{i:02}", shape=(100, 100), dtype="f4", chunks=(10, 10)) for i in range(50)]
    for array in arrays:
        array[...] = np.random.default_rng(0).random((100, 100), "f4")
    w.commit("fifty arrays")
    times = []
    for number in range(7):
        for array in arrays:
            array[0, 0] = number + 1
        times.append(timed(lambda: w.commit("one chunk of each")))
    shutil.rmtree(folder, ignore_errors=True)
    row = Row(
        f"commit touching 50 arrays, {latency * 1e3:.0f} ms for each write",
        round(statistics.median(times) * 1e3, 1),
        "ms",
    )
    print(f"  {row}")
    return [row]


def listing(count: int = 10_000) -> list[Row]:
    """List many arrays through zarr and directly."""
    folder = Path(tempfile.mkdtemp(prefix="hangarlake-list-"))
    repo = hl.Repository.create(folder / "repo", author=AUTHOR, cache_dir=folder / "cache")
    with repo.checkout(write=True, staging="memory") as w:
        metadata = zarr.create_array({}, shape=(10,), dtype="f4", chunks=(5,)).metadata
        text = next(iter(metadata.to_buffer_dict(_prototype()).values()))
        zarr.create_group(w.store)
        for i in range(count):
            w.store.set_sync(f"array-{i:05}/zarr.json", text)
        w.commit("many arrays")
    checkout = hl.Repository.open(folder / "repo", cache_dir=folder / "cache").checkout()
    rows = [
        Row(f"list {count:,} arrays: list(co.arrays)", round(timed(lambda: list(checkout.arrays)) * 1e3, 1), "ms"),
        Row(
            f"list {count:,} arrays: zarr members()",
            round(timed(lambda: zarr.open_group(checkout.store, mode="r").members()) * 1e3, 1),
            "ms",
        ),
    ]
    for row in rows:
        print(f"  {row}")
    shutil.rmtree(folder, ignore_errors=True)
    return rows


def _prototype() -> Any:
    from zarr.core.buffer import default_buffer_prototype

    return default_buffer_prototype()


def main() -> None:
    """Run everything that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="arrays of a tenth of the size")
    parser.add_argument("--s3", action="store_true", help="an S3 endpoint over HTTP as well")
    parser.add_argument("--only", choices=["dense", "million", "fifty", "listing"])
    options = parser.parse_args()
    rows: list[Row] = []
    shrink = 3 if options.small else 1
    cases = [
        ("float32 8000² in 1000²", (8000 // shrink // 1000 * 1000, 8000 // shrink // 1000 * 1000), "f4", (1000, 1000)),
        ("float32 4000² in 100²", (4000 // shrink // 100 * 100, 4000 // shrink // 100 * 100), "f4", (100, 100)),
        ("int64 512³ in (4, 512, 512)", (512 // shrink // 4 * 4, 512, 512), "i8", (4, 512, 512)),
    ]
    if options.only in (None, "dense"):
        for label, shape, dtype, chunks in cases:
            rows += compare(label, field(shape, dtype), chunks, options.rounds, None)
    if options.s3:
        from hangarlake.testing.servers import MotoServer

        with MotoServer() as server:
            for label, shape, dtype, chunks in cases:
                smaller = (shape[0] // 4 // chunks[0] * chunks[0], *shape[1:])
                rows += compare(f"S3: {label}", field(smaller, dtype), chunks, options.rounds, server, 20)
    if options.only in (None, "fifty"):
        rows += fifty()
    if options.only in (None, "listing"):
        rows += listing()
    if options.only in (None, "million"):
        folder = Path(tempfile.mkdtemp(prefix="hangarlake-million-"))
        try:
            rows += million(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    write_report("arrays", rows, machine())


if __name__ == "__main__":
    main()
