"""A damaged, truncated or missing object: what is read is right, or the error says what is damaged. Never wrong data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import CorruptionError, Repository
from hangarlake.records import treepacks
from hangarlake.storage import LocalStore, MemoryStore, ObjectStore
from tests.columns.values import create, exact, reopen


def fill(repo: Repository) -> dict[str, Any]:
    """Make a repository with every kind of object; return what reading it gives."""
    rng = np.random.default_rng(1)
    with repo.checkout(write=True) as w:
        w.attrs["title"] = "damage"
        small = {"chunk_bytes": 512}
        w.add_ndarray_column("rows", (4,), np.int32, encoding=small).extend(
            range(900), rng.integers(0, 1000, (900, 4)).astype(np.int32)
        )
        varied = w.add_ndarray_column(
            "runs", (None,), np.float32, variable_shape=True, encoding={**small, "compressor": None}
        )
        varied.extend(range(20), (rng.random(7 * key, dtype=np.float32) for key in range(20)))
        w.add_ndarray_column("grid", (8, 8), np.uint8, encoding={"chunk_shape": (4, 4), "compressor": "gzip"})["a"] = (
            rng.integers(0, 256, (8, 8), dtype=np.uint8)
        )
        w.add_ndarray_column("solo", (1 << 20,), np.uint8)["a"] = rng.integers(0, 256, 1 << 20, dtype=np.uint8)
        w.add_str_column("text").update({f"key {n}": "ü" * n for n in range(30)})
        w.add_json_column("doc")["a"] = {"b": [1, None]}
        first = w.commit("first")
        w["rows"][5] = np.zeros(4, np.int32)
        del w["rows"][7]
        w["text"]["key 3"] = "changed"
        w.commit("second")
    repo.create_tag("v1", first.id)
    repo.create_branch("side", "v1")
    repo.close()
    return everything(repo)


def everything(repo: Repository) -> dict[str, Any]:
    """Read all that can be read."""
    seen: dict[str, Any] = {"branches": dict(repo.branches), "tags": dict(repo.tags)}
    seen["log"] = [(commit.id, commit.message, commit.parents, str(commit.author)) for commit in repo.log()]
    seen["reflog"] = [(entry.seq, entry.commit, entry.operation) for entry in repo.reflog("main")]
    for rev in ("main", "v1", "main~1", "side"):
        with repo.checkout(rev) as checkout:
            seen[rev] = {name: exact(dict(column.items())) for name, column in checkout.columns.items()}
            seen[rev, "attrs"] = checkout.attrs
            seen[rev, "one"] = exact((checkout["rows"][6], checkout["grid"]["a"], checkout["text"]["key 9"]))
            seen[rev, "part"] = exact(checkout["grid"].lazy("a")[5:, :2])
            seen[rev, "batch"] = exact((checkout["rows"].batch([899, 1, 300]), checkout["runs"].batch([3, 3, 19])))
            seen[rev, "digests"] = [checkout["rows"].digest(key) for key in (0, 6)]
    return seen


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The objects of a repository, and what it holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(treepacks, "_INLINE_BYTES", 600)  # some trees in catalogs, some in packs
        store = MemoryStore()
        expected = fill(create(store, tmp_path_factory.mktemp("cache")))
    return {info.key: store.get(info.key) for info in store.list("")}, expected


def kinds(objects: dict[str, bytes]) -> set[str]:
    return {key.split("/")[0] for key in objects}


def holding(objects: dict[str, bytes]) -> MemoryStore:
    store = MemoryStore()
    for key, data in objects.items():
        store.put(key, data)
    return store


def damages(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield damaged copies: flipped bits at both ends and at places between, cut short, emptied, made longer."""
    places = {0, 1, len(data) // 2, len(data) - 1, len(data) - 2, *(rng.randrange(len(data)) for _ in range(14))}
    for place in sorted(place for place in places if 0 <= place < len(data)):
        yield data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    for length in {0, 1, len(data) // 2, len(data) - 1}:
        yield data[:length]


def read_or_refused(store: ObjectStore, cache: Path, expected: dict[str, Any]) -> CorruptionError | None:
    """Read everything: it is as expected, or a CorruptionError is raised (which is returned)."""
    try:
        assert everything(reopen(store, cache)) == expected
    except CorruptionError as error:
        return error
    return None


PREFIXES = ("hangarlake.json", "refs/branches", "refs/tags", "hints", "commits", "catalogs", "trees", "packs")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_damaged_object_never_gives_wrong_data(
    repository: tuple[dict[str, bytes], dict[str, Any]], tmp_path: Path, prefix: str
) -> None:
    objects, expected = repository
    rng = random.Random(prefix)
    store = holding(objects)
    tried = 0
    for key in [key for key in objects if key.startswith(prefix)]:
        for data in damages(objects[key], rng):
            tried += 1
            store.put(key, data)
            error = read_or_refused(store, tmp_path / str(tried), expected)
            if prefix == "hints":
                assert error is None
        store.put(key, objects[key])
    assert tried > 10
    assert read_or_refused(store, tmp_path / "mended", expected) is None


@pytest.mark.parametrize("prefix", ["commits", "catalogs", "trees", "packs", "refs/tags", "hints"])
def test_a_missing_object_never_gives_wrong_data(
    repository: tuple[dict[str, bytes], dict[str, Any]], tmp_path: Path, prefix: str
) -> None:
    objects, expected = repository
    for key in [key for key in objects if key.startswith(prefix)]:
        store = holding({each: data for each, data in objects.items() if each != key})
        if prefix == "refs/tags":
            assert dict(reopen(store, tmp_path / key).tags) == {}
            continue
        error = read_or_refused(store, tmp_path / key, expected)
        if prefix in ("trees", "packs"):
            assert key in str(error)
        if prefix == "hints":
            assert error is None


def test_the_kinds_of_objects_are_all_tried(repository: tuple[dict[str, bytes], dict[str, Any]]) -> None:
    assert kinds(repository[0]) == {prefix.split("/")[0] for prefix in PREFIXES}


@pytest.mark.parametrize("way", ["flip", "cut", "gone"])
@pytest.mark.parametrize("local", [True, False], ids=["local", "memory"])
def test_damaged_data_is_reported_with_object_and_sample(tmp_path: Path, way: str, local: bool) -> None:
    store: ObjectStore = LocalStore(tmp_path / "store") if local else MemoryStore()
    with create(store, tmp_path / "cache").checkout(write=True) as w:
        w.add_bytes_column("raw")["some key"] = bytes(range(256)) * 9
        w.add_ndarray_column("large", (4096,), np.uint8, encoding={"chunk_shape": (1024,), "compressor": None})["l"] = (
            np.arange(4096).astype(np.uint8)
        )
        w.commit("data")
    (pack,) = [info.key for info in store.list("packs/")]
    data = store.get(pack)
    if way == "gone":
        store.delete([pack])
    else:
        store.put(pack, b"\xff" + data[1:] if way == "flip" else data[:5])
    checkout = reopen(store, tmp_path / "other").checkout()
    reads: list[tuple[str, str, Any]] = [
        ("raw", "some key", lambda: checkout["raw"]["some key"]),
        ("raw", "some key", lambda: checkout["raw"].batch(["some key"])),
        ("raw", "some key", lambda: list(checkout["raw"].values())),
        ("large", "l", lambda: checkout["large"]["l"]),
        ("large", "l", lambda: checkout["large"].lazy("l")[0:3000]),
        ("large", "l", lambda: list(checkout["large"].scan())),
    ]
    errors = []
    for column, key, read in reads:
        try:
            read()
        except CorruptionError as error:
            errors.append((column, key, str(error)))
    # A flipped bit hits the chunk of one of the two columns.
    assert len(errors) == (3 if way == "flip" else 6)
    for column, key, message in errors:
        for part in (pack, f"column {column!r}", f"sample {key!r}"):
            assert part in message
