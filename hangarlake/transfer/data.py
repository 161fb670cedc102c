"""Partial data: the chunks that a selection touches come here, and nothing else; no id changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from hangarlake.errors import NodeNotFoundError, SampleNotFoundError
from hangarlake.locality import Locality
from hangarlake.records.catalog import ArrayNode, Catalog, CatalogNode, ColumnNode
from hangarlake.records.entries import Entries
from hangarlake.records.keys import KeyArray, encode_grid, encode_keys, next_prefix, sample_prefix
from hangarlake.records.tree import NodeSource, find, iter_leaves
from hangarlake.session import Session, Snapshot
from hangarlake.transfer.copying import Courier
from hangarlake.transfer.moving import Repacker
from hangarlake.transfer.remotes import Remotes
from hangarlake.transfer.results import FetchResult, Progress

__all__ = ["fetch_data"]

# Rows of chunk tables that are looked at together.
_WINDOW_ROWS = 8192


def fetch_data(
    session: Session,
    remotes: Remotes,
    snapshot: Snapshot,
    *,
    remote: str = "origin",
    nodes: Sequence[str] | str | None = None,
    keys: Iterable[Any] | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> FetchResult:
    """Bring the chunks that a selection touches here, in ranges, and pack them anew.

    Parameters
    ----------
    nodes : sequence of str, optional
        Columns, arrays and groups; everything by default.
    keys : iterable, optional
        Sample keys (of a nested column, or ``(sample, sub)`` pairs), which every chosen column that has them brings; tuples of
        grid coordinates for arrays. By default all.
    max_bytes : int, optional
        Stop before more encoded bytes than this have come.
    dry_run : bool
        Only count.

    Raises
    ------
    NodeNotFoundError, SampleNotFoundError
        If a name or key is not in the commit (a key has to be in one of the chosen nodes).
    DataNotLocalError
        If the remote does not have a chunk either.
    """
    if max_bytes is not None and max_bytes < 0:
        raise ValueError(f"max_bytes is 0 or more, not {max_bytes}")
    session.check_writable()
    progress = progress or Progress()
    # Exactly the chunks that were chosen: near ranges are merged only where what lies between them is next to nothing.
    courier = Courier(remotes.store(remote), session.store, progress, dry=dry_run)
    repacker = Repacker(remotes.exact_reader(remote), courier)
    values = 0
    for entries in _selected(session.nodes, snapshot.catalog, nodes, keys):
        came, full = _take(session.locality, repacker, entries, max_bytes)
        values += came
        if full:
            break
    repacker.finish(session.locality)
    return FetchResult(values, repacker.chunks, repacker.bytes)


def _take(locality: Locality, repacker: Repacker, entries: Entries, max_bytes: int | None) -> tuple[int, bool]:
    """Hand the chunks of some entries that are not here to the repacker; return how many values came, and whether that was it."""
    table = entries.table
    refs = table.refs()
    absent = np.logical_not(locality.holds(refs))
    rows, spans = entries.rows.tolist(), entries.spans().tolist()
    values = 0
    for i in np.flatnonzero(locality.lacks(entries)).tolist():
        mine = [row for row in range(rows[i], rows[i] + spans[i]) if absent[row] and not repacker.knows(refs[row])]
        size = sum(refs[row].length for row in mine)
        if max_bytes is not None and repacker.bytes + size > max_bytes:
            return values, True
        for row in mine:
            repacker.add(refs[row], int(table.items[row]), table.encodings[int(table.encoding[row])])
        values += 1
    return values, False


# ---- what is selected ---------------------------------------------------------------------------------------------------


def _selected(
    source: NodeSource, catalog: Catalog, nodes: Sequence[str] | str | None, keys: Iterable[Any] | None
) -> Iterator[Entries]:
    """Yield the entries of a selection, some thousand rows at a time."""
    chosen = chosen_nodes(catalog, nodes)
    if keys is None:
        for _, node in chosen:
            yield from _windows(leaf.entries for leaf in iter_leaves(node.root, source))
        return
    listed = list(keys)
    unseen = set(range(len(listed)))
    for _, node in chosen:
        for entries, found in _of_keys(source, node, listed):
            unseen -= found
            yield from _windows([entries])
    if unseen:
        names = ", ".join(repr(name) for name, _ in chosen[:8]) or "the commit"
        raise SampleNotFoundError(f"{names} has no sample {listed[min(unseen)]!r}; nothing is there to be fetched")


def chosen_nodes(catalog: Catalog, nodes: Sequence[str] | str | None) -> list[tuple[str, CatalogNode]]:
    """Return the columns and arrays of a selection; a group stands for everything in it.

    Raises
    ------
    NodeNotFoundError
    """
    names = [nodes] if isinstance(nodes, str) else nodes
    if names is None:
        return [(name, node) for name, node in sorted(catalog.nodes.items()) if node.root is not None]
    chosen: dict[str, CatalogNode] = {}
    for name in names:
        below = {each: node for each, node in catalog.nodes.items() if each == name or each.startswith(f"{name}/")}
        if not below:
            raise NodeNotFoundError(
                f"the commit has no column, array or group {name!r}; there are: {', '.join(sorted(catalog.nodes)) or 'none'}"
            )
        chosen |= below
    return [(name, node) for name, node in sorted(chosen.items()) if node.root is not None]


def _of_keys(source: NodeSource, node: CatalogNode, keys: list[Any]) -> Iterator[tuple[Entries, set[int]]]:
    """Yield the entries of one node under some keys, and which of the keys these are."""
    if isinstance(node, ArrayNode):
        pairs = _grid([(i, key) for i, key in enumerate(keys) if _is_coordinates(key)])
    elif isinstance(node, ColumnNode) and node.schema.nested:
        yield from _of_samples(source, node, [(i, key) for i, key in enumerate(keys) if not isinstance(key, tuple)])
        pairs = _encoded([(i, key) for i, key in enumerate(keys) if isinstance(key, tuple)])
    else:
        pairs = _encoded([(i, key) for i, key in enumerate(keys) if not isinstance(key, tuple)])
    if not pairs:
        return
    by_key: dict[bytes, set[int]] = {}
    for i, key in pairs:
        by_key.setdefault(key, set()).add(i)
    wanted: KeyArray = np.array(sorted(by_key), dtype=f"S{max(map(len, by_key))}")
    found = find(node.root, wanted, source)
    there = {
        i for key, present in zip(wanted.tolist(), found.present.tolist(), strict=True) if present for i in by_key[key]
    }
    yield found.entries().compact(), there


def _is_coordinates(key: Any) -> bool:
    return isinstance(key, tuple) and all(isinstance(each, int) and 0 <= each < 1 << 32 for each in key)


def _grid(pairs: list[tuple[int, Any]]) -> list[tuple[int, bytes]]:
    return [(i, bytes(encode_grid(np.array([key], np.int64))[0])) for i, key in pairs]


def _encoded(pairs: list[tuple[int, Any]]) -> list[tuple[int, bytes]]:
    if not pairs:
        return []
    return list(zip((i for i, _ in pairs), encode_keys([key for _, key in pairs]).tolist(), strict=True))


def _of_samples(
    source: NodeSource, node: ColumnNode, pairs: list[tuple[int, Any]]
) -> Iterator[tuple[Entries, set[int]]]:
    """Yield all sub-samples of the samples of a nested column."""
    for i, key in pairs:
        low = sample_prefix(key)
        high = next_prefix(low)
        for leaf in iter_leaves(node.root, source, start=low, stop=high):
            keys = leaf.keys
            first = int(np.searchsorted(keys, np.bytes_(low), "left"))
            last = int(np.searchsorted(keys, np.bytes_(high), "left"))
            if first < last:
                yield leaf.entries.take(slice(first, last)).compact(), {i}


def _windows(parts: Iterable[Entries]) -> Iterator[Entries]:
    held: list[Entries] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += len(part.table)
        if rows >= _WINDOW_ROWS:
            yield Entries.concat(held)
            held, rows = [], 0
    if held:
        yield Entries.concat(held)
