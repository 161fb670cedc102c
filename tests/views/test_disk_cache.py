"""Chunks that were read once and are kept on this machine's disk: `disk_cache=` and HANGARLAKE_DISK_CACHE."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import Repository
from hangarlake.caching import parse_size
from hangarlake.chunks import cache as chunk_cache
from hangarlake.storage import LocalStore, ObjectStore
from hangarlake.testing import CountingStore
from hangarlake.testing.wrapping import WrappingStore
from tests.columns.values import AUTHOR, create, reopen
from tests.views.workers import read_all

SAMPLES = 60


class Far(WrappingStore):
    """A folder that counts as a bucket elsewhere."""

    @property
    def creates_atomically(self) -> bool:
        return False


def picture(key: int) -> Any:
    return np.random.default_rng(key).integers(0, 256, (32, 32), np.uint8)


@pytest.fixture
def bucket(tmp_path: Path) -> ObjectStore:
    """A store with sixty pictures of 1 kB that do not compress, in chunks of a few."""
    store = LocalStore(tmp_path / "bucket")
    with create(store, tmp_path / "writer").checkout(write=True) as w:
        column = w.add_ndarray_column("x", (32, 32), np.uint8, encoding={"chunk_bytes": 4096})
        column.extend(range(SAMPLES), np.stack([picture(key) for key in range(SAMPLES)]))
        w.commit("pictures")
    return store


def epoch(store: Any, cache: Path, **options: Any) -> int:
    """Read everything as a new process would, and return how many requests were made for data."""
    counting = CountingStore(store)
    column = reopen(counting, cache, **options).checkout()["x"]
    for key in range(0, SAMPLES, 7):
        assert (column[key] == picture(key)).all()
    assert (column.batch(range(SAMPLES)) == np.stack([picture(key) for key in range(SAMPLES)])).all()
    return sum(request.key.startswith("packs/") for request in counting.requests)


def kept(cache: Path) -> int:
    """Return how many bytes of chunks a cache folder holds."""
    return sum(file.stat().st_size for file in (cache / "chunks").rglob("*") if len(file.name) == 40)


@pytest.mark.parametrize("size", [1_000_000, "1 MB", "0.5 MiB"])
def test_a_second_epoch_asks_the_bucket_for_no_data(bucket: ObjectStore, tmp_path: Path, size: Any) -> None:
    assert epoch(bucket, tmp_path / "cache", disk_cache=size) > 0
    assert kept(tmp_path / "cache") > SAMPLES * 1000
    assert epoch(bucket, tmp_path / "cache", disk_cache=size) == 0
    # Without the cache, and with a folder of its own, it is as it ever was.
    assert epoch(bucket, tmp_path / "cache") > 0
    assert epoch(bucket, tmp_path / "other", disk_cache=size) > 0


def test_the_variable_means_the_same_except_for_folders_of_this_machine(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANGARLAKE_DISK_CACHE", "1 MB")
    assert epoch(bucket, tmp_path / "near") > 0
    assert not (tmp_path / "near" / "chunks").exists()
    assert epoch(Far(bucket), tmp_path / "far", disk_cache=0) > 0
    assert not (tmp_path / "far" / "chunks").exists()
    assert epoch(Far(bucket), tmp_path / "far") > 0
    assert epoch(Far(bucket), tmp_path / "far") == 0
    monkeypatch.setenv("HANGARLAKE_DISK_CACHE", "plenty")
    with pytest.raises(ValueError, match=r"HANGARLAKE_DISK_CACHE is .* like '20 GB' .* not 'plenty'"):
        reopen(bucket, tmp_path / "near")


def test_the_bound_is_kept_and_every_sample_is_read_all_the_same(bucket: ObjectStore, tmp_path: Path) -> None:
    for _ in range(3):
        epoch(bucket, tmp_path / "cache", disk_cache="20 kB")
        assert 0 < kept(tmp_path / "cache") <= 20_000


def test_clones_share_what_was_read_and_pickles_take_the_setting_along(tmp_path: Path, bucket: ObjectStore) -> None:
    place = str(tmp_path / "bucket")
    clone = Repository.clone(place, tmp_path / "clone", author=AUTHOR, cache_dir=tmp_path / "cache", disk_cache="1 MB")
    assert (clone.checkout()["x"][3] == picture(3)).all()  # read through, and kept
    assert kept(tmp_path / "cache") > 0
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(read_all, pickle.dumps(clone)) for _ in range(2)]
        digests = {job.result() for job in jobs}
    assert digests == {b"".join(picture(key).tobytes() for key in range(SAMPLES))}
    assert epoch(bucket, tmp_path / "cache", disk_cache="1 MB") == 0
    assert not list((tmp_path / "cache" / "chunks" / "tmp").iterdir())


def test_a_cache_that_vanishes_or_cannot_be_written_fails_no_read(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    column = reopen(bucket, tmp_path / "cache", disk_cache="1 MB").checkout()["x"]
    assert (column[0] == picture(0)).all()
    shutil.rmtree(tmp_path / "cache" / "chunks")
    assert (column[SAMPLES - 1] == picture(SAMPLES - 1)).all()
    assert kept(tmp_path / "cache") > 0
    shutil.rmtree(tmp_path / "cache" / "chunks")
    (tmp_path / "cache" / "chunks").write_bytes(b"no folder")
    assert epoch(bucket, tmp_path / "cache", disk_cache="1 MB") > 0

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    caplog.clear()
    monkeypatch.setattr(chunk_cache.os, "replace", full)
    assert epoch(bucket, tmp_path / "full", disk_cache="1 MB") > 0
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1  # and not one for each chunk
    assert "No space left" in warned[0]
    assert not [file for file in (tmp_path / "full" / "chunks").rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 0),
        (17, 17),
        ("17", 17),
        ("20 GB", 20 * 10**9),
        ("20gb", 20 * 10**9),
        ("1.5 MiB", 3 << 19),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes_are_numbers_or_texts_with_a_unit(size: Any, expected: int) -> None:
    assert parse_size(size, "size") == expected


@pytest.mark.parametrize("size", [-1, "", "GB", "-3 GB", "20 PB", "1e9", "20 GB!", True, 1.5, [1]])
def test_other_sizes_are_refused_before_anything_is_written(tmp_path: Path, size: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="disk_cache is a number of bytes"):
        create(tmp_path / "repo", tmp_path / "cache", disk_cache=size)
    assert not list((tmp_path / "repo").rglob("*"))
