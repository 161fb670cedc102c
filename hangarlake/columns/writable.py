"""Writable columns: what is set is staged at once and visible at once, and committed together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from hangarlake.attributes import StagedAttributes, exact_json
from hangarlake.columns.column import Column, ColumnOwner
from hangarlake.columns.lookup import Place
from hangarlake.columns.reading import SampleReader
from hangarlake.columns.samples import restore
from hangarlake.columns.stage import REMOVED, ColumnStage
from hangarlake.errors import SampleNotFoundError, SchemaError
from hangarlake.records.catalog import CatalogNode
from hangarlake.records.keys import encode_key
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import NodeSource, iter_leaves

__all__ = ["WritableColumn", "log_repeated"]

_log = logging.getLogger(__name__)


class WritableColumnOwner(ColumnOwner, Protocol):
    """What a column needs of its write checkout."""

    def put_node(self, name: str, node: CatalogNode) -> None:
        """Give the column other metadata."""


class WritableColumn(Column):
    """A column of a write checkout: what is set is staged at once and visible at once, and committed together.

    Calls from several threads are serialised.
    """

    _owner: WritableColumnOwner

    def __init__(self, owner: WritableColumnOwner, name: str, stage: Callable[[str], ColumnStage], lock: Any) -> None:
        super().__init__(owner, name)
        self._stage_of = stage
        self._lock = lock

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"column {self._name!r} belongs to a write checkout, which cannot be pickled; use w.fork()")

    @property
    def _stage(self) -> ColumnStage:
        stage = self._stage_of(self._name)  # raises if the checkout is closed or the column gone
        if stage.schema is not self._reader.schema:
            # After a commit the same schema may be another object; a column that was removed and added anew has another one.
            self._reader = SampleReader(self._name, stage.schema, self._owner.chunks, self._owner.pending)
        return stage

    @property
    def attrs(self) -> MutableMapping[str, Any]:
        """The attributes: JSON values, staged as they are set."""
        return StagedAttributes(self._attributes, self._stage_attributes, self._lock)

    def _stage_attributes(self, attributes: dict[str, Any]) -> None:
        kept = exact_json(attributes, f"the attributes of column {self._name!r}")
        self._owner.put_node(self._name, replace(self._node, attrs=kept))

    def _tree(self) -> tuple[NodeRef | None, NodeSource]:
        with self._lock:
            return self._stage.fold(), self._owner.nodes

    def _find(self, key: bytes) -> Place | None:
        with self._lock:
            stage = self._stage
            ordinal = stage.lookup(key)
            if ordinal is None:
                return self._owner.hot.find(stage.root, key)
            if ordinal == REMOVED:
                return None
            return stage.place(key, ordinal)

    def _find_all(self, keys: list[bytes]) -> list[Place | None]:
        with self._lock:
            stage = self._stage
            staged = [
                (key, ordinal) for key in keys if (ordinal := stage.lookup(key)) is not None and ordinal != REMOVED
            ]
            places = stage.places(staged)
            self._owner.hot.warm(stage.root, [key for key in keys if stage.lookup(key) is None])
            return [places[key] if key in places else self._find(key) for key in keys]

    def __getitem__(self, key: Any) -> Any:
        encoded = self._encode(key)
        with self._lock:
            stage = self._stage
            ordinal = stage.lookup(encoded)
            if ordinal is not None and ordinal != REMOVED:
                sample = stage.open_value(ordinal)
                if sample is not None:
                    return restore(self.schema, sample)
            return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        try:
            encoded = self._encode(key)
        except SchemaError:
            return False
        with self._lock:
            return self._stage.contains(encoded)

    def __len__(self) -> int:
        with self._lock:
            return len(self._stage)

    def shape_of(self, key: Any) -> tuple[int, ...]:
        """Return the shape of one sample without reading its data (for other kinds: its length in bytes)."""
        with self._lock:
            ordinal = self._stage.lookup(self._encode(key))
            if ordinal is not None and ordinal != REMOVED and self.schema.variable_shape:
                return self._stage.shape(ordinal)
        return super().shape_of(key)

    def digest(self, key: Any) -> str:
        """Return the value digest of one sample, 40 hex digits, without reading its data."""
        with self._lock:
            ordinal = self._stage.lookup(self._encode(key))
            if ordinal is not None and ordinal != REMOVED:
                return self._stage.digest(ordinal).hex()
        return super().digest(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Stage one sample.

        Raises
        ------
        SchemaError
            If key or value do not fit; nothing is staged.
        """
        encoded = self._encode(key)
        with self._lock:
            self._stage.set(key, encoded, value)

    def __delitem__(self, key: Any) -> None:
        encoded = self._encode(key)
        with self._lock:
            if not self._stage.contains(encoded):
                raise self._absent(key)
            self._stage.remove(encoded)

    def extend(self, keys: Iterable[Any], values: Iterable[Any]) -> None:
        """Stage many samples, or none if one of them does not fit.

        Parameters
        ----------
        keys : iterable
            Of a key that is given more than once the last value counts, as in a dictionary; of a list or an array, that is logged.
        values : ndarray of shape (n, *sample shape), or iterable
            As many as keys.

        Raises
        ------
        SchemaError
            Naming column, key, what was expected and given; nothing is staged.
        """
        log_repeated(self._name, keys)
        with self._lock:
            self._stage.extend(self._checked(keys), values)

    def _checked(self, keys: Iterable[Any]) -> Iterable[Any]:
        if isinstance(keys, range | np.ndarray) or self.schema.nested:
            return keys
        listed = list(keys) if isinstance(keys, list | tuple) else keys
        return (
            listed if isinstance(listed, list) and tuple not in set(map(type, listed)) else self._each_checked(listed)
        )

    def _each_checked(self, keys: Iterable[Any]) -> Iterator[Any]:
        for key in keys:
            self._encode(key)
            yield key

    def update(self, samples: Any) -> None:
        """Stage the samples of a mapping or of (key, value) pairs, or none if one of them does not fit.

        The last of several pairs of one key counts, as in ``dict.update``.
        """
        pairs = samples.items() if hasattr(samples, "items") else samples
        values: list[Any] = []

        def keys() -> Iterator[Any]:
            for pair in pairs:
                key, value = pair
                values.append(value)
                yield key

        # The values are asked for in step with the keys, so pairs may be a generator larger than memory.
        with self._lock:
            self._stage.extend(self._each_checked(keys()), _drained(values))

    def append(self, value: Any) -> int:
        """Stage one sample under the next integer key (1 + the greatest so far, or 0), and return the key."""
        if self.schema.nested:
            raise SchemaError(f"column {self._name!r} is nested: append to one of its samples by key")
        with self._lock:
            key = self._stage.next_int()
            self._stage.set(key, encode_key(key), value)
        return key

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove one sample and return it; `default` (if given) where there is none.

        Raises
        ------
        SampleNotFoundError
        """
        with self._lock:
            try:
                value = self[key]
            except SampleNotFoundError:
                if default:
                    return default[0]
                raise
            self._stage.remove(self._encode(key))
            return value

    def clear(self) -> None:
        """Stage the removal of every sample."""
        with self._lock:
            for key in [k for leaf in iter_leaves(*self._tree()) for k in leaf.keys.tolist()]:
                self._stage.remove(key)


def log_repeated(name: str, keys: Iterable[Any]) -> None:
    """Log the first key that a list or array holds more than once: hardly anybody means to give a value that does not count."""
    listed = keys.tolist() if isinstance(keys, np.ndarray) else keys
    if not isinstance(listed, list | tuple):
        return
    try:
        if len(set(listed)) == len(listed):
            return
    except TypeError:
        return  # what has no hash is no key, which is said where it is encoded
    first: dict[Any, int] = {}
    for i, key in enumerate(listed):
        if first.setdefault(key, i) != i:
            _log.warning(
                "column %r: the key %r is given more than once (positions %d and %d); its last value counts",
                name,
                key,
                first[key],
                i,
            )
            return


def _drained(values: list[Any]) -> Iterator[Any]:
    while values:
        yield values.pop(0)
