"""Regular chunk grids: how a large array is cut, and which chunks a selection touches. Pure arithmetic on shapes."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "TARGET_BYTES",
    "ChunkSelection",
    "Touch",
    "choose_chunk_shape",
    "chunk_count",
    "chunk_extents",
    "chunks_touched",
    "grid_shape",
    "iter_chunks",
    "normalize_selection",
    "selection_shape",
    "touches_along",
]

TARGET_BYTES: Final = 2 << 20
"""Raw bytes that the chunks of a large sample aim at."""

Part: TypeAlias = int | slice
ChunkSelection: TypeAlias = tuple[int, tuple[Part, ...], tuple[slice, ...]]
"""Linear index of a chunk, what to take from the chunk, where it goes in the output."""


def choose_chunk_shape(shape: Sequence[int], itemsize: int, target_bytes: int = TARGET_BYTES) -> tuple[int, ...]:
    """Return a chunk shape of about `target_bytes` for an array.

    The longest side of the chunk is halved until it fits, so that chunks become about cubic and a slice along
    any axis touches few of them; then the sides are evened out, so that the last chunk of an axis is not a sliver.

    Parameters
    ----------
    shape : sequence of int
    itemsize : int
        In bytes.
    target_bytes : int
        The most that a chunk has (a chunk holds at least one element). 1 to 4 MiB are sensible.

    Returns
    -------
    tuple of int
        As long as `shape`; every side at least 1.
    """
    limit = max(1, target_bytes // max(1, itemsize))
    sides = [max(1, n) for n in shape]
    while math.prod(sides) > limit:
        axis = max(range(len(sides)), key=sides.__getitem__)
        sides[axis] = -(-sides[axis] // 2)
    return tuple(_even(n, side) for n, side in zip(shape, sides, strict=True))


def _even(n: int, side: int) -> int:
    count = -(-n // side)
    return -(-n // count) if count else side


def grid_shape(shape: Sequence[int], chunk_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the number of chunks along each axis."""
    if len(shape) != len(chunk_shape) or any(n < 1 for n in chunk_shape):
        raise ValueError(f"chunks of shape {tuple(chunk_shape)} do not cut an array of shape {tuple(shape)}")
    return tuple(-(-n // side) for n, side in zip(shape, chunk_shape, strict=True))


def chunk_count(shape: Sequence[int], chunk_shape: Sequence[int]) -> int:
    """Return the number of chunks of an array (one for a 0-d array, none where a side is 0)."""
    return math.prod(grid_shape(shape, chunk_shape))


def iter_chunks(shape: Sequence[int], chunk_shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the region of each chunk in C order of the grid, cut short at the upper edges."""
    axes = [
        [slice(start, min(start + side, n)) for start in range(0, n, side)]
        for n, side in zip(shape, chunk_shape, strict=True)
    ]
    return product(*axes)


def chunk_extents(index: int, shape: Sequence[int], chunk_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the chunk of a linear index (C order), cut short at the upper edges.

    Raises
    ------
    IndexError
        There is no such chunk.
    """
    counts = grid_shape(shape, chunk_shape)
    if not 0 <= index < math.prod(counts):
        raise IndexError(f"chunk {index} of a grid of {math.prod(counts)}")
    extents = []
    for n, side, count in zip(reversed(shape), reversed(chunk_shape), reversed(counts), strict=True):
        index, coordinate = divmod(index, count)
        extents.append(min(side, n - coordinate * side))
    return tuple(reversed(extents))


def normalize_selection(selection: Any, shape: Sequence[int]) -> tuple[int | range, ...]:
    """Return a basic selection with one part for each axis: an index, or the range of indices.

    Parameters
    ----------
    selection : int, slice, Ellipsis, or a tuple of them
        As NumPy takes it; negative indices count from the end.
    shape : sequence of int

    Raises
    ------
    IndexError
        Out of bounds, too many parts, two ellipses, or something that basic indexing does not have (``None``, arrays,
        lists, booleans).
    """
    parts = list(selection) if isinstance(selection, tuple) else [selection]
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    given = len(parts) - len(dots)
    if given > len(shape):
        raise IndexError(f"too many indices: the array is {len(shape)}-dimensional, but {given} were given")
    at = dots[0] if dots else len(parts)
    parts[at : at + 1] = [slice(None)] * (len(shape) - given)
    return tuple(_normalize(part, n, axis) for axis, (part, n) in enumerate(zip(parts, shape, strict=True)))


def _normalize(part: Any, n: int, axis: int) -> int | range:
    if isinstance(part, slice):
        try:
            return range(*part.indices(n))
        except (TypeError, ValueError) as error:
            raise IndexError(f"{part} cannot select along axis {axis}: {error}") from error
    # NumPy's 0-d arrays are indices where they hold an integer and masks where they hold a boolean.
    mask = isinstance(part, bool) or getattr(getattr(part, "dtype", None), "kind", "") == "b"
    try:
        index = None if mask or getattr(part, "ndim", None) else operator.index(part)
    except TypeError:
        index = None
    if index is None:
        raise IndexError(
            f"{type(part).__name__} cannot select along axis {axis}: only integers, slices and '...' can; "
            "read the whole array and index that"
        )
    if not -n <= index < n:
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {n}")
    return index % n


def selection_shape(parts: Sequence[int | range]) -> tuple[int, ...]:
    """Return the shape of what a normalised selection selects."""
    return tuple(len(part) for part in parts if isinstance(part, range))


@dataclass(frozen=True, slots=True)
class Touch:
    """One chunk along one axis: its coordinate, what to take from it, where that goes (``None``: the axis is gone)."""

    coordinate: int
    take: Part
    put: slice | None


def touches_along(part: int | range, side: int) -> list[Touch]:
    """Return which chunks of `side` elements a normalised selection touches along one axis, in the order of the selection."""
    if isinstance(part, int):
        return [Touch(part // side, part % side, None)]
    touches: list[Touch] = []
    position, step = 0, part.step
    while position < len(part):
        first = part[position]
        coordinate = first // side
        start = coordinate * side
        # How far the range runs within this chunk.
        inside = (start + side - 1 - first) // step if step > 0 else (first - start) // -step
        count = min(inside + 1, len(part) - position)
        low = first - start
        stop: int | None = low + count * step
        if step < 0 and stop is not None and stop < 0:
            stop = None  # a negative stop would count from the end
        touches.append(Touch(coordinate, slice(low, stop, step), slice(position, position + count)))
        position += count
    return touches


def chunks_touched(shape: Sequence[int], chunk_shape: Sequence[int], selection: Any) -> list[ChunkSelection]:
    """Return which chunks a basic selection touches, and how they make up its result.

    Parameters
    ----------
    shape, chunk_shape : sequence of int
    selection : int, slice, Ellipsis, or a tuple of them

    Returns
    -------
    list of (int, tuple, tuple of slice)
        For each chunk its linear index in C order of the grid; what to take from it (integers remove an axis, as in
        NumPy); where that goes in the result, whose shape is ``selection_shape(normalize_selection(selection, shape))``.
        A chunk is listed once.

    Raises
    ------
    IndexError
        As :func:`normalize_selection`.
    ValueError
        Chunks that do not fit the shape.
    """
    counts = grid_shape(shape, chunk_shape)
    parts = normalize_selection(selection, shape)
    axes = [touches_along(part, side) for part, side in zip(parts, chunk_shape, strict=True)]
    result: list[ChunkSelection] = []
    for touches in product(*axes):
        index = 0
        for touch, count in zip(touches, counts, strict=True):
            index = index * count + touch.coordinate
        take = tuple(touch.take for touch in touches)
        put = tuple(touch.put for touch in touches if touch.put is not None)
        result.append((index, take, put))
    return result
