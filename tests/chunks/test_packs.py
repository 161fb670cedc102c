from __future__ import annotations

import struct

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.zstd import Zstd

from hangarlake.chunks import packs
from hangarlake.chunks.digests import blake3_160
from hangarlake.chunks.encodings import RAW, Encoding
from hangarlake.chunks.packs import (
    PACK_BYTES,
    ChunkRef,
    PackBuilder,
    fetch_footer,
    iter_pack,
    pack_key,
    read_footer,
)
from hangarlake.errors import CorruptionError, ObjectNotFoundError
from hangarlake.storage import MemoryStore

RUN = Encoding("run", ["bytes"])


def build(chunks, encodings=(RAW,)):
    builder = PackBuilder()
    for i, chunk in enumerate(chunks):
        builder.add(blake3_160(chunk), chunk, i, encodings[i % len(encodings)])
    return builder.finish()


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=30))
def test_every_chunk_is_found_again(chunks):
    pack = build(chunks, (RAW, RUN))
    assert pack.id == blake3(pack.data).digest()
    assert list(pack.refs) == list(dict.fromkeys(map(blake3_160, chunks)))
    for chunk in chunks:
        ref = pack.refs[blake3_160(chunk)]
        assert pack.data[ref.offset : ref.offset + ref.length] == chunk
        assert (ref.pack, ref.key) == (pack.id, pack.key)
    found = list(iter_pack(pack.data, pack_id=pack.id))
    assert [ref for ref, *_ in found] == list(pack.refs.values())
    unique = list(dict.fromkeys(chunks))
    assert [bytes(data) for _, data, *_ in found] == unique
    assert [(items, encoding) for *_, items, encoding in found] == [
        (chunks.index(chunk), (RAW, RUN)[chunks.index(chunk) % 2]) for chunk in unique
    ]
    assert len(read_footer(pack.data)) == len(unique)


def test_a_pack_has_the_bytes_of_the_format():
    pack = build([b"one", b"three"], (RAW, RUN))
    trailer = pack.data[-24:]
    length, check, magic = struct.unpack("<Q8s8s", trailer)
    stored = pack.data[-24 - length : -24]
    assert magic == b"HLPACK01"
    assert check == blake3(stored).digest()[:8]
    assert pack.data[: -24 - length] == b"onethree"
    encodings = f"[{RAW.to_json()},{RUN.to_json()}]".encode()
    assert Zstd().decode(stored) == (
        struct.pack("<II", 2, len(encodings))
        + blake3_160(b"one")
        + blake3_160(b"three")
        + struct.pack("<QQ", 0, 3)
        + struct.pack("<QQ", 3, 5)
        + struct.pack("<QQ", 0, 1)
        + b"\0\1"
        + encodings
    )


def test_keys_are_those_of_the_format():
    digest = bytes(range(20))
    assert ChunkRef(digest, None, 0, 1).key == f"packs/00/{digest.hex()}"
    assert ChunkRef(digest, b"\xab" * 32, 0, 1).key == f"packs/ab/{'ab' * 32}" == pack_key(b"\xab" * 32)


def test_a_chunk_is_kept_once():
    builder = PackBuilder()
    first = builder.add(blake3_160(b"a"), b"a", 1, RAW)
    second = builder.add(blake3_160(b"bb"), b"bb", 2, RAW)
    assert builder.add(blake3_160(b"a"), b"a", 9, RUN) == first == 0
    assert (second, builder.count, builder.nbytes) == (1, 2, 3)
    assert blake3_160(b"a") in builder
    assert blake3_160(b"c") not in builder


def test_equal_chunks_make_equal_packs_and_the_builder_begins_again():
    builder = PackBuilder()
    ids = []
    for _ in range(2):
        builder.add(blake3_160(b"a"), b"a", 1, RAW)
        ids.append(builder.finish().id)
        assert (builder.count, builder.nbytes) == (0, 0)
    assert ids[0] == ids[1]
    with pytest.raises(ValueError, match="at least one"):
        builder.finish()


def test_a_pack_is_full_by_bytes():
    builder = PackBuilder()
    data = bytes(PACK_BYTES // 2)
    builder.add(blake3_160(data), data, 1, RAW)
    assert not builder.full
    builder.add(blake3_160(data + b"x"), data + b"x", 1, RAW)
    assert builder.full


def test_a_pack_is_full_by_encodings():
    builder = PackBuilder()
    for i in range(256):
        assert not builder.full
        data = bytes([i])
        builder.add(blake3_160(data), data, 1, Encoding("grid", ["bytes"], (i + 1,)))
    assert builder.full
    with pytest.raises(ValueError, match="full"):
        builder.add(blake3_160(b"more"), b"more", 1, RAW)
    assert [encoding.chunk_shape for *_, encoding in iter_pack(builder.finish().data)] == [(i + 1,) for i in range(256)]


def test_a_pack_is_full_by_chunks(monkeypatch):
    monkeypatch.setattr(packs, "_MAX_CHUNKS", 2)
    builder = PackBuilder()
    builder.add(blake3_160(b"a"), b"a", 1, RAW)
    builder.add(blake3_160(b"b"), b"b", 1, RAW)
    assert builder.full
    with pytest.raises(ValueError, match="full"):
        builder.add(blake3_160(b"c"), b"c", 1, RAW)


def test_digests_of_another_length_are_refused():
    with pytest.raises(ValueError, match="20 bytes"):
        PackBuilder().add(b"short", b"a", 1, RAW)


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_and_every_cut_is_found():
    pack = build([b"first", b"", b"second chunk"], (RAW, RUN))
    for i in range(len(pack.data)):
        for bit in (1, 0x80, 0xFF):
            damaged = pack.data[:i] + bytes([pack.data[i] ^ bit]) + pack.data[i + 1 :]
            with pytest.raises(CorruptionError):
                list(iter_pack(damaged))
            with pytest.raises(CorruptionError):
                list(iter_pack(damaged, pack_id=pack.id))
        with pytest.raises(CorruptionError):
            list(iter_pack(pack.data[:i]))


def seal(chunks: bytes, footer: bytes) -> bytes:
    """Return a pack whose checksums are right, whatever its footer says."""
    stored = Zstd(3).encode(footer)
    return chunks + stored + struct.pack("<Q8s8s", len(stored), blake3(stored).digest()[:8], b"HLPACK01")


def footer(offsets, lengths, codes=(0, 0), count=2, encodings=None):
    text = f"[{RAW.to_json()}]".encode() if encodings is None else encodings
    numbers = [np.asarray(values, "<u8").tobytes() for values in (offsets, lengths, [1, 1])]
    return struct.pack("<II", count, len(text)) + bytes(40) + b"".join(numbers) + bytes(codes) + text


def test_a_forged_footer_that_is_right_is_read():
    assert len(read_footer(seal(b"abcde", footer([0, 2], [2, 3])))) == 2


@pytest.mark.parametrize(
    "bad",
    [
        footer([0, 2], [2, 4]),
        footer([0, 2], [2, 2]),
        footer([0, 1], [2, 3]),
        footer([1, 3], [2, 2]),
        footer([2, 0], [3, 2]),
        footer([0, 2], [2, (1 << 64) - 1]),
        footer([0, (1 << 64) - 2], [(1 << 64) - 2, 7]),
        footer([0, 2], [2, 3], codes=(0, 1)),
        footer([0, 2], [2, 3], count=1),
        footer([0, 2], [2, 3], count=3),
        footer([0, 2], [2, 3], count=0),
        footer([0, 2], [2, 3], count=1 << 31),
        footer([0, 2], [2, 3], encodings=b"[]"),
        footer([0, 2], [2, 3], encodings=b"nonsense"),
        b"",
        b"1234567",
    ],
)
def test_forged_footers_are_refused(bad):
    with pytest.raises(CorruptionError):
        read_footer(seal(b"abcde", bad))


def test_a_footer_that_is_a_bomb_is_refused():
    with pytest.raises(CorruptionError, match="at most"):
        read_footer(seal(b"", bytes(65 << 20)))


# ---- footers in a store ----------------------------------------------------------------------------------------------


@settings(max_examples=5)
@given(st.sampled_from([1, 10, 3000]))
def test_a_footer_is_fetched_without_the_chunks(count):
    rng = np.random.default_rng(count)
    chunks = [rng.bytes(30) for _ in range(count)]
    pack = build(chunks)
    store = MemoryStore()
    store.put(pack.key, pack.data)
    assert list(fetch_footer(store, pack.id, len(pack.data)).refs(pack.id)) == list(pack.refs.values())


@pytest.mark.parametrize("data", [b"", b"short", bytes(200), bytes(100_000)])
def test_damage_of_a_fetched_footer_names_the_object(data):
    store = MemoryStore()
    key = pack_key(b"\1" * 32)
    store.put(key, data)
    with pytest.raises(CorruptionError, match=key):
        fetch_footer(store, b"\1" * 32, len(data))
    with pytest.raises(ObjectNotFoundError):
        fetch_footer(store, b"\2" * 32, 100)
