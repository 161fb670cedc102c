"""Arrays outside of checkouts: the sides of a merge or a comparison, read and changed by themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.arrays.layout import ArrayLayout
from hangarlake.arrays.reading import locate_chunks, read_chunks, read_region
from hangarlake.arrays.stage import ArrayStage, StagedChunk
from hangarlake.arrays.writing import write_region
from hangarlake.chunks.codecs import encode_chunk
from hangarlake.chunks.reader import ChunkReader
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.columns.lookup import HotNodes
from hangarlake.columns.owners import PendingChunks
from hangarlake.errors import SchemaError
from hangarlake.namespace import NodeTable
from hangarlake.records.catalog import ArrayNode, CatalogNode
from hangarlake.records.node import NodeRef
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.tree import NodeSource

__all__ = ["ArraySide", "EditedArray"]

_NOTHING: Mapping[bytes, StagedChunk] = MappingProxyType({})


class ArraySide:
    """One array, wherever it comes from: what reading needs in place of a checkout.

    Parameters
    ----------
    name : str
        For messages.
    node : ArrayNode
    nodes : NodeSource
    chunks : ChunkReader
    pending : PendingChunks, optional
    """

    guard: AbstractContextManager[Any] = contextlib.nullcontext()

    def __init__(
        self, name: str, node: ArrayNode, nodes: NodeSource, chunks: ChunkReader, pending: PendingChunks | None = None
    ) -> None:
        self.name = name
        self.node = node
        self.layout = ArrayLayout.of(node.metadata)
        self.nodes = nodes
        self.chunks = chunks
        self.pending = pending
        self.hot = HotNodes(nodes)
        self.node_table = NodeTable()

    def array_state(self, name: str) -> tuple[NodeRef | None, Mapping[bytes, StagedChunk]]:  # noqa: ARG002 - there is one
        """Return the tree, and what is staged on top of it."""
        return self.node.root, _NOTHING

    def array_tree(self, name: str) -> NodeRef | None:  # noqa: ARG002 - there is one
        """Return the tree."""
        return self.node.root

    def loose_keys(self) -> None:
        """There are none."""

    def read(self, selection: Any) -> npt.NDArray[Any]:
        """Return a basic selection."""
        return read_region(self, self.name, self.layout, selection)

    def read_each(self, coordinates: npt.NDArray[np.integer[Any]]) -> list[npt.NDArray[Any]]:
        """Return whole chunks, by grid coordinates of shape (n, ndim); missing ones are full of the fill value."""
        layout = self.layout
        places = locate_chunks(self, self.name, layout, coordinates.astype(np.int64))
        out: list[npt.NDArray[Any]] = [
            np.full(layout.chunk_shape or (), layout.fill_value, layout.dtype) if place is None else np.empty(0)
            for place in places
        ]

        def keep(i: int, chunk: npt.NDArray[Any]) -> None:
            out[i] = chunk.copy()

        read_chunks(self, self.name, layout, coordinates.astype(np.int64), places, keep)
        return out


class EditedArray(ArraySide):
    """One array that is changed aside of any checkout.

    Parameters
    ----------
    name : str
    node : ArrayNode
    nodes : StagedNodes
        Where new nodes go.
    chunks : ChunkReader
    uploader : ChunkUploader
        Where new chunks go.
    """

    pending: ChunkUploader

    def __init__(
        self, name: str, node: ArrayNode, nodes: StagedNodes, chunks: ChunkReader, uploader: ChunkUploader
    ) -> None:
        super().__init__(name, node, nodes, chunks, uploader)
        self.stage = ArrayStage(name, node.root, nodes, uploader)

    def array_state(self, name: str) -> tuple[NodeRef | None, Mapping[bytes, StagedChunk]]:  # noqa: ARG002 - there is one
        """Return the tree, and what is staged on top of it."""
        return self.stage.root, self.stage.overlay

    def array_tree(self, name: str) -> NodeRef | None:  # noqa: ARG002 - there is one
        """Return the tree with everything that is staged in it."""
        return self.stage.fold()

    def array_stage(self, name: str) -> ArrayStage:  # noqa: ARG002 - there is one
        """Return what stages the chunks."""
        return self.stage

    def put_node(self, name: str, node: CatalogNode) -> None:  # noqa: ARG002 - there is one
        """Give the array other metadata."""
        assert isinstance(node, ArrayNode)
        self.node = node
        self.layout = ArrayLayout.of(node.metadata)

    def drop_node(self, name: str) -> None:
        """Refuse: an array by itself is not removed."""
        raise SchemaError(f"array {name!r} is looked at by itself and cannot be removed")

    def add_loose_keys(self) -> Any:
        """Refuse: an array by itself has no keys beside it."""
        raise SchemaError(f"array {self.name!r} is looked at by itself and has no keys beside it")

    def resize(self, shape: tuple[int, ...]) -> None:
        """Give the array another shape; chunks stay."""
        self.put_node(self.name, replace(self.node, metadata={**self.node.metadata, "shape": list(shape)}))

    def write(self, selection: Any, values: npt.NDArray[Any]) -> None:
        """Change a basic selection."""
        write_region(self, self.name, self.layout, selection, values)

    def write_chunk(self, coordinates: tuple[int, ...], chunk: npt.NDArray[Any]) -> None:
        """Replace a whole chunk."""
        layout = self.layout
        assert layout.keys is not None
        assert layout.encoding is not None
        key = layout.keys.key(coordinates)
        if layout.is_fill(np.ascontiguousarray(chunk)):
            self.stage.remove(key)
        else:
            self.stage.set(key, encode_chunk(chunk, layout.encoding, fill_value=layout.fill_of_shards))

    def result(self) -> ArrayNode:
        """Return the array as it is now."""
        return replace(self.node, root=self.stage.fold())
