"""Make `tests/golden/v1`: a repository with every kind of column, dtype, layout, codec and reference, and what it holds.

``python -m tests.golden.make_v1 FOLDER`` makes another one. The one in version control is never made again: every later version
must open it as it is. Values are written down from the dicts below, not read back from the repository.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from hangarlake import Repository
from hangarlake.records.keys import encode_keys, hash_keys

DTYPES = [
    *("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"),
    *("M8[ns]", "M8[25s]", "M8[D]", "m8[us]", "m8[h]", "S5", "U3"),
]
CODECS = {"zstd": "zstd", "blosc": "blosc", "gzip": "gzip", "none": None}
SMALL = {"chunk_bytes": 64}


def bits(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Return an array of any bits, the same everywhere: NaN payloads and NaT come up by themselves."""
    dtype = np.dtype(name)
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    stream = b"".join(hashlib.sha256(f"{name} {seed} {i}".encode()).digest() for i in range(count // 32 + 1))
    raw = np.frombuffer(stream[:count], np.uint8).copy()
    if dtype.kind == "b":
        raw &= 1
    if dtype.kind == "U":
        raw.view("<u4")[:] = raw.view("<u4") % 0xD000 + 1
    return raw.view(dtype).reshape(shape)


def tall_keys() -> list[int]:
    """Return keys of 34 leaves of 128 entries, cut into two inner nodes: a tree of three levels with few entries."""
    keys: list[int] = []
    number = 0
    for leaf in range(34):
        keys += range(number, number + 127)
        number += 127
        candidates = encode_keys(range(number, number + 200_000))
        good = hash_keys(candidates, 0) % np.uint64(128) == 0
        if leaf == 32:
            good &= hash_keys(candidates, 1) % np.uint64(32) == 0
        number += int(np.flatnonzero(good)[0])
        keys.append(number)
        number += 1
    return keys


class Book:
    """What the repository is to hold, in dicts."""

    def __init__(self) -> None:
        self.columns: dict[str, dict[str, Any]] = {}
        self.states: dict[str, Any] = {}
        self.pool: dict[str, Any] = {}

    def add(
        self,
        name: str,
        kind: str,
        dtype: str | None = None,
        shape: Any = None,
        variable: bool = False,
        nested: bool = False,
    ) -> dict[Any, Any]:
        self.columns[name] = {
            "kind": kind,
            "dtype": None if dtype is None else np.dtype(dtype).newbyteorder("<").str,
            "shape": shape,
            "variable_shape": variable,
            "nested": nested,
            "samples": {},
        }
        samples: dict[Any, Any] = self.columns[name]["samples"]
        return samples

    def keep(self, state: str, attrs: dict[str, Any]) -> None:
        """Write down what there is now, under a name."""
        columns = {}
        for name, column in self.columns.items():
            text = json.dumps({**column, "samples": [[key, spell(value)] for key, value in column["samples"].items()]})
            columns[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
            self.pool[columns[name]] = json.loads(text)
        self.states[state] = {"attrs": dict(attrs), "columns": columns}


def spell(value: Any) -> Any:
    """Return a value as JSON: shape and bytes of an array, in hexadecimal; the SHA-256 where there are many."""
    if isinstance(value, np.ndarray):
        data = value.astype(value.dtype.newbyteorder("<")).tobytes()
        return [list(value.shape), data.hex() if len(data) <= 1024 else "sha256:" + hashlib.sha256(data).hexdigest()]
    if isinstance(value, bytes):
        return value.hex()
    return value


def fill(w: Any, book: Book) -> None:
    """Add all columns with their first samples."""

    def both(column: Any, samples: dict[Any, Any], new: dict[Any, Any]) -> None:
        column.update(new)
        samples.update(new)

    def ndarray(
        name: str, dtype: str, shape: Any, new: dict[Any, Any], encoding: Any = None, variable: bool = False
    ) -> None:
        column = w.add_ndarray_column(name, shape, dtype, variable_shape=variable, encoding=encoding)
        both(column, book.add(name, "ndarray", dtype, list(shape), variable), new)

    for dtype in DTYPES:
        ndarray(f"dtypes/{dtype}", dtype, (2,), {key: bits(dtype, (2,), key) for key in range(3)})
    odd = [0x7FF8000000000001, 0xFFF0000000000000, 1 << 63, 0, 1]
    ndarray("odd floats", "f8", (), {i: np.array([n], "<u8").view("<f8").reshape(()) for i, n in enumerate(odd)})
    for name, codec in CODECS.items():
        encoding = {**SMALL, "compressor": codec}
        ndarray(f"rows/{name}", "i4", (3,), {n: bits("i4", (3,), n % 19) for n in range(40)}, encoding)
        runs = {f"k{n:02}": bits("f4", (n % 5, 2), n) for n in range(20)}
        ndarray(f"runs/{name}", "f4", (None, 2), runs, encoding, variable=True)
        ndarray(
            f"grid/{name}",
            "u2",
            (5, 7),
            {n: bits("u2", (5, 7), n) for n in range(3)},
            {"compressor": codec, "chunk_shape": (2, 3)},
        )
    uneven = {n: bits("i2", (n, 4 + n), n) for n in range(7)}
    ndarray("grid/variable", "i2", (None, None), uneven, {"chunk_shape": (3, 3)}, variable=True)
    ndarray("solo", "u1", (1 << 20,), {0: (np.arange(1 << 20) % 251).astype("u1")}, {"compressor": None})
    ndarray("empty/fixed", "f4", (0, 3), {n: np.empty((0, 3), "f4") for n in range(3)})
    shapes = [(0, 0), (2, 0), (0, 1), (1, 1)]
    ndarray("empty/variable", "u1", (None, None), {n: bits("u1", s, n) for n, s in enumerate(shapes)}, variable=True)
    ndarray("dimensions/32", "u1", (1,) * 31 + (2,), {"a": bits("u1", (1,) * 31 + (2,), 0)})
    ndarray("no samples", "u1", (1,), {})
    ndarray("tall", "u1", (), {key: np.array(key % 3, "u1") for key in tall_keys()})
    odd_keys: list[Any] = [-(2**63), -1, 0, 1, 256, 2**63 - 1, "0", "-1", "a", "a b", "é", "\U0001f600", "z" * 1024]
    ndarray("keys", "i1", (), {key: np.array(n, "i1") for n, key in enumerate(odd_keys)})

    texts = ["", "plain", "ü\U0001f600", "\0nul", "x" * 300, "line\nline", "plain"]
    both(w.add_str_column("text", encoding=SMALL), book.add("text", "str", variable=True), dict(enumerate(texts)))
    raws = [b"", b"\0\0", bytes(range(256)), b"\0" * 90]
    both(w.add_bytes_column("raw", encoding=SMALL), book.add("raw", "bytes", variable=True), dict(enumerate(raws)))
    docs: list[Any] = [None, True, -1, 2**70, 1.5, 1e300, "ü", [], {}, {"b": [1, {"a": None}], "a": 1.0}]
    both(w.add_json_column("doc"), book.add("doc", "json", variable=True), dict(enumerate(docs)))

    nested = w.add_ndarray_column("nested", (2,), "u2", nested=True)
    samples = book.add("nested", "ndarray", "u2", [2], nested=True)
    for sample, sub in itertools.product((1, "img", -(2**63)), (0, "mask", -(2**63), "é")):
        nested[sample, sub] = bits("u2", (2,), len(samples))
        samples[sample, sub] = bits("u2", (2,), len(samples))


def make(folder: Path) -> None:
    """Make the repository in ``folder/repository`` and write down what it holds in ``folder/expected.json``."""
    book = Book()
    commits: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache, deterministic():
        repo = Repository.create(str(folder / "repository"), author="Ada Lovelace <ada@example.org>", cache_dir=cache)
        commits["empty"] = repo.resolve().id
        with repo.checkout(write=True) as w:
            w.attrs.update({"title": "golden", "nested": {"list": [1, 2.5, None]}})
            fill(w, book)
            commits["first"] = w.commit("Every kind of column\n\nwith a body, ünïcode included").id
        attrs: dict[str, Any] = {"title": "golden", "nested": {"list": [1, 2.5, None]}}
        book.keep("first", attrs)
        repo.create_tag("v1/größe", message="the first state")
        repo.create_branch("side/way")

        with repo.checkout("side/way", write=True) as w:
            w["text"]["side"] = book.columns["text"]["samples"]["side"] = "on the side"
            commits["side"] = w.commit("On the side", author="Grace Hopper <grace@example.org>").id
        book.keep("side", attrs)
        del book.columns["text"]["samples"]["side"]

        with repo.checkout(write=True) as w:
            tall = book.columns["tall"]["samples"]
            w["tall"][64] = tall[64] = np.array(200, "u1")
            del w["tall"][65], tall[65]
            rows = book.columns["rows/zstd"]["samples"]
            w["rows/zstd"][7] = rows[7] = bits("i4", (3,), 99)
            w["rows/zstd"]["again"] = rows["again"] = rows[3]
            w.rename("raw", "bytes of old")
            book.columns["bytes of old"] = book.columns.pop("raw")
            w.remove("empty/fixed")
            del book.columns["empty/fixed"]
            w.attrs["title"] = attrs["title"] = "changed"
            commits["second"] = w.commit("Change, remove and rename").id
        book.keep("second", attrs)

        book.columns["text"]["samples"]["side"] = "on the side"
        commits["merge"] = repo.merge("side/way", message="Merge what was on the side").id
        book.keep("merge", attrs)
        repo.create_branch("gone", "v1/größe")
        repo.delete_branch("gone")
        repo.create_branch("moved")
        repo.reset_branch("moved", commits["second"])
        repo.close()
    expected = {
        "commits": commits,
        "branches": {"main": "merge", "side/way": "side", "moved": "second"},
        "tags": {"v1/größe": "first"},
        "history of main": ["merge", "side", "second", "first", "empty"],
        "states": book.states,
    }
    # One line for each column, so that a file of many numbers stays short.
    pool = ",\n".join(f"{json.dumps(name)}: {compact(book.pool[name])}" for name in sorted(book.pool))
    parts = [f"{json.dumps(name)}: {compact(part)}" for name, part in sorted(expected.items())]
    text = ",\n".join([f'"columns": {{\n{pool}\n}}', *parts])
    (folder / "expected.json").write_text(f"{{\n{text}\n}}\n", "utf-8")


def compact(value: Any) -> str:
    """Return JSON on one line."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def deterministic() -> Any:
    """Replace clock and chance."""
    numbers = itertools.count(1)
    times: Iterator[datetime] = (datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=n) for n in itertools.count())
    clock = mock.Mock(side_effect=lambda: next(times))
    stack = mock.patch.multiple("hangarlake.records.refs", utc_now=clock)
    others = [mock.patch.multiple(f"hangarlake.{name}", utc_now=clock) for name in ("publish", "records.marker")]
    chance = mock.patch("secrets.token_hex", side_effect=lambda n=16: f"{next(numbers):0{2 * n}x}")

    class Everything:
        def __enter__(self) -> None:
            for each in (stack, *others, chance):
                each.__enter__()

        def __exit__(self, *details: Any) -> None:
            for each in (chance, *others, stack):
                each.__exit__(*details)

    return Everything()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
