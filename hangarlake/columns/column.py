"""Columns as a person holds them: dict-like views of samples, read-only or writable."""

from __future__ import annotations

import copy
import html
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from hangarlake.columns.lazy import LazyArray
from hangarlake.columns.lookup import Place
from hangarlake.columns.owners import ViewOwner
from hangarlake.columns.reading import SampleReader
from hangarlake.columns.samples import describe
from hangarlake.columns.scan import scan_tree
from hangarlake.errors import NodeNotFoundError, ReadOnlyError, SampleNotFoundError, SchemaError
from hangarlake.records.catalog import ColumnNode, ColumnSchema
from hangarlake.records.entries import Entries
from hangarlake.records.keys import FlatKey, KeyArray, decode_keys, encode_key, encode_keys
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import NodeSource, find, iter_leaves

__all__ = ["Column", "ColumnOwner", "check_one_key", "equal_samples"]

# From this many keys on, a batch is looked up by whole levels of the tree instead of key by key.
_MANY = 4096


class ColumnOwner(ViewOwner, Protocol):
    """What a column needs of its checkout."""

    def lacks(self, entries: Entries) -> npt.NDArray[np.bool_]:
        """Tell of each entry whether a part of its data is not in this bucket."""

    def column_node(self, name: str) -> ColumnNode:
        """Return the column's node, or raise if the checkout is closed or the column gone."""


class Column(Mapping[Any, Any]):
    """One column of a commit: a read-only mapping from keys to samples, in key order (integers before strings).

    Looking at it reads only the records and chunks that are touched. May be used from several threads, and pickles
    with its checkout.
    """

    def __init__(self, owner: ColumnOwner, name: str) -> None:
        self._owner = owner
        self._name = name
        node = owner.column_node(name)
        self._reader = SampleReader(name, node.schema, owner.chunks, owner.pending)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_column, (self._owner, self._name)

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def _node(self) -> ColumnNode:
        return self._owner.column_node(self._name)

    @property
    def name(self) -> str:
        """The name in its commit."""
        return self._name

    @property
    def schema(self) -> ColumnSchema:
        """Kind, dtype, shape, and whether shapes vary and keys are nested."""
        return self._node.schema

    @property
    def kind(self) -> str:
        """``ndarray``, ``str``, ``bytes`` or ``json``."""
        return self.schema.kind

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Of each sample; the maximum where shapes vary (``None``: unbounded). ``None`` for other kinds than ndarray."""
        return self.schema.shape if self.kind == "ndarray" else None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of the samples; ``None`` for other kinds than ndarray."""
        return self.schema.np_dtype if self.kind == "ndarray" else None

    @property
    def variable_shape(self) -> bool:
        """Whether samples differ in shape."""
        return self.schema.variable_shape

    @property
    def nested(self) -> bool:
        """Whether a sample has sub-samples."""
        return self.schema.nested

    @property
    def encoding(self) -> dict[str, Any]:
        """The preferred encoding of new chunks (advisory)."""
        return dict(self._node.encoding)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes: JSON values (a copy)."""
        return self._attributes()

    def _attributes(self) -> dict[str, Any]:
        return copy.deepcopy(dict(self._node.attrs))

    @property
    def nbytes(self) -> int:
        """Raw bytes of all samples, from the records alone."""
        schema = self.schema
        itemsize = schema.np_dtype.itemsize
        if not schema.variable_shape:
            return len(self) * math.prod(n or 0 for n in schema.shape) * itemsize
        leaves = iter_leaves(*self._tree())
        return sum(int(leaf.entries.shapes.prod(axis=1, dtype=np.uint64).sum()) for leaf in leaves) * itemsize

    # ---- finding ----------------------------------------------------------------------------------------------------

    def _tree(self) -> tuple[NodeRef | None, NodeSource]:
        """Return the tree that holds everything (a writer folds what is staged first), and where its nodes come from."""
        return self._node.root, self._owner.nodes

    def _find(self, key: bytes) -> Place | None:
        return self._owner.hot.find(self._node.root, key)

    def _place(self, key: object) -> Place:
        place = self._find(self._encode(key))
        if place is None:
            raise self._absent(key)
        return place

    def _encode(self, key: object) -> bytes:
        if isinstance(key, tuple) and not self.schema.nested:
            raise SchemaError(f"column {self._name!r} is flat: a key is a str or an int, not a tuple ({key!r})")
        try:
            return encode_key(key)
        except SchemaError:
            check_one_key(key)
            raise

    def _absent(self, key: object) -> SampleNotFoundError:
        other: object = str(key) if isinstance(key, int | np.integer) else None
        if isinstance(key, str) and key.lstrip("-").isdigit() and len(key) < 19:
            other = int(key)
        hint = ""
        if other is not None and self._find(encode_key(other)) is not None:
            hint = f"; there is one under {other!r} ({type(other).__name__})"
        return SampleNotFoundError(f"column {self._name!r} has no sample {key!r}{hint}")

    def __contains__(self, key: object) -> bool:
        try:
            return self._find(self._encode(key)) is not None
        except SchemaError:
            return False

    def __len__(self) -> int:
        return self._node.count

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[Any]:
        for leaf in iter_leaves(*self._tree()):
            yield from decode_keys(leaf.keys)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        """Return one sample: an ndarray (a copy), ``str``, ``bytes``, or a JSON value.

        Raises
        ------
        SampleNotFoundError
        CorruptionError
        """
        return self._reader.at(self._place(key))

    def get(self, key: Any, default: Any = None) -> Any:
        """Return one sample, or `default` if there is none."""
        try:
            return self[key]
        except SampleNotFoundError:
            return default

    def values(self) -> _Values:  # type: ignore[override]  # reads batch by batch instead of key by key
        """Return a view of all samples in key order."""
        return _Values(self)

    def items(self) -> _Items:  # type: ignore[override]  # reads batch by batch instead of key by key
        """Return a view of all (key, sample) pairs in key order."""
        return _Items(self)

    def batch(self, keys: Iterable[Any]) -> Any:
        """Return many samples with one planned read.

        Parameters
        ----------
        keys : iterable
            In any order; repetitions are fine.

        Returns
        -------
        ndarray, shape (n, *sample shape)
            For ndarray columns of fixed shape.
        list
            For all others.

        Raises
        ------
        SampleNotFoundError
            Naming the first key that is absent.
        """
        listed: Any = keys if isinstance(keys, list | range | np.ndarray) else list(keys)
        if len(listed) > _MANY:
            return self._batch_many(listed)
        places = self._find_all(self._encode_all(listed).tolist())
        for i, place in enumerate(places):
            if place is None:
                raise self._absent(_nth(listed, i))
        return self._reader.gather(places)  # type: ignore[arg-type]  # no place is None here

    def _encode_all(self, keys: Any) -> KeyArray:
        kinds = {int} if isinstance(keys, range | np.ndarray) else set(map(type, keys))
        if any(issubclass(kind, tuple) != self.schema.nested for kind in kinds):
            for key in keys:
                self._encode(key)  # says which it is, and what is a key here
        return encode_keys(keys)

    def _find_all(self, keys: list[bytes]) -> list[Place | None]:
        hot, root = self._owner.hot, self._node.root
        hot.warm(root, keys)
        return [hot.find(root, key) for key in keys]

    def _batch_many(self, keys: Any) -> Any:
        unique, inverse = np.unique(self._encode_all(keys), return_inverse=True)
        root, nodes = self._tree()
        found = find(root, unique, nodes)
        if not found.present.all():
            missing = ~found.present[inverse]
            raise self._absent(_nth(keys, int(np.flatnonzero(missing)[0])))
        entries = found.entries().take(inverse)
        return self._reader.values(entries) if self.schema.variable_shape else self._reader.stacked(entries)

    def scan(
        self, *, order: Literal["storage", "key"] = "storage", batch: int | None = None
    ) -> Iterator[tuple[list[Any], Any]]:
        """Go through everything the fastest way.

        Parameters
        ----------
        order : "storage" or "key"
            ``"storage"`` reads each chunk once, so keys come in no particular order where they were not written in
            key order.
        batch : int, optional
            Samples at a time (the last batch may be smaller); by default what reads best.

        Yields
        ------
        keys : list
        values : ndarray of shape (n, *sample shape), or list
            As :meth:`batch` returns them.
        """
        if order not in ("storage", "key"):
            raise ValueError(f"order is 'storage' or 'key', not {order!r}")
        if batch is not None and batch < 1:
            raise ValueError(f"batch is at least 1, not {batch}")
        root, nodes = self._tree()
        return scan_tree(root, nodes, self._reader, by_key=order == "key", batch=batch)

    def shape_of(self, key: Any) -> tuple[int, ...]:
        """Return the shape of one sample without reading its data (for other kinds: its length in bytes)."""
        leaf, i = self._place(key)
        if self.schema.variable_shape:
            return tuple(leaf.entries.shapes[i].tolist())
        return tuple(n or 0 for n in self.schema.shape)

    def digest(self, key: Any) -> str:
        """Return the value digest of one sample, 40 hex digits, without reading its data."""
        leaf, i = self._place(key)
        return bytes(leaf.entries.digests[i]).hex()

    def is_local(self, key: Any) -> bool:
        """Tell whether all data of one sample is in this repository's own bucket; nothing of it is read.

        In a partial clone the others are read through from a remote; :meth:`Repository.fetch_data` brings them here.

        Raises
        ------
        SampleNotFoundError
        """
        whole = self.schema.nested and not isinstance(key, tuple)
        places = [self._place((key, sub)) for sub in self[key]] if whole else [self._place(key)]
        parts = [leaf.entries.take(slice(i, i + 1)).compact() for leaf, i in places]
        return not self._owner.lacks(Entries.concat(parts)).any()

    def lazy(self, key: Any) -> LazyArray:
        """Return one ndarray sample of which only the chunks that a selection touches are read."""
        if self.kind != "ndarray":
            raise SchemaError(
                f"column {self._name!r} holds {self.kind} values; only ndarray samples can be read in part"
            )
        leaf, i = self._place(key)
        entries = leaf.entries.take(slice(i, i + 1)).compact()
        return LazyArray(self._reader, entries, self.shape_of(key))

    def to_dask(self, *, batch: int | None = None) -> Any:
        """Return a Dask array (fixed shapes) or a Dask bag, in key order; see :func:`hangarlake.integrations.dask.column_to_dask`."""
        from hangarlake.integrations import load

        return load("dask").column_to_dask(self, batch=batch)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        self._tree()  # what is staged counts
        return ("hangarlake-column", *self._owner.token_of(self._name))

    # ---- changing (refused) -----------------------------------------------------------------------------------------

    def _read_only(self) -> ReadOnlyError:
        return ReadOnlyError(
            f"column {self._name!r} belongs to a read-only checkout; open one with repo.checkout(branch, write=True)"
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        raise self._read_only()

    def __delitem__(self, key: Any) -> None:
        raise self._read_only()

    def extend(self, keys: Iterable[Any], values: Iterable[Any]) -> None:  # noqa: ARG002 - the signature of WritableColumn
        """Add many samples (write checkouts only)."""
        raise self._read_only()

    def update(self, samples: Any) -> None:  # noqa: ARG002 - the signature of WritableColumn
        """Add many samples (write checkouts only)."""
        raise self._read_only()

    def append(self, value: Any) -> int:  # noqa: ARG002 - the signature of WritableColumn
        """Add one sample under the next integer key (write checkouts only)."""
        raise self._read_only()

    def pop(self, key: Any, *default: Any) -> Any:  # noqa: ARG002 - the signature of WritableColumn
        """Remove one sample and return it (write checkouts only)."""
        raise self._read_only()

    # ---- showing ----------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        try:
            return f"<{type(self).__name__} {self._name!r}: {len(self):,} samples of {describe(self.schema)}>"
        except (ValueError, NodeNotFoundError):
            return f"<{type(self).__name__} {self._name!r} of a checkout that is closed or has no such column>"

    def _repr_html_(self) -> str:
        rows = [("samples", f"{len(self):,}"), ("kind", describe(self.schema)), ("nested", str(self.nested))]
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
        return f"<p>Column <b>{html.escape(self._name)}</b></p><table>{cells}</table>"

    def __eq__(self, other: object) -> bool:
        # Comparing all samples would read everything; two views are equal if they are the same view.
        return self is other

    __hash__ = object.__hash__


def check_one_key(key: object) -> None:
    """Refuse many keys where one is asked for, and say how many are.

    Raises
    ------
    SchemaError
    """
    if isinstance(key, list | slice | range | set | np.ndarray):
        raise SchemaError(f"a key is a str or an int, not {type(key).__name__}; use .batch(keys) for many") from None


def _open_column(owner: ColumnOwner, name: str) -> Column:
    column: Column = owner[name]
    return column


def _nth(keys: Any, i: int) -> Any:
    key = keys[i]
    return key.item() if isinstance(key, np.generic) else key


class _View(Collection[Any]):
    def __init__(self, column: Column) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def _pairs(self) -> Iterator[tuple[FlatKey, Any]]:
        for keys, values in self._column.scan(order="key"):
            # Each sample is handed out as memory of its own, as column[key] does (0-d ones as arrays, too).
            copies = (values[i, ...].copy() for i in range(len(keys))) if isinstance(values, np.ndarray) else values
            yield from zip(keys, copies, strict=True)


def equal_samples(given: Any, sample: Any) -> bool:
    """Tell whether something equals a sample, which may be an array."""
    if isinstance(sample, np.ndarray):
        try:
            return np.shape(given) == sample.shape and bool(np.all(given == sample))
        except ValueError:  # lists of lists that make no array
            return False
    return not isinstance(given, np.ndarray) and bool(given == sample)


class _Values(_View):
    """All samples in key order."""

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._pairs())

    def __contains__(self, value: object) -> bool:
        return any(equal_samples(value, each) for each in self)


class _Items(_View):
    """All (key, sample) pairs in key order."""

    def __iter__(self) -> Iterator[tuple[FlatKey, Any]]:
        return self._pairs()

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, value = item
        return key in self._column and equal_samples(value, self._column[key])
