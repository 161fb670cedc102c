"""Catalogs: the columns, arrays and groups that one commit holds (``docs/format.md`` §8)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hangarlake.chunks import zstd
from hangarlake.chunks.digests import canonical_dtype
from hangarlake.errors import CorruptionError, SchemaError
from hangarlake.records.canonical import canonical_json, digest, is_id, object_key
from hangarlake.records.node import Node, NodeRef, decode_node

__all__ = [
    "ArrayNode",
    "Catalog",
    "CatalogNode",
    "ColumnNode",
    "ColumnSchema",
    "GroupNode",
    "catalog_key",
    "check_node_name",
]

_np_dtype = lru_cache(maxsize=1024)(np.dtype)

Kind: TypeAlias = Literal["ndarray", "str", "bytes", "json"]

# No reader unpacks a larger catalog, so no writer makes one.
_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """What the samples of a column are.

    Attributes
    ----------
    kind : "ndarray", "str", "bytes" or "json"
    dtype : str
        Array-protocol string, little-endian; ``|u1`` for the other kinds.
    shape : tuple of (int or None)
        Of each sample; the maximum where `variable_shape`, ``None`` for unbounded.
    variable_shape : bool
    nested : bool
    """

    kind: Kind
    dtype: str
    shape: tuple[int | None, ...]
    variable_shape: bool = False
    nested: bool = False

    @property
    def rank(self) -> int:
        """Numbers per entry in the shape section of leaves."""
        return len(self.shape) if self.variable_shape else 0

    @property
    def np_dtype(self) -> np.dtype[Any]:
        return _np_dtype(self.dtype)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "variable_shape": self.variable_shape,
            "nested": self.nested,
        }

    @classmethod
    def scalar_run(cls, kind: Kind, *, nested: bool = False) -> ColumnSchema:
        """The schema of ``str``, ``bytes`` and ``json`` columns: runs of bytes."""
        return cls(kind, "|u1", (None,), True, nested)


@dataclass(frozen=True, slots=True)
class ColumnNode:
    """A column of a catalog. `encoding` is advisory and no part of the identity."""

    schema: ColumnSchema
    root: NodeRef | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    encoding: Mapping[str, Any] = field(default_factory=dict, compare=False)

    type = "column"

    @property
    def count(self) -> int:
        return self.root.count if self.root else 0

    def logical(self) -> dict[str, Any]:
        return {"type": "column", **self.schema.to_dict(), "attrs": dict(self.attrs), **_root_fields(self.root)}


@dataclass(frozen=True, slots=True)
class ArrayNode:
    """A Zarr array: its ``zarr.json`` and the tree of its chunks."""

    metadata: Mapping[str, Any]
    root: NodeRef | None = None
    encoding: Mapping[str, Any] = field(default_factory=dict, compare=False)

    type = "array"

    @property
    def count(self) -> int:
        return self.root.count if self.root else 0

    def logical(self) -> dict[str, Any]:
        return {"type": "array", "metadata": dict(self.metadata), **_root_fields(self.root)}


@dataclass(frozen=True, slots=True)
class GroupNode:
    """A Zarr group: its ``zarr.json``."""

    metadata: Mapping[str, Any]

    type = "group"
    root: NodeRef | None = field(default=None, init=False)
    count = 0

    def logical(self) -> dict[str, Any]:
        return {"type": "group", "metadata": dict(self.metadata)}


CatalogNode: TypeAlias = ColumnNode | ArrayNode | GroupNode


def _root_fields(root: NodeRef | None) -> dict[str, Any]:
    if root is None:
        return {"root": None, "level": 0, "count": 0}
    return {"root": root.id.hex(), "level": root.level, "count": root.count}


def catalog_key(catalog_id: str) -> str:
    """Return the object key of a catalog. Raises like :func:`~hangarlake.records.canonical.object_key`."""
    return object_key("catalogs", catalog_id)


def check_node_name(name: object) -> str:
    """Return `name` if a column, array or group may have it: path parts between single slashes, no ``.`` or ``..``.

    Raises
    ------
    SchemaError
        Naming the rule that is broken.
    """
    if not isinstance(name, str) or not name:
        raise SchemaError(f"a column or array name is a non-empty str, not {name!r}")
    if len(name.encode(errors="replace")) > 1024:
        raise SchemaError(f"name {name[:40]!r}… is longer than 1,024 bytes")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in name):
        raise SchemaError(f"name {name!r} contains a control character or a lone surrogate")
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise SchemaError(f"name {name!r} has an empty part, '.' or '..' between its slashes")
    if name.split("/")[-1] == "zarr.json" or name.startswith("__"):
        raise SchemaError(f"name {name!r} is reserved")
    return name


@dataclass(frozen=True)
class Catalog:
    """An immutable catalog.

    Attributes
    ----------
    nodes : mapping of str to CatalogNode
    attrs : mapping
        The repository's own attributes at this commit.
    inlined : mapping of bytes to bytes
        Stored bytes of small roots (by node id) that lie in the catalog itself.
    """

    nodes: Mapping[str, CatalogNode] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    inlined: Mapping[bytes, bytes] = field(default_factory=dict, compare=False)

    @cached_property
    def logical_text(self) -> str:
        """Line 1 of the object."""
        nodes = {name: node.logical() for name, node in self.nodes.items()}
        return canonical_json({"attrs": dict(self.attrs), "nodes": nodes}).decode()

    @cached_property
    def id(self) -> str:
        """64 hex digits over the logical part."""
        return digest(self.logical_text.encode())

    def physical(self) -> dict[str, Any]:
        """Line 2 of the object: where roots lie, and preferred encodings. A root that is only staged is inlined as nothing."""
        roots: dict[str, Any] = {}
        encodings: dict[str, Any] = {}
        for name, node in self.nodes.items():
            if node.root is not None:
                if node.root.pack is not None:
                    roots[name] = {"pack": node.root.pack.hex(), "offset": node.root.offset, "length": node.root.length}
                else:
                    roots[name] = {"inline": base64.b64encode(self.inlined.get(node.root.id, b"")).decode()}
            if not isinstance(node, GroupNode) and node.encoding:
                encodings[name] = dict(node.encoding)
        return {"encodings": encodings, "roots": roots}

    def encode(self) -> bytes:
        """Return the object's bytes.

        Raises
        ------
        SchemaError
            If it would be larger than readers take.
        """
        lines = self.logical_text.encode() + b"\n" + canonical_json(self.physical()) + b"\n"
        if len(lines) > _MAX_BYTES:
            raise SchemaError(
                f"the catalog of {len(self.nodes):,} columns, arrays and groups would be {len(lines):,} bytes long "
                f"({_MAX_BYTES:,} at most); shorten their attributes, or keep them in several repositories"
            )
        return zstd.compress(lines, 3, checksum=True)

    @classmethod
    def decode(cls, catalog_id: str, data: bytes) -> Catalog:
        """Read an object's bytes and verify them against the id.

        Raises
        ------
        CorruptionError
        """
        what = catalog_key(catalog_id)
        try:
            lines = zstd.decompress(data, limit=_MAX_BYTES).split(b"\n")
        except CorruptionError as error:
            raise CorruptionError(f"catalog {what} is damaged: {error}; restore it from a clone") from error
        if len(lines) != 3 or lines[2]:
            raise CorruptionError(f"catalog {what} is damaged: it does not have its two lines; restore it from a clone")
        try:
            physical = json.loads(lines[1])
        except (ValueError, RecursionError) as error:
            raise CorruptionError(f"catalog {what} is damaged: {error}; restore it from a clone") from error
        return cls.parse(catalog_id, lines[0], physical)

    @classmethod
    def parse(cls, catalog_id: str, logical: str | bytes, physical: Any) -> Catalog:
        """Build from the two parts, verifying the logical one against the id and both against their schema.

        Raises
        ------
        CorruptionError
        """
        what = catalog_key(catalog_id)
        raw = logical.encode() if isinstance(logical, str) else logical
        if digest(raw) != catalog_id:
            raise CorruptionError(
                f"catalog {what} does not have the content that its name says; restore it from a clone"
            )
        try:
            content = _LogicalModel.model_validate_json(raw)
            places = _PhysicalModel.model_validate(physical)
            inlined: dict[bytes, bytes] = {}
            nodes = {
                name: _node(name, model, places.roots.get(name), places.encodings.get(name, {}), inlined)
                for name, model in content.nodes.items()
            }
        except (ValueError, RecursionError) as error:
            raise CorruptionError(
                f"catalog {what} is not as it should be: {error}; restore it from a clone, or upgrade hangarlake"
            ) from error
        catalog = cls(MappingProxyType(nodes), MappingProxyType(content.attrs), inlined)
        catalog.__dict__["logical_text"] = raw.decode()
        return catalog

    def decode_inlined(self) -> list[Node]:
        """Decode the roots that lie in the catalog."""
        refs = {
            node.root.id: node.root for node in self.nodes.values() if node.root is not None and node.root.pack is None
        }
        return [decode_node(self.inlined[i], ref, "a small tree in a catalog") for i, ref in refs.items()]

    def with_nodes(self, nodes: Mapping[str, CatalogNode]) -> Catalog:
        """Return a catalog with other nodes and the same attributes."""
        return replace(self, nodes=MappingProxyType(dict(nodes)))


# ---- validation of what comes from a bucket -------------------------------------------------------------------------------


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _TreeFields(_Model):
    root: str | None = Field(pattern=r"^[0-9a-f]{40}$")
    level: int = Field(ge=0, le=64)
    count: int = Field(ge=0)


class _ColumnModel(_TreeFields):
    type: Literal["column"]
    kind: Kind
    dtype: str = Field(max_length=64)
    shape: list[Annotated[int, Field(ge=0, lt=1 << 63)] | None] = Field(max_length=32)
    variable_shape: bool
    nested: bool
    attrs: dict[str, Any]


class _ArrayModel(_TreeFields):
    type: Literal["array"]
    metadata: dict[str, Any]


class _GroupModel(_Model):
    type: Literal["group"]
    metadata: dict[str, Any]


class _LogicalModel(_Model):
    attrs: dict[str, Any]
    nodes: dict[str, _ColumnModel | _ArrayModel | _GroupModel]


class _RootModel(_Model):
    pack: str | None = None
    offset: int = Field(default=0, ge=0, lt=1 << 62)
    length: int = Field(default=0, ge=0, lt=1 << 32)
    inline: str | None = None


class _PhysicalModel(_Model):
    roots: dict[str, _RootModel]
    encodings: dict[str, dict[str, Any]]


def _node(
    name: str,
    model: _ColumnModel | _ArrayModel | _GroupModel,
    place: _RootModel | None,
    encoding: dict[str, Any],
    inlined: dict[bytes, bytes],
) -> CatalogNode:
    if isinstance(model, _GroupModel):
        return GroupNode(model.metadata)
    root = None
    if model.root is not None:
        root_id = bytes.fromhex(model.root)
        if place is None or (place.pack is None) == (place.inline is None):
            raise ValueError(f"the place of the root of {name!r} is missing")
        if place.inline is not None:
            inlined[root_id] = base64.b64decode(place.inline, validate=True)
            root = NodeRef(root_id, model.level, model.count)
        else:
            if not is_id(place.pack):
                raise ValueError(f"the pack of the root of {name!r} has no valid id")
            root = NodeRef(
                root_id, model.level, model.count, bytes.fromhex(place.pack or ""), place.offset, place.length
            )
    if isinstance(model, _ArrayModel):
        return ArrayNode(model.metadata, root, encoding)
    if canonical_dtype(model.dtype).str != model.dtype:
        raise ValueError(f"dtype {model.dtype!r} of {name!r} is not as columns spell it")
    schema = ColumnSchema(model.kind, model.dtype, tuple(model.shape), model.variable_shape, model.nested)
    return ColumnNode(schema, root, model.attrs, encoding)
