"""Comparing two states of an array: which regions changed, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.arrays.layout import ArrayLayout
from hangarlake.arrays.merging import differing
from hangarlake.arrays.sides import ArraySide

__all__ = ["ArrayChangeStats", "compare_chunks", "regions_of"]

# Chunks of both sides that are in memory at a time.
_AT_ONCE = 64 << 20


@dataclass(frozen=True, slots=True)
class ArrayChangeStats:
    """How much differs between two states of an array.

    Attributes
    ----------
    changed : int
        Elements that differ, where both states have them.
    compared : int
        Elements of the changed chunks that both states have.
    max_abs_difference : float or None
        The greatest difference (of numbers; ``None`` for other types, or where nothing can be compared).
    """

    changed: int
    compared: int
    max_abs_difference: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return asdict(self)


def regions_of(
    places: Iterable[Sequence[int]], chunk_shape: Sequence[int], shape: Sequence[int]
) -> list[tuple[slice, ...]]:
    """Return regions, as slices, that cover chunks given by grid coordinates; neighbours are joined, nothing else is covered.

    Parameters
    ----------
    places : iterable of (int, …)
        Within the array's grid.
    """
    boxes = [tuple((n, n + 1) for n in place) for place in sorted({tuple(place) for place in places})]
    for axis in reversed(range(len(shape))):
        joined: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
        for box in boxes:
            runs = joined.setdefault((*box[:axis], *box[axis + 1 :]), [])
            if runs and runs[-1][1] == box[axis][0]:
                runs[-1] = (runs[-1][0], box[axis][1])
            else:
                runs.append(box[axis])
        boxes = sorted((*rest[:axis], run, *rest[axis:]) for rest, runs in joined.items() for run in runs)
    return [
        tuple(
            slice(start * side, min(stop * side, n))
            for (start, stop), side, n in zip(box, chunk_shape, shape, strict=True)
        )
        for box in boxes
    ]


def compare_chunks(old: ArraySide, new: ArraySide, places: npt.NDArray[np.int64]) -> ArrayChangeStats:
    """Read chunks of both sides, given by grid coordinates of shape (n, ndim), and compare their elements."""
    layout = new.layout
    common = tuple(min(a, b) for a, b in zip(old.layout.shape, layout.shape, strict=True))
    step = max(1, _AT_ONCE // (2 * max(1, layout.chunk_nbytes)))
    changed = compared = 0
    greatest: float | None = None
    for start in range(0, len(places), step):
        part = places[start : start + step]
        for place, a, b in zip(part.tolist(), old.read_each(part), new.read_each(part), strict=True):
            inside = _inside(place, layout, common)
            left, right = a[inside], b[inside]
            compared += left.size
            differ = differing(left, right)
            changed += int(differ.sum())
            distance = _greatest(left[differ], right[differ])
            if distance is not None:
                greatest = distance if greatest is None else max(greatest, distance)
    return ArrayChangeStats(changed, compared, greatest)


def _inside(place: Sequence[int], layout: ArrayLayout, shape: Sequence[int]) -> tuple[slice, ...]:
    sides = layout.chunk_shape or ()
    return tuple(slice(0, max(0, min(side, n - k * side))) for k, side, n in zip(place, sides, shape, strict=True))


def _greatest(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float | None:
    if a.dtype.kind not in "biufc" or not a.size:
        return None
    if a.dtype.kind in "iu":
        # The difference of two integers fits the unsigned type of their size, though neither they nor floats of it need be exact.
        size = np.dtype(f"u{a.dtype.itemsize}")
        return float((np.maximum(a, b).astype(size) - np.minimum(a, b).astype(size)).max())
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        distances = np.abs(a.astype(wide) - b.astype(wide))
    known = distances[~np.isnan(distances)]
    return float(known.max()) if known.size else None
