"""Checkouts: lazy, read-only views of one commit."""

from __future__ import annotations

import copy
import html
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from hangarlake.arrays.array import Array
from hangarlake.arrays.views import ArrayViews, listed, shown
from hangarlake.chunks.reader import ChunkReader
from hangarlake.columns.column import Column
from hangarlake.columns.lookup import HotNodes
from hangarlake.columns.nested import NestedColumn
from hangarlake.columns.owners import PendingChunks
from hangarlake.diffs import Diff, DiffSide, diff_sides
from hangarlake.errors import NodeNotFoundError, ReadOnlyError
from hangarlake.namespace import is_hidden
from hangarlake.records.canonical import canonical_json
from hangarlake.records.catalog import ArrayNode, Catalog, ColumnNode, GroupNode
from hangarlake.records.entries import Entries
from hangarlake.records.models import Commit
from hangarlake.records.tree import NodeSource
from hangarlake.session import Session, Snapshot

if TYPE_CHECKING:
    from hangarlake.repository import Repository

__all__ = ["BaseCheckout", "Checkout", "NodeViews", "side_of"]

ViewT = TypeVar("ViewT", covariant=True)


class NodeViews(Mapping[str, ViewT], Generic[ViewT]):
    """The columns (or arrays) of a checkout by name."""

    def __init__(self, checkout: BaseCheckout, kind: str) -> None:
        self._checkout = checkout
        self._kind = kind

    def __getitem__(self, name: str) -> ViewT:
        node = self._checkout.catalog_nodes.get(name)
        if node is None or node.type != self._kind:
            raise self._checkout.absent(name, self._kind)
        view: ViewT = self._checkout.view(name)
        return view

    def __contains__(self, name: object) -> bool:
        node = self._checkout.catalog_nodes.get(name) if isinstance(name, str) else None
        return node is not None and node.type == self._kind

    def __iter__(self) -> Iterator[str]:
        nodes = self._checkout.catalog_nodes
        return (n for n in sorted(nodes) if nodes[n].type == self._kind and not is_hidden(n))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<{self._kind}s: {', '.join(self) or 'none'}>"


class BaseCheckout(ArrayViews):
    """What read and write checkouts have in common."""

    _repository: Repository
    _session: Session
    _branch: str | None
    _views: dict[str, Any]
    _closed = False
    # What reads chunks, where it is not what the session does it with.
    _chunks: ChunkReader | None = None

    # ---- what a person uses -----------------------------------------------------------------------------------------

    @property
    def repository(self) -> Repository:
        """The repository that this is a view of."""
        return self._repository

    def close(self) -> None:
        """Close the view; using it afterwards raises ValueError."""
        self._closed = True
        self._views = {}

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what columns need of their checkout ------------------------------------------------------------------------

    @property
    def nodes(self) -> NodeSource:
        """Where tree nodes come from (internal)."""
        return self._session.nodes

    @property
    def chunks(self) -> ChunkReader:
        """What reads chunks (internal)."""
        return self._chunks or self._session.chunks

    def lacks(self, entries: Entries) -> npt.NDArray[np.bool_]:
        """Tell of each entry whether a part of its data is not in this bucket (internal)."""
        return self._session.locality.lacks(entries)

    @property
    def hot(self) -> HotNodes:
        """What finds single keys (internal)."""
        return self._session.hot

    @property
    def pending(self) -> PendingChunks | None:
        """Chunks that are not in the bucket yet (internal)."""
        return None

    @property
    def catalog_nodes(self) -> Mapping[str, Any]:
        """The nodes of the catalog by name (internal)."""
        self._check_open()
        return self._catalog_nodes()

    def _catalog_nodes(self) -> Mapping[str, Any]:
        raise TypeError("a checkout has a catalog")  # both kinds of checkout define it

    def column_node(self, name: str) -> ColumnNode:
        """Return the record of a column (internal).

        Raises
        ------
        NodeNotFoundError
        ValueError
            If the checkout is closed.
        """
        node = self.catalog_nodes.get(name)
        if not isinstance(node, ColumnNode):
            raise self.absent(name, "column")
        return node

    def absent(self, name: object, kind: str = "column or array") -> NodeNotFoundError:
        """Return the error for a name that is not there, telling which are of this kind (internal)."""
        nodes = self._catalog_nodes()
        names = [each for each in shown(nodes) if nodes[each].type in kind]
        there = (
            f"there are {', '.join(map(repr, names[:8]))}{' …' if len(names) > 8 else ''}"
            if names
            else f"it holds {f'no {kind}s' if nodes else 'nothing'} yet"
        )
        other = nodes.get(name) if isinstance(name, str) else None
        if other is not None:
            there = f"{name!r} is {'an' if other.type == 'array' else 'a'} {other.type}; {there}"
        return NodeNotFoundError(f"{self._where()} has no {kind} {name!r}; {there}")

    def _where(self) -> str:
        return "the checkout"

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self._where()} is closed; open another checkout")

    def view(self, name: str) -> Any:
        """Return the column or array of a name (internal)."""
        self._check_open()
        view = self._views.get(name)
        if view is None:
            node = self.catalog_nodes.get(name)
            if node is None:
                raise self.absent(name)
            view = self._make_view(name, node)
            if not isinstance(node, GroupNode):  # a group of zarr would not notice what is staged in it later
                view = self._views.setdefault(name, view)  # one for all threads: writers of an array take turns by it
        return view

    def _make_view(self, name: str, node: Any) -> Any:
        if isinstance(node, ColumnNode):
            return NestedColumn(self, name) if node.schema.nested else Column(self, name)
        return self._array_view(name) if isinstance(node, ArrayNode) else self._group_view(name)

    @property
    def place(self) -> str:
        """Where this is, for messages of other programs (internal)."""
        return f"{self._session.url}@{self._branch or self._where()}"

    def token_of(self, name: str) -> tuple[Any, ...]:
        """Return what identifies the content of a node in all processes (internal)."""
        node = self.catalog_nodes[name]
        return self._session.marker.id, name, canonical_json(node.logical()).decode()

    # ---- what a person uses -----------------------------------------------------------------------------------------

    @property
    def columns(self) -> NodeViews[Column]:
        """The columns by name."""
        return NodeViews(self, "column")

    @property
    def arrays(self) -> NodeViews[Array]:
        """The Zarr arrays by path, in all groups."""
        return NodeViews(self, "array")

    def diff(self, other: str | Commit | BaseCheckout) -> Diff:
        """Compare with another state; always read as from this one to `other`.

        Parameters
        ----------
        other : revision or checkout
            A write checkout stands for what is staged in it.

        Raises
        ------
        RevisionNotFoundError, AmbiguousRevisionError
        """
        return diff_sides(self._session, side_of(self._session, self), side_of(self._session, other))

    def _diff_side(self) -> DiffSide:
        raise TypeError("a checkout can be compared")  # both kinds of checkout define it

    def missing(self) -> dict[str, int]:
        """Return how many samples (or chunks of an array) are not in this repository's own bucket, by column or array.

        Nodes of which everything is here are left out. No data is read; see :meth:`Repository.fetch_data`.
        """
        locality, nodes = self._session.locality, self.catalog_nodes
        counts = {name: locality.count_missing(nodes[name].root, self.nodes)[0] for name in sorted(nodes)}
        return {name: count for name, count in counts.items() if count}

    def __getitem__(self, key: Any) -> Any:
        """Return a column or array (``co["images"]``), a value (``co["images", "0001"]``), or a tuple of
        values of one key in several columns (``co[["images", "labels"], "0001"]``)."""
        self._check_open()
        if isinstance(key, str):
            return self.view(key)
        if isinstance(key, tuple) and len(key) >= 2:
            names, *rest = key
            sample = rest[0] if len(rest) == 1 else tuple(rest)
            if isinstance(names, list):
                return tuple(self.view(name)[sample] for name in names)
            return self.view(names)[sample]
        raise TypeError(f"a checkout is indexed by a name, (name, key) or ([names], key), not {key!r}")

    # ---- changing (refused; write checkouts define it) --------------------------------------------------------------

    def _read_only(self) -> str:
        return f"{self._where()} is read-only; open a write checkout with repo.checkout(branch, write=True)"

    def __setitem__(self, key: Any, value: Any) -> None:
        self._check_open()
        raise ReadOnlyError(self._read_only())

    def __delitem__(self, key: Any) -> None:
        self._check_open()
        raise ReadOnlyError(self._read_only())

    if not TYPE_CHECKING:  # a type checker is to find the methods of write checkouts missing

        def __getattr__(self, name: str) -> Any:
            from hangarlake.write_checkout import WriteCheckout

            if name.startswith("_") or hasattr(type(self), name) or not hasattr(WriteCheckout, name):
                return object.__getattribute__(self, name)  # raises as it did
            # No ReadOnlyError: hasattr() and getattr() with a default ask like this, too.
            raise AttributeError(f"{type(self).__name__} has no {name!r}: {self._read_only()}", name=name, obj=self)

    # ---- names ------------------------------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.catalog_nodes

    def __iter__(self) -> Iterator[str]:
        return iter(shown(self.catalog_nodes))

    def __len__(self) -> int:
        return len(shown(self.catalog_nodes))

    def __bool__(self) -> bool:
        return True

    def _table(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{node.type}</td><td>{node.count:,}</td></tr>"
            for name, node in sorted(self._catalog_nodes().items())
            if not is_hidden(name)
        )
        return f"<table><tr><th>name</th><th>type</th><th>entries</th></tr>{rows}</table>"


class BranchCheckout(BaseCheckout):
    """What views of staged changes have in common: they are on a branch, relative to a commit."""

    _branch: str
    _base: Snapshot
    _hot: HotNodes

    @property
    def commit_base(self) -> Commit:
        """The commit that the staged changes are relative to."""
        return self._base.commit

    @property
    def branch(self) -> str:
        """The branch on which they are staged."""
        return self._branch

    @property
    def hot(self) -> HotNodes:
        """What finds single keys (internal)."""
        return self._hot


class Checkout(BaseCheckout):
    """A read-only view of one commit. Nothing is fetched before it is touched.

    Any number may be open at once, in any processes; each may be used from several threads. Pickles to the URL,
    its options and the commit (so a pickle holds ``storage_options``: treat it as you treat them).
    """

    def __init__(
        self, repository: Repository, snapshot: Snapshot, branch: str | None, read_through: bool | None = None
    ) -> None:
        self._repository = repository
        self._session = repository._session
        self._read_through = read_through
        self._chunks = self._session.reader(read_through)
        self._snapshot = snapshot
        self._branch = branch
        self._views = {}

    def _catalog_nodes(self) -> Mapping[str, Any]:
        return self._snapshot.catalog.nodes

    def _where(self) -> str:
        return f"the checkout of {self._snapshot.commit.id[:12]}"

    def _diff_side(self) -> DiffSide:
        return DiffSide(self._snapshot.catalog, self._snapshot.commit.id)

    def same_view(self, other: object) -> bool:
        """Tell whether another checkout shows the same commit of the same repository (internal)."""
        if self is other:
            return True
        if not isinstance(other, Checkout):
            return False
        mine, theirs = self._session, other._session
        return (mine.marker.id, mine.url, self.commit) == (theirs.marker.id, theirs.url, other.commit)

    @property
    def commit(self) -> Commit:
        """The commit that is looked at."""
        return self._snapshot.commit

    @property
    def branch(self) -> str | None:
        """The branch by which it was opened, if it was one."""
        return self._branch

    @property
    def attrs(self) -> dict[str, Any]:
        """The repository's own attributes at this commit (a copy)."""
        self._check_open()
        return copy.deepcopy(dict(self._snapshot.catalog.attrs))

    @property
    def catalog(self) -> Catalog:
        """The catalog of the commit (internal)."""
        return self._snapshot.catalog

    def __reduce__(self) -> tuple[Any, ...]:
        through = self._read_through
        return _open_checkout, (self._repository, self._snapshot.commit.id, self._branch, through)

    def __repr__(self) -> str:
        names = listed(self._snapshot.catalog.nodes)
        branch = f" ({self._branch})" if self._branch else ""
        return f"<Checkout {self._snapshot.commit.id[:12]}{branch} of {self._session.url}: {names}>"

    def _repr_html_(self) -> str:
        return (
            f"<p><b>Checkout</b> {self._snapshot.commit.id[:12]} {html.escape(self._branch or '')}</p>{self._table()}"
        )


def side_of(session: Session, state: str | Commit | BaseCheckout) -> DiffSide:
    """Return a revision or checkout as one side of a comparison (internal).

    Raises
    ------
    RevisionNotFoundError, AmbiguousRevisionError
    ValueError
        If the checkout is closed, or writes to another repository.
    """
    if isinstance(state, BaseCheckout):
        state._check_open()
        side = state._diff_side()
        if state._session is session:
            return side
        if side.staged is not None:
            if state._session.url != session.url:
                raise ValueError(
                    f"what is staged in {state._session.url} cannot be compared here; commit it and fetch it first"
                )
            session.snapshot_of(side.commit)
            return replace(side, staged=side.staged.frozen(session.nodes))
        state = session.graph.commit(side.commit)
    snapshot, _ = session.snapshot(state)
    return DiffSide(snapshot.catalog, snapshot.commit.id)


def _open_checkout(
    repository: Repository, commit_id: str, branch: str | None, read_through: bool | None = None
) -> Checkout:
    return Checkout(repository, repository._session.snapshot_of(commit_id), branch, read_through)
