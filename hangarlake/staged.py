"""Looking at what is staged on a branch without being its writer."""

from __future__ import annotations

import copy
import html
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hangarlake.arrays.views import listed
from hangarlake.checkout import BranchCheckout
from hangarlake.chunks.packs import ChunkRef
from hangarlake.chunks.uploader import PendingChunk
from hangarlake.columns.lookup import HotNodes
from hangarlake.diffs import Diff, DiffSide, diff_sides
from hangarlake.namespace import is_hidden
from hangarlake.records.canonical import digest
from hangarlake.records.catalog import Catalog
from hangarlake.records.diff import diff_catalogs
from hangarlake.records.movements import Movement
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.tree import NodeSource
from hangarlake.session import Session, Snapshot
from hangarlake.staging import StagedState, StagingSnapshot, writer_of

if TYPE_CHECKING:
    from hangarlake.repository import Repository

__all__ = ["Resumed", "StagedCheckout", "log_resumed", "taken_up"]

_log = logging.getLogger(__name__)

# Names of each kind that a log line tells.
_NAMED = 8


@dataclass(frozen=True, slots=True)
class Resumed:
    """What an earlier session staged and did not commit.

    Attributes
    ----------
    base : Snapshot
        What the changes are relative to.
    catalog : Catalog
        The working catalog; nodes of its trees may be in the staging file.
    renames : mapping of str to str
        Old name → new name since `base`.
    """

    base: Snapshot
    catalog: Catalog
    renames: Mapping[str, str]


def taken_up(session: Session, head: Snapshot, state: StagedState) -> Resumed | None:
    """Return what was staged, or ``None`` if that is what the branch holds by now.

    Then its commit was published, and the writer died before it could forget what it had staged.
    """
    text = state.catalog["logical"]
    catalog = Catalog.parse(digest(text.encode()), text, state.catalog["physical"])
    if catalog.id == head.catalog.id and state.base != head.commit.id:
        return None
    base = session.snapshot_of(state.base)
    session.nodes.add_inlined(base.catalog.decode_inlined())
    return Resumed(base, catalog, state.renames)


def log_resumed(branch: str, resumed: Resumed) -> None:
    """Say what a writer takes up, for whoever does not expect it: the work of a script that failed half-way, say. No tree is read."""
    changes = diff_catalogs(resumed.base.catalog, resumed.catalog, resumed.renames)
    parts = []
    for kind in ("column", "array", "group"):
        names = sorted({node.name for node in changes.nodes if node.type == kind and not is_hidden(node.name)})
        if names:
            shown = ", ".join(map(repr, names[:_NAMED])) + (" …" if len(names) > _NAMED else "")
            parts.append(f"{len(names):,} {kind}{'s' if len(names) != 1 else ''} changed ({shown})")
    if changes.attrs:
        parts.append("attributes changed")
    _log.warning(
        "%r has staged changes from before: %s; w.reset() drops them", branch, ", ".join(parts) or "keys of the store"
    )


class _KeptChunks:
    """Staged chunks: those in the staging file, and the places of those in the bucket."""

    def __init__(self, places: list[ChunkRef], kept: dict[bytes, PendingChunk]) -> None:
        self.places: Mapping[bytes, ChunkRef] = {ref.digest: ref for ref in places}
        self._kept = kept

    def pending(self, digest: bytes) -> PendingChunk | None:
        return self._kept.get(digest)


class StagedCheckout(BranchCheckout):
    """What is staged on a branch in this working copy: read-only, and as it was last flushed.

    Nothing is locked: a writer may go on, which is not seen here. Close it soon, for the writer's file grows as long as
    somebody looks. May be used from several threads.

    Attributes
    ----------
    writer : int or None
        Process id of the writer that has the branch checked out in this working copy at the moment. What it has not flushed
        is not seen.
    """

    def __init__(self, repository: Repository, head: Movement, place: StagingSnapshot) -> None:
        self._repository = repository
        self._session = session = repository._session
        self._branch = head.branch
        self._views = {}
        self._place = place
        self._base = session.snapshot_of(str(head.commit), head)
        self._catalog, self._renames = self._base.catalog, dict[str, str]()
        self._staged = StagedNodes(session.nodes, place.fetch)
        self._kept: _KeptChunks | None = None
        self.writer = writer_of(place.path)
        state = place.load()
        resumed = taken_up(session, self._base, state) if state is not None else None
        if resumed is not None:
            self._base, self._catalog, self._renames = resumed.base, resumed.catalog, dict(resumed.renames)
            self._staged.spilled = place.node_ids()
            self._kept = _KeptChunks(*place.load_chunks())
        self._hot = HotNodes(self._staged)

    @property
    def nodes(self) -> NodeSource:
        """Where tree nodes come from (internal)."""
        return self._staged

    @property
    def pending(self) -> _KeptChunks | None:
        """Chunks that are not in the bucket yet (internal)."""
        return self._kept

    def _catalog_nodes(self) -> Mapping[str, Any]:
        return self._catalog.nodes

    def _where(self) -> str:
        return f"what is staged on {self._branch!r}"

    def _diff_side(self) -> DiffSide:
        return DiffSide(self._catalog, self._base.commit.id, self._renames, self._staged, self._kept)

    # ---- what a person uses -----------------------------------------------------------------------------------------

    def status(self) -> Diff:
        """Return what is staged: the difference from the commit that it is relative to."""
        self._check_open()
        return diff_sides(self._session, DiffSide(self._base.catalog, self._base.commit.id), self._diff_side())

    @property
    def attrs(self) -> dict[str, Any]:
        """The repository's own attributes as they are staged (a copy)."""
        self._check_open()
        return copy.deepcopy(dict(self._catalog.attrs))

    def close(self) -> None:
        """Close the view; using it, or what was read from it lazily, afterwards raises ValueError or StorageError."""
        super().close()
        self._place.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{self._where()} cannot be pickled: it is in a file of this machine; commit it first")

    def __repr__(self) -> str:
        if self._closed:
            return f"<StagedCheckout of {self._branch!r}, closed>"
        names = listed(self._catalog.nodes)
        return f"<StagedCheckout of {self._branch!r} at {self._base.commit.id[:12]}, {self._session.url}: {names}>"

    def _repr_html_(self) -> str:
        return f"<p><b>StagedCheckout</b> {html.escape(self._branch)}</p>{self._table()}"
