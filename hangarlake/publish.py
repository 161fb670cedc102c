"""Publishing a commit: everything content-addressed at once, then one create that makes it visible (DESIGN §2)."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.errors import ObjectNotFoundError, StorageError
from hangarlake.records.canonical import utc_now
from hangarlake.records.catalog import Catalog, CatalogNode, GroupNode, catalog_key
from hangarlake.records.commits import commit_key, encode_commit, next_generation
from hangarlake.records.graph import segment_due, write_segment
from hangarlake.records.models import Author, Commit
from hangarlake.records.movements import Movement
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.treepacks import TreePack, TreePacker, copy_tops
from hangarlake.session import Session, Snapshot
from hangarlake.storage.executors import io_pool, map_io

__all__ = ["Draft", "Published", "located", "publish", "stand_fields"]

_log = logging.getLogger(__name__)
# Catalogs up to this size travel inside refs.
_INLINE_CATALOG = 64 << 10
_TREES_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Draft:
    """A commit to be; `mover` is who moves the branch, if that is not its author."""

    parents: Sequence[Commit]
    catalog: Catalog
    renames: Sequence[dict[str, str]]
    message: str
    author: Author
    operation: str = "commit"
    mover: Author | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A commit that is visible."""

    snapshot: Snapshot
    movement: Movement


def stand_fields(session: Session, snapshot: Snapshot) -> dict[str, Any]:
    """Return what a ref that stands on a commit carries: its record, and copies of what readers need next."""
    catalog = snapshot.catalog
    record = session.graph.records([snapshot.commit.id])[snapshot.commit.id]
    return {"commit": snapshot.commit.id, "record": record, **_copies(session, catalog)}


def _copies(session: Session, catalog: Catalog) -> dict[str, Any]:
    physical = catalog.physical()
    if len(catalog.logical_text) + sum(len(str(root)) for root in physical["roots"].values()) > _INLINE_CATALOG:
        return {"catalog": None, "physical": None, "nodes": None}
    return {"catalog": catalog.logical_text, "physical": physical, "nodes": copy_tops(catalog, session.nodes)}


def publish(
    session: Session, branch: str, expected: Movement | None, draft: Draft, staged: StagedNodes, uploader: ChunkUploader
) -> Published:
    """Write a commit and move a branch to it: two sequential round trips.

    Raises
    ------
    RefMovedError
        If the branch has moved on from `expected`. What was uploaded stays, so another attempt is cheap.
    StorageError
        If the store failed; the branch has not moved, unless the message says that this is unknown.
    """
    uploader.seal()
    trees: deque[Future[None]] = deque()

    def send(pack: TreePack) -> None:
        # At once, so that it travels while the next is laid; a few at a time, so that they do not fill the memory.
        trees.append(io_pool().submit(session.store.put, pack.key, pack.data))
        while len(trees) > _TREES_AT_ONCE:
            trees.popleft().result()

    packer = TreePacker(staged, uploader.places, send)
    for node in draft.catalog.nodes.values():
        if node.root is not None:
            packer.add(node.root)
    laid = packer.finish()
    catalog = located(draft.catalog, packer)
    time = utc_now()
    commit_id, record = encode_commit(
        catalog=catalog.id,
        parents=[parent.id for parent in draft.parents],
        generation=next_generation(draft.parents),
        author=draft.author,
        message=draft.message,
        time=time,
        renames=draft.renames,
    )
    key, encoded = catalog_key(catalog.id), catalog.encode()
    created = True

    def put_catalog() -> None:
        nonlocal created
        created = session.store.put_new(key, encoded)

    # The calling thread waits for the chunks while the I/O threads write the records.
    tasks: list[Callable[[], None]] = [
        uploader.flush,
        put_catalog,
        lambda: session.store.put(commit_key(commit_id), record),
    ]
    map_io(lambda task: task(), tasks)
    while trees:
        trees.popleft().result()
    if not created:
        _settle_catalog(session, key, encoded)
    session.nodes.add(laid)
    session.keep_catalog(catalog)
    commit = session.graph.add(commit_id, record)
    movement = session.refs.move(
        branch,
        expected,
        commit=commit_id,
        operation=draft.operation,
        author=draft.mover or draft.author,
        message=draft.message,
        record=record,
        time=time,
        **_copies(session, catalog),
    )
    if segment_due(commit):
        with contextlib.suppress(RuntimeError):  # no new threads at interpreter exit: a segment is never needed
            io_pool().submit(_segment, session, commit)
    return Published(Snapshot(commit, catalog), movement)


def _settle_catalog(session: Session, key: str, encoded: bytes) -> None:
    """Make sure that a catalog which was there before points at trees that exist: ours do (format §8)."""
    try:
        present = session.store.get(key)
    except ObjectNotFoundError:
        present = b""
    if present != encoded:
        session.store.put(key, encoded)


def located(catalog: Catalog, packer: TreePacker) -> Catalog:
    """Return a catalog whose roots are where a packer has laid them."""
    nodes: dict[str, CatalogNode] = {}
    inlined: dict[bytes, bytes] = {}
    for name, node in catalog.nodes.items():
        if isinstance(node, GroupNode) or node.root is None:
            nodes[name] = node
            continue
        root = packer.root(node.root)
        nodes[name] = replace(node, root=root)
        if root.pack is None:
            stored = packer.inlined.get(root.id) or catalog.inlined.get(root.id)
            if stored is None:
                raise StorageError(
                    f"the tree of {name!r} is neither staged nor stored; reset the checkout and try again"
                )
            inlined[root.id] = stored
    return replace(catalog.with_nodes(nodes), inlined=inlined)


def _segment(session: Session, commit: Commit) -> None:
    try:
        write_segment(session.store, session.graph, commit)
    except OSError as error:
        _log.info("no history segment beside %s: %s", commit.id, error)
