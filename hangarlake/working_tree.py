"""The tree that a writer works on, of one column or array: what is staged on top of it is folded into it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.records.catalog import CatalogNode
from hangarlake.records.entries import Entries
from hangarlake.records.keys import KeyArray
from hangarlake.records.node import NodeRef
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.tree import apply_edits

__all__ = ["WorkingTree"]


class WorkingTree(ABC):
    """The staged state of one column or array. Not thread-safe: the write checkout holds a lock around it.

    Parameters
    ----------
    name : str
        For messages; follows renames.
    root : NodeRef or None
        The working tree.
    nodes : StagedNodes
        Where its nodes are, and where new ones go.
    uploader : ChunkUploader
        Where new chunks go.
    folded : callable
        Called after each fold.
    """

    def __init__(
        self,
        name: str,
        root: NodeRef | None,
        nodes: StagedNodes,
        uploader: ChunkUploader,
        folded: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.root = root
        self._nodes = nodes
        self._uploader = uploader
        self._folded = folded

    @property
    def roots(self) -> list[NodeRef]:
        """The trees that must stay."""
        return [self.root] if self.root is not None else []

    @abstractmethod
    def matches(self, node: CatalogNode) -> bool:
        """Tell whether this can go on as the stage of a node."""

    @abstractmethod
    def fold(self) -> NodeRef | None:
        """Apply what is staged to the working tree; return its root."""

    def adopt(self, upserts: Entries, removes: KeyArray) -> None:
        """Apply edits of another writer, whose chunks are in the bucket."""
        self.fold()
        self.rebase(apply_edits(self.root, upserts, removes, self._nodes, self._nodes))
        self._folded()

    def rebase(self, root: NodeRef | None) -> None:
        """Go on from another tree (after a commit, a merge or a replay). Nothing may be staged on top."""
        self.root = root
