"""The working set of a write checkout: what was changed relative to a commit, and how it is kept.

Columns and arrays stage their changes themselves; this holds them together as one working catalog, which can be folded, written to the
staging file, taken up again, and moved to another commit.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hangarlake.arrays.stage import ArrayStage
from hangarlake.arrays.views import WritableArrayViews
from hangarlake.checkout import BranchCheckout
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.columns import WritableColumn
from hangarlake.columns.layout import ColumnLayout
from hangarlake.columns.lookup import HotNodes
from hangarlake.columns.nested import WritableNestedColumn
from hangarlake.columns.stage import ColumnStage
from hangarlake.diffs import DiffSide
from hangarlake.errors import NodeExistsError, StorageError
from hangarlake.namespace import NodeTable
from hangarlake.publish import Published
from hangarlake.records.catalog import Catalog, CatalogNode, ColumnNode, GroupNode
from hangarlake.records.merge import MergeResult
from hangarlake.records.movements import Movement
from hangarlake.records.node import NodeRef
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.tree import NodeSource
from hangarlake.session import Snapshot
from hangarlake.staged import log_resumed, taken_up
from hangarlake.staging import StagedState, Staging

if TYPE_CHECKING:
    from hangarlake.repository import Repository

__all__ = ["WorkingSet"]

_log = logging.getLogger(__name__)

# Staged nodes beyond this are written to the staging file, so that ingest runs in bounded memory.
_SPILL_BYTES = 32 << 20


class WorkingSet(WritableArrayViews, BranchCheckout):
    """What a writer has changed on one branch and not committed."""

    def __init__(
        self, repository: Repository, branch: str, head: Movement, base: Snapshot, staging: Staging | None
    ) -> None:
        self._repository = repository
        self._session = repository._session
        self._branch = branch
        self._head = head
        self._staging = staging
        self._lock = threading.RLock()
        self._staged = StagedNodes(self._session.nodes, staging.fetch if staging is not None else None)
        self._hot = HotNodes(self._staged)
        self._uploader = ChunkUploader(self._session.store)
        self._adopt(base)
        self._resume()

    def _adopt(self, base: Snapshot) -> None:
        """Begin from a commit, with nothing staged."""
        self._base = base
        self._nodes = NodeTable(base.catalog.nodes)
        self._attrs: dict[str, Any] = dict(base.catalog.attrs)
        self._inlined: dict[bytes, bytes] = dict(base.catalog.inlined)
        self._renames: dict[str, str] = {}
        self._stages: dict[str, ColumnStage | ArrayStage] = {}
        self._views = {}

    def _resume(self) -> None:
        """Take over what an earlier session staged and did not commit."""
        state = self._staging.load() if self._staging is not None else None
        if state is None or self._staging is None:
            return
        resumed = taken_up(self._session, self._base, state)
        if resumed is None:
            self._staging.clear()
            return
        self._adopt(resumed.base)
        self._nodes, self._attrs = NodeTable(resumed.catalog.nodes), dict(resumed.catalog.attrs)
        self._inlined |= {key: data for key, data in resumed.catalog.inlined.items() if data}
        self._renames = dict(resumed.renames)
        self._staged.spilled = self._staging.node_ids()
        self._uploader.adopt(*self._staging.load_chunks())
        log_resumed(self._branch, resumed)

    @property
    def nodes(self) -> NodeSource:
        """Where tree nodes come from (internal): those of this moment stay for whoever goes through them."""
        return self._staged.held()

    @property
    def pending(self) -> ChunkUploader:
        """Chunks that are not in the bucket yet (internal)."""
        return self._uploader

    def _catalog_nodes(self) -> Mapping[str, Any]:
        return _Current(self._nodes, self._stages)

    def _where(self) -> str:
        return f"the write checkout of {self._branch!r}"

    def _make_view(self, name: str, node: Any) -> Any:
        if isinstance(node, ColumnNode):
            kind = WritableNestedColumn if node.schema.nested else WritableColumn
            return kind(self, name, self._stage, self._lock)
        return super()._make_view(name, node)

    def _stage(self, name: str) -> ColumnStage:
        if self._closed:
            self._check_open()
        stage = self._stages.get(name)
        if not isinstance(stage, ColumnStage):
            node = self.column_node(name)
            layout = ColumnLayout.of(name, node.schema, node.encoding)
            stage = ColumnStage(name, node.schema, layout, node.root, self._staged, self._uploader, self._relieve)
            self._stages[name] = stage
        return stage

    def _make_stage(self, name: str, root: NodeRef | None) -> ArrayStage:
        return ArrayStage(name, root, self._staged, self._uploader, self._relieve)

    def _taken(self, name: str) -> NodeExistsError:
        """Return the error for a name that is not free, which tells what is committed from what is only staged."""
        kind = self._nodes[name].type
        if name in self._base.catalog.nodes:
            return NodeExistsError(
                f"there is {'an' if kind == 'array' else 'a'} {kind} {name!r} on {self._branch!r} already: "
                f"use w[{name!r}], or remove it with w.remove({name!r})"
            )
        before = next((old for old, new in self._renames.items() if new == name), None)
        return NodeExistsError(
            f"{kind} {name!r} is staged already on {self._branch!r}{f' (renamed from {before!r})' if before else ''} and not "
            f"committed yet: use w[{name!r}], or {'undo that' if before else 'drop it'} with w.reset({name!r})"
        )

    def _forget_rename(self, name: str) -> None:
        self._renames = {old: new for old, new in self._renames.items() if new != name}

    def _relieve(self) -> None:
        """Called after a column was folded: move nodes to the staging file when there are many."""
        if self._staged.nbytes > _SPILL_BYTES and self._staging is not None:
            kept = self._staged.reachable(self._roots())
            self._staging.keep_nodes(kept)
            self._staged.spill(node.id for node in kept)

    def _roots(self) -> list[NodeRef]:
        roots = [node.root for name, node in self._nodes.items() if name not in self._stages and node.root is not None]
        return roots + [root for stage in self._stages.values() for root in stage.roots]

    def _working(self) -> Catalog:
        """Return the catalog with everything staged folded into it; new roots are in `_staged`."""
        for name, stage in self._stages.items():
            node = self._nodes[name]
            assert not isinstance(node, GroupNode)
            root = stage.fold()
            before = self._base.catalog.nodes.get(name)
            if root and root.pack is None and before and before.root and before.root.id == root.id:
                root = before.root  # what was changed and changed back is where it was
            self._nodes[name] = replace(node, root=root)
        return Catalog(dict(self._nodes), dict(self._attrs), self._inlined)

    def _is_base(self, working: Catalog) -> bool:
        """Tell whether nothing is staged."""
        return working.id == self._base.catalog.id and not self._renames

    def _diff_side(self) -> DiffSide:
        with self._lock:
            self._check_open()
            working = self._working()
            return DiffSide(working, self._base.commit.id, dict(self._renames), self._staged, self._uploader)

    def _flush(self) -> None:
        if self._staging is None:
            return
        working = self._working()
        if self._is_base(working):
            self._staging.clear()
            return
        self._uploader.flush(seal=False)
        text = working.logical_text
        state = StagedState(
            self._base.commit.id,
            {"logical": text, "physical": working.physical()},
            self._renames,
        )
        nodes = self._staged.reachable(self._roots())
        self._staging.save(state, nodes, self._uploader.unpacked(), self._uploader.places.values())

    def _forget(self) -> None:
        self._staged.clear()
        self._hot = HotNodes(self._staged)  # nodes with the same ids may come again, and lie elsewhere then
        self._uploader.forget()
        if self._staging is not None:
            self._staging.clear()

    def _reset_nodes(self, names: Sequence[str]) -> None:
        """Take nodes back to what the commit holds under their names, or held under the names that they had there."""
        base = self._base.catalog.nodes
        origin = {new: old for old, new in self._renames.items()}
        came_from = {name: origin.get(name, name) for name in names}
        for name, before in came_from.items():
            if name not in self._nodes and before not in base:
                raise self.absent(name)
            taken = before != name and before in self._nodes and before not in came_from
            if taken and before in base:
                raise NodeExistsError(
                    f"{name!r} was renamed from {before!r}, and another {self._nodes[before].type} has that name now; "
                    f"reset both, or rename or remove {before!r} first"
                )
        held = NodeTable(self._nodes)
        for name in came_from:
            self._nodes.pop(name, None)
        try:
            for before in came_from.values():
                if before in base:
                    self._check_room(before, base[before])
                    self._nodes[before] = base[before]
        except BaseException:
            self._nodes = held
            raise
        for name, before in came_from.items():
            self._renames.pop(before, None)
            for each in (name, before):
                self._stages.pop(each, None)
                self._views.pop(each, None)

    def _check_room(self, name: str, node: CatalogNode) -> None:
        """Refuse to put a node of the commit back where something that was staged since bars its path."""
        above = ["/".join(name.split("/")[:i]) for i in range(1, name.count("/") + 1)]
        barring = [other for other in above if other in self._nodes and self._nodes[other].type != "group"]
        if not isinstance(node, GroupNode):
            barring += self._nodes.below(name)
        base = self._base.catalog.nodes
        for other in barring:
            if other not in base or base[other].type != self._nodes[other].type:
                raise NodeExistsError(
                    f"{name!r} cannot go back to where it was, because {self._nodes[other].type} {other!r} is staged; "
                    "rename or remove that first"
                )

    def _take_merged(self, onto: Snapshot, head: Movement, result: MergeResult) -> None:
        self._base, self._head = onto, head
        self._nodes, self._attrs = NodeTable(result.catalog.nodes), dict(result.catalog.attrs)
        self._inlined = {**self._inlined, **result.catalog.inlined, **onto.catalog.inlined}
        self._renames = dict(result.renames[0])
        self._restage()

    def _restage(self) -> None:
        """Let the stages of columns go on from the trees that the catalog has now."""
        for name in list(self._stages):
            node = self._nodes.get(name)
            stage = self._stages[name]
            if node is not None and stage.matches(node):
                stage.rebase(node.root)
            else:
                del self._stages[name]
                self._views.pop(name, None)

    def _settle(self, published: Published) -> None:
        """After a commit: go on from it, with nothing staged."""
        self._head, self._base = published.movement, published.snapshot
        catalog = published.snapshot.catalog
        self._nodes, self._attrs = NodeTable(catalog.nodes), dict(catalog.attrs)
        self._inlined = dict(catalog.inlined)
        self._renames = {}
        self._restage()
        self._staged.clear()
        if self._uploader.settle():
            # What these remember of earlier commits refers to chunks by the places that were forgotten.
            self._stages = {}
            self._hot = HotNodes(self._staged)
        if self._staging is None:
            return
        try:
            self._staging.clear()
        except StorageError as error:
            # The commit stands, so it must not look as if it had failed. Whoever takes up what stays staged sees that it is published.
            _log.warning("commit %s was made, but the staging file was not cleared: %s", self._base.commit.id, error)


class _Current(Mapping[str, Any]):
    """The working catalog's nodes, with the roots of the stages that have been folded."""

    def __init__(self, nodes: dict[str, CatalogNode], stages: Mapping[str, ColumnStage | ArrayStage]) -> None:
        self._nodes = nodes
        self._stages = stages

    def __getitem__(self, name: str) -> CatalogNode:
        node = self._nodes[name]
        stage = self._stages.get(name)
        if stage is not None and not isinstance(node, GroupNode) and stage.root is not node.root:
            return replace(node, root=stage.root)
        return node

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)
