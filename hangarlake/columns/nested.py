"""Nested columns: each sample is a mapping of sub-samples, under keys of two parts.

A sub-sample is an entry like any other, under the key ``(sample, sub)``; the sub-samples of one sample lie side by side in the tree. So
everything that works on flat columns (``batch``, ``scan``, ``digest``, ``lazy`` …) works here with pairs for keys.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import Any

import numpy as np

from hangarlake.columns.column import Column, check_one_key, equal_samples
from hangarlake.columns.writable import WritableColumn, log_repeated
from hangarlake.errors import SampleNotFoundError, SchemaError
from hangarlake.records.keys import FlatKey, KeyArray, decode_keys, next_prefix, sample_prefix
from hangarlake.records.tree import iter_leaves

__all__ = ["NestedColumn", "NestedSample", "WritableNestedColumn", "WritableNestedSample"]

# Sub-samples that are read together.
_AT_ONCE = 64 << 20


class NestedSample(Mapping[FlatKey, Any]):
    """The sub-samples of one sample, by sub-key, in key order. Values are read when they are asked for.

    Going through ``values()`` or ``items()`` reads them with one planned read (of 64 MiB at a time), as ``dict(sample.items())`` does.
    """

    def __init__(self, column: NestedColumn, sample: FlatKey) -> None:
        self._column = column
        self._sample = sample

    @property
    def key(self) -> FlatKey:
        """The key of the sample."""
        return self._sample

    def __getitem__(self, sub: FlatKey) -> Any:
        return self._column[self._sample, sub]

    def __contains__(self, sub: object) -> bool:
        return (self._sample, sub) in self._column

    def __iter__(self) -> Iterator[FlatKey]:
        return (key[1] for keys in self._column.runs(self._sample) for key in decode_keys(keys))

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._column.runs(self._sample))

    def values(self) -> ValuesView[Any]:
        """Return a view of all sub-samples in key order; going through it is one planned read."""
        return _SubValues(self)

    def items(self) -> ItemsView[FlatKey, Any]:
        """Return a view of all (sub-key, sub-sample) pairs in key order; going through it is one planned read."""
        return _SubItems(self)

    def _pairs(self) -> Iterator[tuple[FlatKey, Any]]:
        for subs in self._portions():
            values = self._column.batch([(self._sample, sub) for sub in subs])
            # Each is handed out as memory of its own, as column[sample, sub] does (0-d ones as arrays, too).
            copies = (values[i, ...].copy() for i in range(len(subs))) if isinstance(values, np.ndarray) else values
            yield from zip(subs, copies, strict=True)

    def _portions(self) -> Iterator[list[FlatKey]]:
        """Yield the sub-keys in order, as many at a time as may be in memory."""
        column, itemsize = self._column, self._column.schema.np_dtype.itemsize
        portion: list[FlatKey] = []
        size = 0
        for sub in list(self):
            nbytes = math.prod(column.shape_of((self._sample, sub))) * itemsize
            if portion and size + nbytes > _AT_ONCE:
                yield portion
                portion, size = [], 0
            portion.append(sub)
            size += nbytes
        if portion:
            yield portion

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._sample!r} of column {self._column.name!r}: {', '.join(map(repr, self))}>"


class _SubValues(ValuesView[Any]):
    _mapping: NestedSample

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs())

    def __contains__(self, value: object) -> bool:
        return any(equal_samples(value, each) for each in self)


class _SubItems(ItemsView[FlatKey, Any]):
    _mapping: NestedSample

    def __iter__(self) -> Iterator[tuple[FlatKey, Any]]:
        return self._mapping._pairs()

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        sub, value = item
        return sub in self._mapping and equal_samples(value, self._mapping[sub])


class WritableNestedSample(NestedSample, MutableMapping[FlatKey, Any]):
    """The sub-samples of one sample of a write checkout."""

    _column: WritableNestedColumn

    def __setitem__(self, sub: FlatKey, value: Any) -> None:
        self._column[self._sample, sub] = value

    def __delitem__(self, sub: FlatKey) -> None:
        del self._column[self._sample, sub]


class NestedColumn(Column):
    """A column whose samples are mappings: ``col[sample][sub]``, or ``col[sample, sub]`` at once.

    Iterating gives sample keys, ``len`` counts samples; methods that take keys take ``(sample, sub)`` pairs.
    """

    def runs(self, sample: object | None = None) -> Iterator[KeyArray]:
        """Yield the encoded keys of one sample (or of all), leaf by leaf (internal)."""
        low = sample_prefix(sample) if sample is not None else None
        high = next_prefix(low) if low is not None else None
        root, nodes = self._tree()
        for leaf in iter_leaves(root, nodes, start=low, stop=high):
            keys = leaf.keys
            first = int(np.searchsorted(keys, np.bytes_(low))) if low is not None else 0
            last = int(np.searchsorted(keys, np.bytes_(high))) if high is not None else len(keys)
            if first < last:
                yield keys[first:last]

    def _encode(self, key: object) -> bytes:
        if not isinstance(key, tuple):
            raise SchemaError(f"column {self.name!r} is nested: a key is (sample, sub), not {key!r}")
        return super()._encode(key)

    def _sample(self, key: FlatKey) -> NestedSample:
        return NestedSample(self, key)

    def __getitem__(self, key: Any) -> Any:
        """Return one sub-sample (``col[sample, sub]``), or the mapping of all of a sample (``col[sample]``).

        Raises
        ------
        SampleNotFoundError
        """
        if isinstance(key, tuple):
            return super().__getitem__(key)
        check_one_key(key)
        if key not in self:
            raise SampleNotFoundError(f"column {self.name!r} has no sample {key!r}")
        return self._sample(key)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, tuple):
            return super().__contains__(key)
        try:
            return next(self.runs(key), None) is not None
        except SchemaError:
            return False

    def __iter__(self) -> Iterator[Any]:
        before: object = None
        for keys in self.runs():
            for sample, _ in decode_keys(keys):
                if sample != before or type(sample) is not type(before):
                    yield sample
                before = sample

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return next(self.runs(), None) is not None

    def values(self) -> Any:
        """Iterate over the samples: a mapping each."""
        return _Samples(self)

    def items(self) -> Any:
        """Iterate over (sample key, mapping) pairs."""
        return _SampleItems(self)


class WritableNestedColumn(NestedColumn, WritableColumn):
    """A nested column of a write checkout."""

    def _sample(self, key: FlatKey) -> NestedSample:
        return WritableNestedSample(self, key)

    def __getitem__(self, key: Any) -> Any:
        return WritableColumn.__getitem__(self, key) if isinstance(key, tuple) else NestedColumn.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, tuple):
            return WritableColumn.__contains__(self, key)
        return NestedColumn.__contains__(self, key)

    def __len__(self) -> int:
        return NestedColumn.__len__(self)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Stage one sub-sample (``col[sample, sub] = value``), or several of one sample (``col[sample] = mapping``, merged in).

        Raises
        ------
        SchemaError
            If something does not fit; nothing is staged.
        """
        if isinstance(key, tuple):
            WritableColumn.__setitem__(self, key, value)
            return
        if not isinstance(value, Mapping):
            raise SchemaError(
                f"column {self.name!r} is nested: sample {key!r} takes a mapping of sub-samples, not {type(value).__name__}; "
                "set one with col[sample, sub] = value"
            )
        self.extend([(key, sub) for sub in value], list(value.values()))

    def __delitem__(self, key: Any) -> None:
        if isinstance(key, tuple):
            WritableColumn.__delitem__(self, key)
            return
        with self._lock:
            found = [k for keys in self.runs(key) for k in keys.tolist()]
            if not found:
                raise SampleNotFoundError(f"column {self.name!r} has no sample {key!r}")
            for each in found:
                self._stage.remove(each)

    def extend(self, keys: Iterable[Any], values: Iterable[Any]) -> None:
        """Stage many sub-samples under (sample, sub) keys, or none if one does not fit; as that of flat columns."""
        log_repeated(self.name, keys)
        with self._lock:
            self._stage.extend(self._each_checked(keys), values)

    def update(self, samples: Any) -> None:
        """Stage a mapping of mappings, or pairs of (sample, mapping) or ((sample, sub), value)."""
        pairs = samples.items() if hasattr(samples, "items") else samples

        def flat() -> Iterator[tuple[Any, Any]]:
            for key, value in pairs:
                if isinstance(key, tuple):
                    yield key, value
                elif isinstance(value, Mapping):
                    yield from (((key, sub), each) for sub, each in value.items())
                else:
                    raise SchemaError(f"column {self.name!r} is nested: sample {key!r} takes a mapping of sub-samples")

        super().update(flat())

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove a sub-sample and return it, or a whole sample and return it as a dict.

        Raises
        ------
        SampleNotFoundError
        """
        if isinstance(key, tuple):
            return super().pop(key, *default)
        with self._lock:
            if key not in self:
                if default:
                    return default[0]
                raise SampleNotFoundError(f"column {self.name!r} has no sample {key!r}")
            sample = dict(self[key].items())
            del self[key]
            return sample


class _Samples:
    """All samples of a nested column, in key order."""

    def __init__(self, column: NestedColumn) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __iter__(self) -> Iterator[Any]:
        return (self._column._sample(key) for key in self._column)


class _SampleItems(_Samples):
    """All (sample key, mapping) pairs, in key order."""

    def __iter__(self) -> Iterator[Any]:
        return ((key, self._column._sample(key)) for key in self._column)
