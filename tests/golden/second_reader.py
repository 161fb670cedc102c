"""A second, slow reader of the format, written from ``docs/format.md`` alone: it imports nothing of hangarlake.

It checks whatever the page says can be checked. Section numbers are those of the page.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import struct
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from blake3 import blake3
from numcodecs import Blosc, GZip
from numcodecs.zstd import Zstd

MASK = (1 << 64) - 1


def b160(data: bytes) -> bytes:
    return blake3(data).digest(20)


def b256(data: bytes) -> str:
    return blake3(data).hexdigest()


def unzstd(data: bytes) -> bytes:
    return bytes(Zstd().decode(data)) if data else b""


def planes(data: bytes, dtype: str, count: int) -> np.ndarray[Any, Any]:
    """§6: byte 0 of all, byte 1 of all, …"""
    size = np.dtype(dtype).itemsize
    return np.frombuffer(data[: size * count], np.uint8).reshape(size, count).T.copy().view(dtype).reshape(count)


def unseal(data: bytes) -> dict[str, Any]:
    """§1: sealed JSON."""
    body, seal = data[: -len(',"seal":""}') - 64], data[-66:-2].decode()
    assert data == body + f',"seal":"{seal}"}}'.encode()
    assert seal == b256(body)
    return dict(json.loads(data))


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


class Repository:
    """§2, §3."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = unseal(self.get("hangarlake.json"))
        assert (self.marker["format"], self.marker["version"]) == ("hangarlake", 1)
        assert self.marker["features"] == {"read": [], "write": []}

    def get(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def named(self, kind: str, name: str, suffix: str = "") -> bytes:
        return self.get(f"{kind}/{name[:2]}/{name}{suffix}")

    # ---- §9–12: commits, branches, tags

    def commit(self, commit_id: str) -> dict[str, Any]:
        data = self.named("commits", commit_id, ".json")
        assert b256(data) == commit_id
        commit = dict(json.loads(data))
        assert canonical(commit) == data
        parents = [self.commit(parent) for parent in commit["parents"]]
        assert commit["generation"] == 1 + max((parent["generation"] for parent in parents), default=-1)
        assert len(commit["renames"]) == len(parents)
        return commit

    def log_of(self, branch: str) -> list[dict[str, Any]]:
        movements: list[dict[str, Any]] = []
        folder = f"refs/branches/{quote(branch, safe='')}"
        for seq in itertools.count(1):
            if not (self.folder / f"{folder}/{seq:016}.json").exists():
                return movements
            movement = unseal(self.get(f"{folder}/{seq:016}.json"))
            assert (movement["seq"], movement["branch"], movement["format"]) == (seq, branch, 1)
            assert movement["previous"] == (movements[-1]["commit"] if movements else None)
            self.check_copies(movement)
            movements.append(movement)
        return movements

    def branches(self) -> dict[str, str]:
        names = [
            unseal(next(folder.iterdir()).read_bytes())["branch"]
            for folder in (self.folder / "refs/branches").iterdir()
        ]
        heads = {name: self.log_of(name)[-1]["commit"] for name in names}
        for name in names:
            hint = json.loads(self.get(f"hints/branches/{quote(name, safe='')}.json"))
            assert hint == {"commit": heads[name], "seq": len(self.log_of(name))}
        return {name: commit for name, commit in heads.items() if commit is not None}

    def tags(self) -> dict[str, str]:
        found = [unseal(path.read_bytes()) for path in (self.folder / "refs/tags").iterdir()]
        for tag in found:
            self.check_copies(tag)
            assert (self.folder / f"refs/tags/{quote(tag['tag'], safe='')}.json").exists()
        return {tag["tag"]: tag["commit"] for tag in found}

    def check_copies(self, ref: dict[str, Any]) -> None:
        """§10: what a ref carries is what the objects hold."""
        if ref["commit"] is None:
            assert ref["record"] is None
            return
        record = ref["record"].encode()
        assert b256(record) == ref["commit"]
        if ref["catalog"] is not None:
            assert b256(ref["catalog"].encode()) == json.loads(record)["catalog"]
            assert ref["physical"].keys() == {"encodings", "roots"}
        if ref["nodes"] is not None:
            data = base64.b64decode(ref["nodes"]["data"])
            for pack, offset, length in ref["nodes"]["index"]:
                node, data = data[:length], data[length:]
                there = self.named("trees", ref["nodes"]["packs"][pack])[offset:]
                assert node_id(node) == node_id(there)
            assert not data

    # ---- §8: catalogs

    def catalog(self, catalog_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        logical, physical, rest = unzstd(self.named("catalogs", catalog_id)).split(b"\n")
        assert not rest
        assert b256(logical) == catalog_id
        content = json.loads(logical)
        assert canonical(content) == logical
        return content, json.loads(physical)

    def read(self, commit_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the attributes and, by column name, (node, list of (key, value))."""
        content, physical = self.catalog(self.commit(commit_id)["catalog"])
        columns = {}
        for name, node in content["nodes"].items():
            assert node["type"] == "column"
            columns[name] = (node, Column(self, node, physical["roots"].get(name)).samples())
        return content["attrs"], columns


# ---- §6: trees


def node_id(stored: bytes) -> bytes:
    n, k, s, _ = struct.unpack_from("<IIII", stored, 8)
    d = stored[32 + k : 32 + k + 20 * n]
    return b160(stored[4:12] + unzstd(stored[32 : 32 + k]) + d + unzstd(stored[32 + k + 20 * n :][:s]))


def mix(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def key_hash(key: bytes, level: int) -> int:
    words = struct.iter_unpack("<Q", key.ljust(-(-len(key) // 8) * 8, b"\0"))
    total = sum(word * (mix((i + 1) * 0x9E3779B97F4A7C15 & MASK) | 1) for i, (word,) in enumerate(words))
    return mix(total + level * 0xD1B54A32D192ED03 & MASK)


def check_boundaries(sizes: list[int], keys: list[bytes], level: int) -> None:
    least, modulus, most = (32, 32, 128) if level else (128, 128, 512)
    cut, size = [], 0
    for key in keys:
        size += 1
        if size == most or (size >= least and key_hash(key, level) % modulus == 0):
            cut.append(size)
            size = 0
    assert sizes == cut + [size] * (size > 0)


def component(data: bytes, last: bool) -> tuple[Any, bytes]:
    if data[0] == 0x10:
        return int.from_bytes(data[1:9].ljust(8, b"\0"), "big") - (1 << 63), data[9:]
    assert data[0] == 0x20
    text, _, rest = (data[1:], b"", b"") if last else data[1:].partition(b"\0")
    return text.decode(), rest


def decode_key(data: bytes, nested: bool) -> Any:
    first, rest = component(data, last=not nested)
    if not nested:
        assert not rest
        return first
    second, rest = component(rest, last=True)
    assert not rest
    return first, second


class Column:
    """One column: its tree, and the chunks that its leaves point at."""

    def __init__(self, repo: Repository, node: dict[str, Any], root: dict[str, Any] | None) -> None:
        self.repo, self.node = repo, node
        self.dtype = np.dtype(node["dtype"])
        self.shape = None if node["variable_shape"] else tuple(node["shape"])
        self.root = root
        self.keys_at: dict[int, list[list[bytes]]] = {}

    def samples(self) -> list[tuple[Any, Any]]:
        if self.node["root"] is None:
            assert self.root is None
            assert self.node["count"] == 0
            return []
        assert self.root is not None
        if "inline" in self.root:
            stored, pack = base64.b64decode(self.root["inline"]), ""
        else:
            pack = self.root["pack"]
            data = self.repo.named("trees", pack)
            assert data[:8] == b"HLTREE01"
            assert b256(data) == pack
            stored = data[self.root["offset"] :][: self.root["length"]]
        found = list(self.walk(stored, bytes.fromhex(self.node["root"]), self.node["level"], pack))
        assert len(found) == self.node["count"]
        for level, nodes in self.keys_at.items():
            check_boundaries([len(keys) for keys in nodes], [key for keys in nodes for key in keys], level)
        encoded = [key for keys in self.keys_at[0] for key in keys]
        assert encoded == sorted(set(encoded))
        return found

    def walk(self, stored: bytes, expected: bytes, expected_level: int, pack: str) -> Any:
        assert stored[:4] == b"HLN1"
        level, rank, w, n, k_size, s_size, p_size = struct.unpack_from("<BBHIIII", stored, 4)
        assert level == expected_level
        stored = stored[: 32 + k_size + 20 * n + s_size + p_size]
        assert blake3(stored[:24] + stored[32:]).digest(8) == stored[24:32]
        assert node_id(stored) == expected
        body = stored[32:]
        k, body = unzstd(body[:k_size]), body[k_size:]
        digests, body = [body[20 * i :][:20] for i in range(n)], body[20 * n :]
        s, p = unzstd(body[:s_size]), unzstd(body[s_size:])
        keys = [k[i::n].rstrip(b"\0") for i in range(n)]
        assert w == max(map(len, keys))
        self.keys_at.setdefault(level, []).append(keys)
        if level:
            yield from self.children(p, n, keys, digests, planes(s, "<u8", n), level, pack)
        else:
            shapes = planes(s, "<u8", n * rank).reshape(n, rank).tolist()
            yield from self.entries(p, n, keys, digests, shapes)

    def children(self, p: bytes, n: int, keys: Any, ids: Any, counts: Any, level: int, pack: str) -> Any:
        (count,) = struct.unpack_from("<I", p)
        packs = [p[8 + 32 * i :][:32].hex() for i in range(count)]
        p = p[8 + 32 * count :]
        codes, offsets, lengths = planes(p, "<u2", n), planes(p[2 * n :], "<u8", n), planes(p[10 * n :], "<u4", n)
        assert len(p) == 14 * n
        for i in range(n):
            where = pack if codes[i] == 0xFFFF else packs[codes[i]]
            stored = self.repo.named("trees", where)[int(offsets[i]) :][: int(lengths[i])]
            below = list(self.walk(stored, ids[i], level - 1, where))
            assert len(below) == counts[i]
            assert below[-1][0] == decode_key(keys[i], self.node["nested"])
            yield from below

    def entries(self, p: bytes, n: int, keys: Any, digests: Any, shapes: Any) -> Any:
        m, packs, e, flags = struct.unpack_from("<IIII", p)
        ids = [p[16 + 32 * i :][:32].hex() for i in range(packs)]
        p = p[16 + 32 * packs :]
        chunk_digests = digests
        if not flags & 1:
            chunk_digests, p = [p[20 * i :][:20] for i in range(m)], p[20 * m :]
        codes, p = planes(p, "<u2", m), p[2 * m :]
        (offsets, lengths, items), p = (planes(p[8 * m * i :], "<u8", m) for i in range(3)), p[24 * m :]
        encodings, p = planes(p, "<u2", m), p[2 * m :]
        rows, index = np.arange(n), np.zeros(n, int)
        if not flags & 1:
            rows, index, p = planes(p, "<u4", n), planes(p[4 * n :], "<u8", n), p[12 * n :]
        assert len(p) == e
        table = []
        for i in range(m):
            name = chunk_digests[i].hex() if codes[i] == 0xFFFF else ids[codes[i]]
            data = self.repo.named("packs", name)[int(offsets[i]) :][: int(lengths[i])]
            assert b160(data) == chunk_digests[i]
            table.append((data, int(items[i]), json.loads(p)[encodings[i]]))
        for i in range(n):
            shape = tuple(shapes[i]) if self.shape is None else self.shape
            array = self.value(table, int(rows[i]), int(index[i]), shape)
            value = restored(self.node["kind"], array)
            assert value_digest(self.node["kind"], array) == digests[i]
            yield decode_key(keys[i], self.node["nested"]), value

    def value(self, table: Any, row: int, index: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """§5: the layouts."""
        data, items, encoding = table[row]
        if encoding["layout"] == "rows":
            return decode(data, encoding, self.dtype, (items, *shape))[index, ...]
        if encoding["layout"] == "run":
            return decode(data, encoding, self.dtype, (items,))[index : index + math.prod(shape)].reshape(shape)
        assert encoding["layout"] == "grid"
        grid = encoding["chunk_shape"]
        out = np.empty(shape, self.dtype)
        cuts = [
            [slice(start, min(start + side, n)) for start in range(0, n, side)]
            for n, side in zip(shape, grid, strict=True)
        ]
        pieces = list(itertools.product(*cuts))
        assert index == len(pieces)
        for piece, (data, items, again) in zip(pieces, table[row : row + index], strict=True):
            part = out[piece]
            assert again == encoding
            assert items == part.size
            out[piece] = decode(data, encoding, self.dtype, part.shape)
        return out


def decode(data: bytes, encoding: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    first, *others = encoding["codecs"]
    assert first["name"] == "bytes"
    if not math.prod(shape):
        return np.empty(shape, dtype)  # numcodecs does not decompress what is empty
    for codec in reversed(others):
        data = bytes({"zstd": Zstd, "gzip": GZip, "blosc": Blosc}[codec["name"]]().decode(data))
    return np.frombuffer(data, dtype).reshape(shape)


def restored(kind: str, array: np.ndarray[Any, Any]) -> Any:
    if kind == "ndarray":
        return array
    data = array.tobytes()
    return {"bytes": lambda: data, "str": data.decode, "json": lambda: json.loads(data)}[kind]()


def value_digest(kind: str, array: np.ndarray[Any, Any]) -> bytes:
    """§4."""
    if kind != "ndarray":
        return b160(f"{kind}\n".encode() + array.tobytes())
    return b160(f"ndarray {array.dtype.str} {','.join(map(str, array.shape))}\n".encode() + array.tobytes())


def read_pack(data: bytes) -> list[tuple[bytes, bytes, int, Any]]:
    """§5: return (digest, chunk, items, encoding) of all chunks, from the footer alone."""
    size, check, magic = struct.unpack("<Q8s8s", data[-24:])
    assert magic == b"HLPACK01"
    stored = data[-24 - size : -24]
    assert blake3(stored).digest(8) == check
    footer = unzstd(stored)
    n, e = struct.unpack_from("<II", footer)
    digests = [footer[8 + 20 * i :][:20] for i in range(n)]
    at = 8 + 20 * n
    offsets, lengths, items = (np.frombuffer(footer, "<u8", n, at + 8 * n * i).tolist() for i in range(3))
    codes, encodings = footer[at + 24 * n :][:n], json.loads(footer[at + 25 * n :])
    assert len(footer) == at + 25 * n + e
    return [(digests[i], data[offsets[i] :][: lengths[i]], items[i], encodings[codes[i]]) for i in range(n)]
