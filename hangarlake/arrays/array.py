"""Arrays as a person holds them: n-dimensional, chunked, read and written directly."""

from __future__ import annotations

import html
import math
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from hangarlake.arrays.casting import cast
from hangarlake.arrays.chunkkeys import grid_of
from hangarlake.arrays.hierarchy import ArrayOwner, WritingOwner
from hangarlake.arrays.layout import ArrayLayout, check_grid, checked_shape
from hangarlake.arrays.metadata import checked_attributes, restored
from hangarlake.arrays.reading import forwards, is_basic, read_region
from hangarlake.arrays.writing import write_region
from hangarlake.attributes import StagedAttributes
from hangarlake.chunks.grid import normalize_selection, selection_shape, touches_along
from hangarlake.columns.owners import ViewOwner
from hangarlake.errors import ReadOnlyError, SchemaError
from hangarlake.namespace import path_of
from hangarlake.records.catalog import ArrayNode
from hangarlake.records.node import Leaf
from hangarlake.records.tree import iter_leaves

if TYPE_CHECKING:
    from hangarlake.arrays.store import HangarlakeStore

__all__ = ["Array", "WritableArray"]

# A shard of which less than this part is wanted is not read as a whole.
_PART_OF_SHARD = 4
_LARGE_SHARD = 1 << 20


class ArrayViewOwner(ArrayOwner, ViewOwner, Protocol):
    """What an array needs of its checkout."""

    @property
    def store(self) -> HangarlakeStore: ...

    def array_node(self, name: str) -> ArrayNode:
        """Return the node of an array, or raise if the checkout is closed or the array gone."""


class WritableArrayOwner(ArrayViewOwner, WritingOwner, Protocol):
    """What an array needs of its write checkout."""

    def note_append(self, name: str, axis: int) -> None:
        """Take note that elements were appended to an array."""


class Array:
    """One Zarr array of a commit, read-only.

    Indexing it reads the chunks that are touched, and nothing else, into NumPy arrays. May be used from several threads, and
    pickles with its checkout.
    """

    def __init__(self, owner: ArrayViewOwner, name: str) -> None:
        self._owner = owner
        self._name = name
        self._known: tuple[Mapping[str, Any], ArrayLayout] | None = None
        self._as_zarr: tuple[Mapping[str, Any], Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_array, (self._owner, self._name)

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def _node(self) -> ArrayNode:
        return self._owner.array_node(self._name)

    @property
    def _layout(self) -> ArrayLayout:
        metadata = self._node.metadata
        known = self._known
        if known is None or known[0] is not metadata:
            known = self._known = (metadata, ArrayLayout.of(metadata))
        return known[1]

    @property
    def name(self) -> str:
        """The path in its commit (``"/"`` for an array at the root)."""
        return self._name

    @property
    def path(self) -> str:
        """The path in the Zarr hierarchy (empty for an array at the root)."""
        return path_of(self._name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dimension."""
        return self._layout.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._layout.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._layout.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements."""
        return self._layout.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of what is read and written as a whole: of the chunks, or within shards of the inner ones. ``None`` if they vary."""
        layout = self._layout
        return layout.inner_shape or layout.chunk_shape

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of the shards; ``None`` if there are none."""
        layout = self._layout
        return layout.chunk_shape if layout.inner_shape is not None else None

    @property
    def fill_value(self) -> Any:
        """The value of elements whose chunk is not stored."""
        return self._layout.fill_value

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """The name of each dimension, if they have any."""
        return self._layout.dimension_names

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, stored or not."""
        return self.size * self.dtype.itemsize

    @property
    def nchunks_initialized(self) -> int:
        """How many chunks (shards) are stored."""
        root = self._owner.array_tree(self._name)
        return root.count if root is not None else 0

    @property
    def nbytes_stored(self) -> int:
        """Bytes of all chunks as they are stored, from the records alone."""
        return sum(int(leaf.entries.table.lengths[leaf.entries.rows].sum()) for leaf in self._leaves())

    def _leaves(self) -> Iterator[Leaf]:
        """Go through the chunks as they are now, what is staged included."""
        with self._owner.guard:  # the tree and its nodes are of one moment
            return iter_leaves(self._owner.array_tree(self._name), self._owner.nodes)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes: JSON values (a copy)."""
        return self._attributes()

    def _attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = restored(self._node.metadata.get("attributes") or {})
        return attributes

    @property
    def metadata(self) -> dict[str, Any]:
        """The ``zarr.json`` (a copy)."""
        copied: dict[str, Any] = restored(self._node.metadata)
        return copied

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d array")
        return self.shape[0]

    # ---- reading ----------------------------------------------------------------------------------------------------

    def __getitem__(self, selection: Any) -> Any:
        """Read a selection: integers, slices (any step) and ``...`` directly, everything else as zarr does it.

        Returns
        -------
        ndarray, or a scalar where only integers were given

        Raises
        ------
        IndexError
            Out of bounds, or what zarr does not index with (``None``).
        CorruptionError
            Naming the array and the chunk.
        """
        layout = self._layout
        if not is_basic(selection):
            return self.to_zarr()[selection]
        if layout.encoding is None or self._is_small_part(layout, selection):
            taken, turned = forwards(selection, layout.shape)
            out = self.to_zarr()[taken]
            if not isinstance(out, np.ndarray):
                return out
            where: tuple[Any, ...] = (*turned, ...)  # an array even where nothing is left to index
            out = out[where]
        else:
            out = read_region(self._owner, self._name, layout, selection)
        return out if out.ndim else out[()]

    def _is_small_part(self, layout: ArrayLayout, selection: Any) -> bool:
        """Tell whether a selection wants little of large shards, which zarr reads in parts."""
        if layout.inner_shape is None or layout.chunk_nbytes < _LARGE_SHARD:
            return False
        parts = normalize_selection(selection, layout.shape)
        wanted = math.prod(len(part) if isinstance(part, range) else 1 for part in parts)
        shards = math.prod(
            len(touches_along(part, side)) for part, side in zip(parts, layout.chunk_shape or (), strict=True)
        )
        return _PART_OF_SHARD * wanted * layout.dtype.itemsize < shards * layout.chunk_nbytes

    @property
    def oindex(self) -> Any:
        """Orthogonal indexing, as ``zarr.Array.oindex``."""
        return _Indexer(self, "oindex")

    @property
    def vindex(self) -> Any:
        """Indexing by coordinates or a mask, as ``zarr.Array.vindex``."""
        return _Indexer(self, "vindex")

    @property
    def blocks(self) -> Any:
        """Indexing by chunks, as ``zarr.Array.blocks``."""
        return _Indexer(self, "blocks")

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("an array in a repository has to be read, which makes a copy")
        array = np.asarray(self[...])
        return array if dtype is None else array.astype(dtype)

    def __iter__(self) -> Iterator[Any]:
        for i in range(len(self)):
            yield self[i]

    def to_zarr(self) -> Any:
        """Return the same array as a ``zarr.Array``."""
        import zarr

        metadata = self._node.metadata
        known = self._as_zarr
        if known is None or known[0] is not metadata:
            store = self._owner.store
            opened = zarr.open_array(store=store, path=self.path, mode="r" if store.read_only else "r+")
            known = self._as_zarr = (metadata, opened)
        return known[1]

    def to_dask(self, chunks: Any = "auto") -> Any:
        """Return a Dask array whose tasks read this one. See :func:`hangarlake.integrations.dask.array_to_dask`."""
        from hangarlake.integrations import load

        return load("dask").array_to_dask(self, chunks)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        self._owner.array_tree(self._name)  # what is staged counts
        return ("hangarlake-array", *self._owner.token_of(self._name))

    # ---- changing (refused) -----------------------------------------------------------------------------------------

    def _read_only(self) -> ReadOnlyError:
        return ReadOnlyError(
            f"array {self._name!r} belongs to a read-only checkout; open one with repo.checkout(branch, write=True)"
        )

    def __setitem__(self, selection: Any, value: Any) -> None:
        raise self._read_only()

    def append(self, data: npt.ArrayLike, axis: int = 0) -> tuple[int, ...]:  # noqa: ARG002 - that of WritableArray
        """Add elements at the end of an axis (write checkouts only)."""
        raise self._read_only()

    def resize(self, shape: Sequence[int] | int) -> None:  # noqa: ARG002 - that of WritableArray
        """Change the shape (write checkouts only)."""
        raise self._read_only()

    # ---- showing ----------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} {self.shape} {self.dtype}, chunks {self.chunks}>"

    def _repr_html_(self) -> str:
        rows = [
            ("shape", str(self.shape)),
            ("dtype", str(self.dtype)),
            ("chunks", str(self.chunks)),
            ("size", f"{self.nbytes:,} bytes"),
            ("chunks stored", f"{self.nchunks_initialized:,}"),
        ]
        if self.shards is not None:
            rows.insert(3, ("shards", str(self.shards)))
        if self.dimension_names is not None:
            rows.append(("dimensions", ", ".join(map(str, self.dimension_names))))
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
        return f"<p>Array <b>{html.escape(self._name)}</b></p><table>{cells}</table>"


class WritableArray(Array):
    """An array of a write checkout: what is set is staged at once and visible at once, and committed together.

    May be written to from several threads. Threads that write parts of one chunk take turns.
    """

    _owner: WritableArrayOwner

    def __init__(self, owner: WritableArrayOwner, name: str) -> None:
        super().__init__(owner, name)
        # Held while chunks are read, changed and staged: two of these must not have the same chunk in hand.
        self._turn = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"array {self._name!r} belongs to a write checkout, which cannot be pickled; use w.fork()")

    def __setitem__(self, selection: Any, value: Any) -> None:
        """Stage a selection; values are broadcast as NumPy assigns them.

        An array of integers or booleans takes only values that it holds exactly (``3.0``, but neither ``3.7`` nor NaN nor what is
        too large); floats and complex numbers are rounded to the array's precision, as in NumPy; times change their unit only
        where that is exact.

        Raises
        ------
        SchemaError
            For values that the array cannot hold; nothing is staged.
        IndexError
            Out of bounds, or what zarr does not index with.
        ValueError
            For values whose shape does not fit.
        """
        layout = self._layout
        with self._turn:
            if not is_basic(selection):
                self.to_zarr()[selection] = self._cast(value)
            elif layout.encoding is None:
                value = self._cast(value)
                taken, turned = forwards(selection, layout.shape)
                if any(part.step for part in turned):
                    region = selection_shape(normalize_selection(selection, layout.shape))
                    value = np.broadcast_to(np.asarray(value), region)[turned]
                self.to_zarr()[taken] = value
            else:
                write_region(self._owner, self._name, layout, selection, value)

    def _cast(self, value: Any) -> Any:
        """Return values as zarr is given them: a scalar where there is one."""
        values = cast(self._name, value, self.dtype)
        return values if values.ndim else values[()]

    def _put(self, metadata: Mapping[str, Any]) -> None:
        with self._owner.guard:
            self._owner.put_node(self._name, replace(self._node, metadata=metadata))

    @property
    def attrs(self) -> MutableMapping[str, Any]:
        """The attributes: JSON values, staged as they are set."""
        return StagedAttributes(self._attributes, self._stage_attributes, self._owner.guard)

    def _stage_attributes(self, attributes: dict[str, Any]) -> None:
        kept = checked_attributes(f"array {self._name!r}", attributes)
        self._put({**self._node.metadata, "attributes": kept})

    def resize(self, shape: Sequence[int] | int) -> None:
        """Change the shape; chunks that lie beyond it are removed.

        Raises
        ------
        SchemaError
            For another number of dimensions, or negative lengths.
        """
        new = checked_shape(f"array {self._name!r}", shape)
        if len(new) != self.ndim:
            raise SchemaError(f"array {self._name!r} has {self.ndim} dimensions; {new} is no shape of it")
        with self._turn:
            layout = self._layout
            if layout.chunk_shape is None or layout.keys is None:
                self.to_zarr().resize(new)
                return
            with self._owner.guard:
                metadata = {**self._node.metadata, "shape": list(new)}
                check_grid(self._name, metadata)
                self._put(metadata)
                if any(n < old for n, old in zip(new, layout.shape, strict=True)):
                    self._drop_beyond(new, layout)

    def _drop_beyond(self, shape: tuple[int, ...], layout: ArrayLayout) -> None:
        assert layout.chunk_shape is not None
        grid = np.array([-(-n // side) for n, side in zip(shape, layout.chunk_shape, strict=True)], np.uint64)
        stage = self._owner.array_stage(self._name)
        for leaf in list(self._leaves()):
            beyond = (grid_of(leaf.keys, layout.ndim) >= grid).any(axis=1)
            for key in leaf.keys[beyond].tolist():
                stage.remove(key)

    def append(self, data: npt.ArrayLike, axis: int = 0) -> tuple[int, ...]:
        """Add elements at the end of an axis, and return the new shape; nothing is staged if that fails.

        Parameters
        ----------
        data : array-like
            Of the array's shape but for `axis`.
        axis : int

        Raises
        ------
        SchemaError
            For values that the array cannot hold.
        ValueError
            If the shape does not fit.
        """
        with self._turn:
            given = cast(self._name, data, self.dtype)
            shape = self.shape
            if not -len(shape) <= axis < len(shape):
                raise ValueError(f"array {self._name!r} has {len(shape)} dimensions and no axis {axis}")
            axis %= len(shape)
            if given.ndim != len(shape) or any(
                a != b for i, (a, b) in enumerate(zip(given.shape, shape, strict=True)) if i != axis
            ):
                raise ValueError(
                    f"data of shape {given.shape} cannot be appended along axis {axis} to array {self._name!r} of {shape}"
                )
            new = (*shape[:axis], shape[axis] + given.shape[axis], *shape[axis + 1 :])
            self.resize(new)
            try:
                if given.size:
                    self[(slice(None),) * axis + (slice(shape[axis], None),)] = given
            except BaseException:
                self.resize(shape)
                raise
            if given.size:
                self._owner.note_append(self._name, axis)
            return new

    def _assign_orthogonal(self, selection: Any, value: Any) -> None:
        """Assign by `oindex`: of sharded arrays through the region around the selection (zarr 3.1 writes these wrongly)."""
        layout = self._layout
        if layout.inner_shape is None or layout.encoding is None:
            self.to_zarr().oindex[selection] = self._cast(value)
            return
        parts = _orthogonal(selection, layout.ndim)
        positions = [np.atleast_1d(np.arange(n)[part]) for part, n in zip(parts, layout.shape, strict=True)]
        if not all(len(p) for p in positions):
            return
        box = tuple(slice(int(p.min()), int(p.max()) + 1) for p in positions)
        held = np.asarray(self[box])
        values = cast(self._name, value, held.dtype)
        gone = tuple(i for i, part in enumerate(parts) if isinstance(part, int | np.integer))
        if values.ndim and gone:
            values = np.expand_dims(values, gone)
        held[np.ix_(*(p - p.min() for p in positions))] = values
        self[box] = held


def _orthogonal(selection: Any, ndim: int) -> list[Any]:
    """Return an orthogonal selection with one part for each axis."""
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if dots:
        parts[dots[0] : dots[0] + 1] = [slice(None)] * (ndim - len(parts) + 1)
    return parts + [slice(None)] * (ndim - len(parts))


def _open_array(owner: ArrayViewOwner, name: str) -> Array:
    array: Array = owner[name]
    return array


class _Indexer:
    """One of zarr's ways of indexing, as an attribute of an array."""

    def __init__(self, array: Array, kind: str) -> None:
        self._array = array
        self._kind = kind

    def __getitem__(self, selection: Any) -> Any:
        return getattr(self._array.to_zarr(), self._kind)[selection]

    def __setitem__(self, selection: Any, value: Any) -> None:
        array = self._array
        if not isinstance(array, WritableArray):
            raise array._read_only()
        with array._turn:
            if self._kind == "oindex":
                array._assign_orthogonal(selection, value)
            else:
                getattr(array.to_zarr(), self._kind)[selection] = array._cast(value)
