"""What arrays add to checkouts: their store, their hierarchy, creating and staging them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from hangarlake.arrays.array import Array, WritableArray
from hangarlake.arrays.casting import checked_fill_value
from hangarlake.arrays.hierarchy import Hierarchy, WritableHierarchy
from hangarlake.arrays.layout import check_grid, checked_shape
from hangarlake.arrays.metadata import checked_attributes, group_metadata, parse_metadata
from hangarlake.arrays.stage import ArrayStage, StagedChunk
from hangarlake.columns.column import Column
from hangarlake.errors import NodeExistsError, NodeNotFoundError, SchemaError
from hangarlake.namespace import LOOSE, ROOT, NodeTable, is_hidden, path_of
from hangarlake.records.catalog import ArrayNode, CatalogNode, ColumnNode, ColumnSchema, GroupNode, check_node_name
from hangarlake.records.node import NodeRef

if TYPE_CHECKING:
    import numpy.typing as npt

    from hangarlake.arrays.store import HangarlakeStore

__all__ = ["ArrayViews", "WritableArrayViews", "check_path", "listed", "node_name", "shown"]

# Names in the text that stands for a checkout.
_LISTED = 12
_NOTHING: Mapping[bytes, StagedChunk] = MappingProxyType({})


def _default_compressors(dtype: npt.DTypeLike) -> Any:
    """Return what compresses chunks when nobody has chosen: several times faster than Zstandard on numbers, and about as small."""
    from zarr.codecs import BloscCodec

    try:
        native = np.dtype(dtype)
    except TypeError:
        return "auto"  # a dtype of zarr's own
    if native.kind not in "iufcmM" or native.itemsize == 1:
        return "auto"
    return BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=native.itemsize)


def node_name(path: str) -> str:
    """Return the name of the node at a path of the Zarr hierarchy.

    Raises
    ------
    SchemaError
        If there can be none.
    """
    if not isinstance(path, str):
        raise SchemaError(f"a path is a str, not {type(path).__name__}")
    return path.strip("/") or ROOT


def check_path(name: str) -> str:
    """Return `name` if an array or group may have it.

    Raises
    ------
    SchemaError
    """
    if name == ROOT:
        return name
    check_node_name(name)
    return name


# Members of checkouts that columns, arrays and stores use, and nobody needs to be offered.
_INTERNAL = frozenset(
    {
        *(
            "absent",
            "add_loose_keys",
            "array_node",
            "array_stage",
            "array_state",
            "array_tree",
            "catalog",
            "catalog_nodes",
        ),
        *(
            "chunks",
            "column_node",
            "drop_node",
            "guard",
            "hierarchy",
            "hot",
            "lacks",
            "loose_keys",
            "node_table",
            "nodes",
        ),
        *("note_append", "pending", "place", "put_node", "same_view", "token_of", "view"),
    }
)


class ArrayViews:
    """The part of a checkout that has to do with arrays."""

    is_writable = False
    guard: AbstractContextManager[Any] = contextlib.nullcontext()

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INTERNAL]

    def _catalog_nodes(self) -> Mapping[str, Any]:
        raise TypeError("a checkout has a catalog")  # both kinds of checkout define it

    def _check_open(self) -> None:
        raise TypeError("a checkout is open or closed")  # both kinds of checkout define it

    @cached_property
    def _node_table(self) -> NodeTable:
        return NodeTable(self._catalog_nodes())

    @property
    def node_table(self) -> NodeTable:
        """The nodes of the catalog, indexed by path (internal)."""
        self._check_open()
        return self._node_table

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The Zarr hierarchy as keys and values (internal)."""
        return Hierarchy(self)  # type: ignore[arg-type]  # a checkout is an ArrayOwner; this part of it does not know

    @property
    def store(self) -> HangarlakeStore:
        """The Zarr hierarchy as a Zarr store: ``zarr.open_group(co.store, mode="r")``, ``xarray.open_zarr(co.store)``."""
        from hangarlake.arrays.store import HangarlakeStore

        self._check_open()
        return HangarlakeStore(self)  # type: ignore[arg-type]  # as above

    @property
    def place(self) -> str:
        """Where this is, for messages of other programs (internal)."""
        return "hangarlake"

    def same_view(self, other: object) -> bool:
        """Tell whether another checkout shows the same (internal)."""
        return self is other

    def array_node(self, name: str) -> ArrayNode:
        """Return the record of an array (internal)."""
        node = self.node_table.get(name)
        if not isinstance(node, ArrayNode):
            raise self.absent(name, "array")
        return node

    def absent(self, name: object, kind: str) -> NodeNotFoundError:
        """Return the error for a name that is not there (internal)."""
        return NodeNotFoundError(f"there is no {kind} {name!r}")

    def array_state(self, name: str) -> tuple[NodeRef | None, Mapping[bytes, StagedChunk]]:
        """Return the tree of an array, and what is staged on top of it (internal)."""
        return self.array_node(name).root, _NOTHING

    def array_tree(self, name: str) -> NodeRef | None:
        """Return the tree of an array with everything that is staged in it (internal)."""
        return self.array_node(name).root

    def loose_keys(self) -> Column | None:
        """Return the column of keys of the store that belong to no node (internal)."""
        return Column(self, LOOSE) if LOOSE in self.node_table else None  # type: ignore[arg-type]  # as above

    def _array_view(self, name: str) -> Array:
        return Array(self, name)  # type: ignore[arg-type]  # as above

    def _group_view(self, name: str) -> Any:
        import zarr

        store = self.store
        return zarr.open_group(store=store, path=path_of(name), mode="r" if store.read_only else "r+")


class WritableArrayViews(ArrayViews):
    """The part of a write checkout that has to do with arrays."""

    is_writable = True
    _nodes: NodeTable
    _stages: dict[str, Any]
    _views: dict[str, Any]
    _lock: Any
    # Appends of forks that were joined: joining the same change set again changes nothing.
    _joined_appends: frozenset[str] = frozenset()

    def note_append(self, name: str, axis: int) -> None:
        """Take note that elements were appended to an array (internal): forks tell whom they hand their changes to."""

    def _make_stage(self, name: str, root: NodeRef | None) -> ArrayStage:
        raise TypeError(f"a write checkout makes stages ({name!r}, {root!r})")  # the write checkout defines it

    @property
    def guard(self) -> AbstractContextManager[Any]:  # type: ignore[override]  # read checkouts need none
        """What is held while nodes or staged chunks are looked at (internal)."""
        lock: AbstractContextManager[Any] = self._lock
        return lock

    @property
    def node_table(self) -> NodeTable:
        """The nodes of the working catalog, indexed by path; roots as they were when the stages began (internal)."""
        self._check_open()
        return self._nodes

    @cached_property
    def hierarchy(self) -> WritableHierarchy:
        """The Zarr hierarchy as keys and values (internal)."""
        return WritableHierarchy(self)  # type: ignore[arg-type]  # a write checkout is a WritingOwner

    def array_state(self, name: str) -> tuple[NodeRef | None, Mapping[bytes, StagedChunk]]:
        """Return the tree of an array, and what is staged on top of it (internal)."""
        stage = self._stages.get(name)
        if isinstance(stage, ArrayStage):
            self._check_open()
            return stage.root, stage.overlay
        return self.array_node(name).root, _NOTHING

    def array_tree(self, name: str) -> NodeRef | None:
        """Return the tree of an array with everything that is staged in it (internal)."""
        with self._lock:
            stage = self._stages.get(name)
            return stage.fold() if isinstance(stage, ArrayStage) else self.array_node(name).root

    def array_stage(self, name: str) -> ArrayStage:
        """Return what stages the chunks of an array (internal)."""
        self._check_open()
        stage = self._stages.get(name)
        if not isinstance(stage, ArrayStage):
            stage = self._stages[name] = self._make_stage(name, self.array_node(name).root)
        return stage

    def put_node(self, name: str, node: CatalogNode) -> None:
        """Add an array or group, or give it other metadata (internal)."""
        with self._lock:
            self._check_open()
            present = self._nodes.get(name)
            if present is None or present.type != node.type:
                check_path(name)
                self._check_place(name, node)
                self._views.pop(name, None)
                self._stages.pop(name, None)
            self._nodes[name] = node

    def _check_place(self, name: str, node: CatalogNode) -> None:
        root = self._nodes.get(ROOT)
        if name == ROOT:
            below = next(iter(self._nodes.children.get("", ())), None) if isinstance(node, ArrayNode) else None
            if below is not None:
                raise NodeExistsError(f"an array at the root would lie above {below!r}; give it a path")
            return
        if isinstance(root, ArrayNode):
            raise NodeExistsError(f"{name!r} would lie below the array at the root; remove that, or give it a path")
        parts = name.split("/")
        for above in ("/".join(parts[:i]) for i in range(1, len(parts))):
            other = self._nodes.get(above)
            if other is not None and not isinstance(other, GroupNode):
                raise NodeExistsError(f"{name!r} would lie below the {other.type} {above!r}; choose another path")
        if isinstance(node, ArrayNode) and self._nodes.has_below(name):
            raise NodeExistsError(f"{name!r} would lie above {self._nodes.first_below(name)!r}; choose another path")

    def drop_node(self, name: str) -> None:
        """Remove one node, not what is below it (internal)."""
        with self._lock:
            self._check_open()
            del self._nodes[name]
            self._stages.pop(name, None)
            self._views.pop(name, None)
            self._forget_rename(name)

    def _forget_rename(self, name: str) -> None:
        raise TypeError(f"a write checkout keeps renames ({name!r})")  # the write checkout defines it

    def add_loose_keys(self) -> Column:
        """Return the column of keys that belong to no node, made if need be (internal)."""
        with self._lock:
            if LOOSE not in self._nodes:
                self._nodes[LOOSE] = ColumnNode(ColumnSchema.scalar_run("bytes"))
            column = self.loose_keys()
            assert column is not None
            return column

    def loose_keys(self) -> Column | None:
        """Return the column of keys of the store that belong to no node (internal)."""
        if LOOSE not in self._nodes:
            return None
        view: Column = self.view(LOOSE)  # type: ignore[attr-defined]  # every checkout has it
        return view

    def _array_view(self, name: str) -> WritableArray:
        return WritableArray(self, name)  # type: ignore[arg-type]  # as above

    # ---- what a person uses -----------------------------------------------------------------------------------------

    def create_array(
        self,
        path: str,
        *,
        shape: Sequence[int] | int,
        dtype: npt.DTypeLike,
        chunks: Sequence[int] | int | str | None = None,
        shards: Sequence[int] | str | None = None,
        filters: Any = "auto",
        compressors: Any = "auto",
        fill_value: Any = 0,
        dimension_names: Iterable[str | None] | None = None,
        attributes: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> WritableArray:
        """Stage a new array; groups above it are made as needed.

        Parameters
        ----------
        path : str
            ``"a/b"``; ``""`` for an array at the root.
        shape : tuple of int
        dtype : dtype-like
        chunks : tuple of int, optional
            By default what zarr finds good.
        shards : tuple of int, optional
            Of which each holds many chunks and is stored as one.
        filters, compressors
            As ``zarr.create_array`` takes them. ``"auto"`` is Blosc with LZ4 and byte shuffle for elements of several
            bytes (``docs/design/004-arrays.md`` has the measurements), and zarr's choice for others.
        fill_value : scalar
            Of what was never written; 0, or the empty text.
        dimension_names : iterable of str, optional
        attributes : mapping, optional
        overwrite : bool
            Put it in place of the array or group that is there, with everything in it (columns are never replaced). What
            is committed stays in the history; where the new array cannot be made, what is there stays.

        Raises
        ------
        NodeExistsError
            If the path is taken, or lies below an array or column.
        SchemaError
            If zarr cannot make such an array.
        """
        from zarr import create_array

        name = node_name(path)
        lengths = checked_shape(f"array {name!r}", shape)
        if isinstance(dimension_names, str):
            raise SchemaError(
                f"array {name!r}: dimension_names has a name for each dimension; {dimension_names!r} is one str"
            )
        if chunks is not None and not isinstance(chunks, str):
            chunks = checked_shape(f"array {name!r}, its chunks", chunks)
            if any(n < 1 for n in chunks):
                raise SchemaError(f"array {name!r}: chunks {chunks} have a side below 1")
        fill_value = checked_fill_value(name, fill_value, dtype)
        pieces: Any = "auto" if chunks is None else chunks
        outer: Any = shards
        memory: dict[str, Any] = {}
        try:
            create_array(
                memory,
                shape=lengths,
                dtype=dtype,
                chunks=pieces,
                shards=outer,
                filters=filters,
                compressors=_default_compressors(dtype) if compressors == "auto" else compressors,
                fill_value=fill_value,
                dimension_names=None if dimension_names is None else list(dimension_names),
                zarr_format=3,
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise SchemaError(f"array {name!r} cannot be made: {error}") from error
        node = parse_metadata(memory["zarr.json"].to_bytes())
        assert isinstance(node, ArrayNode)
        check_grid(name, node.metadata)
        attributes = checked_attributes(f"array {name!r}", attributes)
        with self._lock:
            self._put_new(
                name, replace(node, metadata={**node.metadata, "attributes": attributes}), overwrite=overwrite
            )
            view: WritableArray = self.view(name)  # type: ignore[attr-defined]  # every checkout has it
            return view

    def create_group(self, path: str, *, attributes: Mapping[str, Any] | None = None, overwrite: bool = False) -> Any:
        """Stage a new group, and return it as a ``zarr.Group``; groups above it are made as needed.

        Parameters
        ----------
        path : str
        attributes : mapping, optional
        overwrite : bool
            Put it in place of the array or group that is there, as :meth:`create_array` does.

        Raises
        ------
        NodeExistsError
            If the path is taken, or lies below an array or column.
        SchemaError
            If the attributes are no JSON, or no group can have that path.
        """
        name = node_name(path)
        node = GroupNode(group_metadata(checked_attributes(f"group {name!r}", attributes)))
        with self._lock:
            self._put_new(name, node, overwrite=overwrite)
        # Not under the lock: zarr asks the store from a thread of its own.
        return self._group_view(name)

    def _put_new(self, name: str, node: ArrayNode | GroupNode, *, overwrite: bool) -> None:
        """Put a new node at a path: with `overwrite` in place of what is there, once it is clear that it can be put there."""
        self._check_open()
        check_path(name)
        present = self._nodes.get(name)
        if isinstance(present, ColumnNode):
            raise self._taken(name)
        if not overwrite:
            if present is not None:
                raise NodeExistsError(f"{self._taken(name)}, or replace it with overwrite=True")
            self._check_place(name, node)
        else:
            held = self._nodes
            gone = {name, *held.below(path_of(name))}
            try:
                self._nodes = NodeTable(
                    (n, each) for n, each in held.items() if n not in gone or isinstance(each, ColumnNode)
                )
                self._check_place(name, node)
            finally:
                self._nodes = held
            self.hierarchy.delete_dir(path_of(name))
        self._add_groups(name)
        self.put_node(name, node)

    def _taken(self, name: str) -> NodeExistsError:
        raise TypeError(f"a write checkout tells what has a name ({name!r})")  # the write checkout defines it

    def _add_groups(self, name: str) -> None:
        """Make the groups above a node, the root included, where there are none."""
        if name == ROOT:
            return
        parts = name.split("/")
        for above in (ROOT, *("/".join(parts[:i]) for i in range(1, len(parts)))):
            if above not in self._nodes:
                self.put_node(above, GroupNode(group_metadata()))


def shown(nodes: Mapping[str, CatalogNode]) -> list[str]:
    """Return the names of all nodes that a person is shown, sorted."""
    return sorted(
        n for n, node in nodes.items() if not is_hidden(n) and not (n == ROOT and isinstance(node, GroupNode))
    )


def listed(nodes: Mapping[str, CatalogNode]) -> str:
    """Return the first names of nodes as a text."""
    names = shown(nodes)
    return (
        ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else "")
        or "nothing yet"
    )
