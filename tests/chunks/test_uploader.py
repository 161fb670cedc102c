"""Uploading chunks: each is in the bucket once, where its place says, or still held."""

from __future__ import annotations

import numpy as np
import pytest

from hangarlake.chunks import uploader as uploader_module
from hangarlake.chunks.digests import blake3_160
from hangarlake.chunks.encodings import RAW
from hangarlake.chunks.packs import PACK_BYTES, SOLO_BYTES, solo_bytes
from hangarlake.chunks.reader import ChunkReader
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.errors import StorageError
from hangarlake.storage import MemoryStore
from hangarlake.testing import Fault, FaultyStore


def add(uploader: ChunkUploader, data: bytes, **options: int) -> bytes:
    digest = blake3_160(data)
    uploader.add(digest, data, 1, RAW, **options)
    return digest


def check_stored(store: MemoryStore, uploader: ChunkUploader, chunks: list[bytes]) -> None:
    refs = [uploader.places[blake3_160(chunk)] for chunk in chunks]
    assert ChunkReader(store).read_raw(refs) == chunks
    assert not any(uploader.pending(ref.digest) for ref in refs)


def test_small_chunks_share_a_pack_and_large_ones_are_objects_of_their_own():
    store = MemoryStore()
    uploader = ChunkUploader(store)
    small, large = [b"a", b"b" * 100, b"c" * (SOLO_BYTES - 1)], [b"d" * SOLO_BYTES]
    for chunk in small + large + small:
        add(uploader, chunk)
    uploader.flush()
    check_stored(store, uploader, small + large)
    assert len({uploader.places[blake3_160(chunk)].pack for chunk in small}) == 1
    assert uploader.places[blake3_160(large[0])].pack is None
    assert len(list(store.list("packs/"))) == 2
    assert uploader.bytes_added == sum(map(len, small + large))


def test_chunks_of_a_value_in_many_chunks_do_not_fill_more_packs_than_a_leaf_can_name():
    assert solo_bytes(1) == solo_bytes(1_000) == SOLO_BYTES
    for count in (1, 2_000, 10_000, 1 << 15):
        largest = solo_bytes(count) - 1
        # What is left in packs of each of 512 values, and the packs that a value shares with those beside it.
        assert 512 * (-(-count * largest // PACK_BYTES) + 2) <= 65_534
    store = MemoryStore()
    uploader = ChunkUploader(store)
    few, many = b"a" * 100_000, b"b" * 100_000
    add(uploader, few, solo_bytes=solo_bytes(10))
    add(uploader, many, solo_bytes=solo_bytes(1 << 15))
    uploader.flush()
    check_stored(store, uploader, [few, many])
    assert uploader.places[blake3_160(few)].pack is not None
    assert uploader.places[blake3_160(many)].pack is None


@pytest.mark.parametrize("size", [100, SOLO_BYTES])
def test_what_cannot_begin_to_upload_is_uploaded_by_the_flush(monkeypatch, size):
    class NoThreads:
        def submit(self, *args: object) -> None:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    store = MemoryStore()
    uploader = ChunkUploader(store)
    chunks = [np.random.default_rng(i).bytes(size) for i in range(3)]
    monkeypatch.setattr(uploader_module, "io_pool", NoThreads)
    for chunk in chunks:
        add(uploader, chunk)
    uploader.flush()
    check_stored(store, uploader, chunks)


def test_a_failed_upload_is_repeated_and_its_chunks_are_held_until_then():
    store = FaultyStore(MemoryStore(), [Fault("error", op="put")])
    uploader = ChunkUploader(store)
    digest = add(uploader, b"chunk")
    with pytest.raises(StorageError):
        uploader.flush()
    held = uploader.pending(digest)
    assert held is not None
    assert held.data == b"chunk"
    uploader.flush()
    check_stored(store, uploader, [b"chunk"])


def test_what_was_forgotten_is_neither_held_nor_placed():
    store = MemoryStore()
    uploader = ChunkUploader(store)
    digest = add(uploader, b"chunk")
    uploader.forget()
    uploader.flush()
    assert (uploader.pending(digest), uploader.places, dict(uploader.unpacked())) == (None, {}, {})
    assert list(store.list("")) == []


def test_another_session_adopts_what_was_placed_and_what_was_not():
    store = MemoryStore()
    first = ChunkUploader(store)
    add(first, b"sealed")
    first.seal()
    add(first, b"kept")
    first.flush(seal=False)
    second = ChunkUploader(store)
    second.adopt(first.places.values(), first.unpacked())
    add(second, b"sealed")
    second.flush()
    check_stored(store, second, [b"sealed", b"kept"])
    assert len(list(store.list("packs/"))) == 2


def test_places_of_earlier_commits_are_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uploader_module, "_KEPT_PLACES", 8)
    store = MemoryStore()
    uploader = ChunkUploader(store)
    commits = [[b"%d of %d" % (i, commit) for i in range(n)] for commit, n in enumerate((5, 3, 1, 20, 1, 2))]
    forgot = []
    for chunks in commits:
        for chunk in chunks:
            add(uploader, chunk)
        uploader.flush()
        forgot.append(uploader.settle())
        check_stored(store, uploader, chunks)  # those of the last commit stay
    assert forgot == [False, False, True, True, True, False]
    assert len(uploader.places) <= 8
