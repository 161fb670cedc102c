"""Write checkouts: stage changes to one branch, and commit them."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from hangarlake.arrays.array import WritableArray
from hangarlake.arrays.views import listed
from hangarlake.attributes import StagedAttributes, exact_json
from hangarlake.authors import parse_author
from hangarlake.checkout import NodeViews, ViewT
from hangarlake.columns import WritableColumn
from hangarlake.columns.layout import ColumnLayout, check_encoding
from hangarlake.columns.samples import schema_of
from hangarlake.conflicts import conflict_of, describe_conflicts
from hangarlake.diffs import Diff, DiffSide, diff_sides
from hangarlake.errors import (
    CommitConflictError,
    MergeConflictError,
    NodeExistsError,
    NothingToCommitError,
)
from hangarlake.merging import Granularity, Resolve, merge_into
from hangarlake.publish import Draft, publish
from hangarlake.racing import ATTEMPTS, give_way
from hangarlake.records.catalog import (
    Catalog,
    ColumnNode,
    ColumnSchema,
    check_node_name,
)
from hangarlake.records.merge import merge_catalogs
from hangarlake.records.models import Author, Commit
from hangarlake.records.movements import Movement
from hangarlake.records.refs import RefMovedError
from hangarlake.working_set import WorkingSet

if TYPE_CHECKING:
    from hangarlake.forking import ChangeSet, ForkedWriter

__all__ = ["WriteCheckout"]


class WriteCheckout(WorkingSet):
    """The one writer of a branch in this working copy.

    What is changed is staged: durable after :meth:`flush` or :meth:`close`, visible to others after :meth:`commit`. May be
    used from several threads, which take turns.
    """

    # ---- what a person uses -----------------------------------------------------------------------------------------

    @property
    def attrs(self) -> MutableMapping[str, Any]:
        """The repository's own attributes: JSON values, staged as they are set."""
        self._check_open()
        return StagedAttributes(lambda: copy.deepcopy(self._attrs), self._stage_attributes, self._lock)

    def _stage_attributes(self, attributes: dict[str, Any]) -> None:
        self._check_open()
        self._attrs = {name: exact_json(value, f"attribute {name!r}") for name, value in attributes.items()}

    @property
    def columns(self) -> WritableViews[WritableColumn]:
        """The columns by name; ``del w.columns[name]`` removes one."""
        return WritableViews(self, "column")

    @property
    def arrays(self) -> WritableViews[WritableArray]:
        """The Zarr arrays by path, in all groups; ``del w.arrays[path]`` removes one."""
        return WritableViews(self, "array")

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set one sample: ``w["images", "0001"] = image``."""
        if not isinstance(key, tuple) or len(key) < 2:
            raise TypeError("set samples with w[name, key] = value; columns are added with w.add_ndarray_column(…)")
        name, *rest = key
        self.view(name)[rest[0] if len(rest) == 1 else tuple(rest)] = value

    def __delitem__(self, key: Any) -> None:
        """Remove one sample (``del w["images", "0001"]``) or a whole column (``del w["images"]``)."""
        if isinstance(key, tuple):
            name, *rest = key
            del self.view(name)[rest[0] if len(rest) == 1 else tuple(rest)]
        else:
            self.remove(key)

    # ---- columns ----------------------------------------------------------------------------------------------------

    def add_ndarray_column(
        self,
        name: str,
        shape: Iterable[int | None] | int | None = None,
        dtype: npt.DTypeLike | None = None,
        *,
        prototype: Any = None,
        variable_shape: bool = False,
        nested: bool = False,
        encoding: Mapping[str, Any] | None = None,
    ) -> WritableColumn:
        """Add a column of arrays.

        Parameters
        ----------
        name : str
        shape : tuple of int
            Of every sample; with `variable_shape` the maximum, ``None`` in a dimension for unbounded.
        dtype : dtype-like
        prototype : ndarray, optional
            To take shape and dtype from instead.
        variable_shape : bool
            Whether samples may be smaller; the rank is fixed.
        nested : bool
            Whether each sample is a mapping of sub-samples.
        encoding : mapping, optional
            ``compressor``, ``level``, ``chunk_bytes``, ``chunk_shape``: how new chunks are stored. Advisory.

        Raises
        ------
        SchemaError
            If the declaration cannot be stored.
        NodeExistsError
            If the name is taken.
        """
        dims = shape if shape is None or isinstance(shape, int) else tuple(shape)
        schema = schema_of(str(name), dims, dtype, prototype, variable_shape=variable_shape, nested=nested)
        return self._add_column(name, schema, encoding)

    def add_str_column(
        self, name: str, *, nested: bool = False, encoding: Mapping[str, Any] | None = None
    ) -> WritableColumn:
        """Add a column of text. Raises as :meth:`add_ndarray_column`."""
        return self._add_column(name, ColumnSchema.scalar_run("str", nested=nested), encoding)

    def add_bytes_column(
        self, name: str, *, nested: bool = False, encoding: Mapping[str, Any] | None = None
    ) -> WritableColumn:
        """Add a column of byte strings. Raises as :meth:`add_ndarray_column`."""
        return self._add_column(name, ColumnSchema.scalar_run("bytes", nested=nested), encoding)

    def add_json_column(
        self, name: str, *, nested: bool = False, encoding: Mapping[str, Any] | None = None
    ) -> WritableColumn:
        """Add a column of JSON values. Raises as :meth:`add_ndarray_column`."""
        return self._add_column(name, ColumnSchema.scalar_run("json", nested=nested), encoding)

    def _add_column(self, name: str, schema: ColumnSchema, encoding: Mapping[str, Any] | None) -> WritableColumn:
        with self._lock:
            self._check_open()
            self._check_free(name)
            options = check_encoding(name, encoding)
            ColumnLayout.of(name, schema, options)  # raises before anything is staged
            self._nodes[name] = ColumnNode(schema, None, {}, options)
            self._views.pop(name, None)
            view: WritableColumn = self.view(name)
            return view

    def _check_free(self, name: str) -> None:
        check_node_name(name)
        if name in self._nodes:
            raise self._taken(name)
        above = ["/".join(name.split("/")[:i]) for i in range(1, name.count("/") + 1)]
        for other in above:
            if other in self._nodes and self._nodes[other].type != "group":
                raise NodeExistsError(
                    f"{name!r} would lie below the {self._nodes[other].type} {other!r}; choose another name"
                )
        below = self._nodes.first_below(name)
        if below is not None:
            raise NodeExistsError(f"{name!r} would lie above {below!r}; choose another name")

    def remove(self, name: str) -> None:
        """Stage the removal of a column or array (or of a group and everything in it).

        Raises
        ------
        NodeNotFoundError
        """
        with self._lock:
            self._check_open()
            gone = [n for n in (name, *self._nodes.below(name)) if n in self._nodes]
            if not gone:
                raise self.absent(name)
            for each in gone:
                del self._nodes[each]
                self._stages.pop(each, None)
                self._views.pop(each, None)
                self._forget_rename(each)

    def rename(self, old: str, new: str) -> None:
        """Rename a column or array (or a group and everything in it): book-keeping alone, no data is touched.

        Raises
        ------
        NodeNotFoundError, NodeExistsError, SchemaError
        """
        with self._lock:
            self._check_open()
            moving = sorted(n for n in (old, *self._nodes.below(old)) if n in self._nodes)
            if not moving:
                raise self.absent(old)
            if old == new:
                return
            held = {n: self._nodes.pop(n) for n in moving}
            try:
                self._check_free(new)
                if new.startswith(f"{old}/"):
                    raise NodeExistsError(f"{old!r} cannot be moved below itself")
            except BaseException:
                self._nodes |= held
                raise
            origin = {now: before for before, now in self._renames.items()}
            for name, node in held.items():
                target = new + name[len(old) :]
                self._nodes[target] = node
                stage = self._stages.pop(name, None)
                if stage is not None:
                    stage.name = target
                    self._stages[target] = stage
                self._views.pop(name, None)
                first = origin.get(name, name)
                self._renames.pop(first, None)
                if first != target and first in self._base.catalog.nodes:
                    self._renames[first] = target
            if any(not isinstance(node, ColumnNode) for node in held.values()):
                self._add_groups(new)

    # ---- the working state ------------------------------------------------------------------------------------------

    def status(self) -> Diff:
        """Return what is staged: the difference from the commit that it is relative to."""
        with self._lock:
            self._check_open()
            return diff_sides(self._session, DiffSide(self._base.catalog, self._base.commit.id), self._diff_side())

    def flush(self) -> None:
        """Make what is staged durable (nothing with ``staging="memory"``): it survives a crash from here on."""
        with self._lock:
            self._check_open()
            self._flush()

    def reset(self, nodes: Iterable[str] | str | None = None) -> None:
        """Drop what is staged: everything, to go on from where the branch stands now, or the changes of some columns and arrays.

        Raises
        ------
        NodeNotFoundError
            If a name is neither staged nor in the commit; nothing is dropped then.
        NodeExistsError
            If what is staged under another name is where one of them would go back to; nothing is dropped then.
        """
        with self._lock:
            self._check_open()
            if nodes is None:
                head = self._session.refs.head(self._branch)
                base = self._base
                if head is not None and head.commit is not None:
                    base = self._session.snapshot_of(head.commit, head)
                    self._head = head
                self._forget()
                self._adopt(base)
            else:
                self._reset_nodes([nodes] if isinstance(nodes, str) else list(nodes))
            self._flush()

    # ---- committing -------------------------------------------------------------------------------------------------

    def commit(
        self, message: str, *, author: str | Author | None = None, rebase: bool = True, allow_empty: bool = False
    ) -> Commit:
        """Commit what is staged, all of it or nothing.

        If the branch has moved meanwhile and the other commits touch other things, the changes are replayed on the new
        head and tried again.

        Parameters
        ----------
        message : str
        author : str, optional
            ``"Name <mail>"``; by default the repository's.
        rebase : bool
            ``False`` raises instead of replaying.
        allow_empty : bool
            Commit even if nothing is staged.

        Returns
        -------
        Commit

        Raises
        ------
        NothingToCommitError
            If nothing is staged; or nothing is left of it, because others have committed the very same meanwhile. (Two writers who
            make one change do not conflict: the branch has it once, by whoever was first.)
        CommitConflictError
            With the list of what both touched. What is staged stays as it is.
        StorageError
            What is staged stays as it is.
        """
        if not isinstance(message, str):
            raise TypeError(f"a commit message is a str, not {type(message).__name__}")
        with self._lock:
            self._check_open()
            working = self._working()
            if self._is_base(working) and not allow_empty:
                raise NothingToCommitError(
                    f"nothing is staged on {self._branch!r}; change something first, or pass allow_empty=True"
                )
            by = parse_author(author) or self._session.author
            return self._commit(working, message, by, rebase=rebase, allow_empty=allow_empty)

    def _commit(
        self,
        working: Catalog,
        message: str,
        author: Author,
        *,
        rebase: bool,
        allow_empty: bool,
    ) -> Commit:
        if self._head.commit != self._base.commit.id:
            # Resumed changes are relative to the commit at which they were begun.
            working = self._replay(self._head, working, rebase=rebase, allow_empty=allow_empty)
        for attempt in range(ATTEMPTS):
            began = time.monotonic()
            draft = Draft([self._base.commit], working, [dict(self._renames)], message, author)
            try:
                published = publish(self._session, self._branch, self._head, draft, self._staged, self._uploader)
            except RefMovedError as moved:
                give_way(attempt, time.monotonic() - began)
                head = self._session.refs.head(self._branch) or moved.movement
                working = self._replay(head, working, rebase=rebase, allow_empty=allow_empty)
            else:
                self._settle(published)
                return published.snapshot.commit
        raise CommitConflictError(
            f"branch {self._branch!r} was moved by others {ATTEMPTS} times in a row; what is staged is kept: commit again"
        )

    def _replay(self, head: Movement, working: Catalog, *, rebase: bool, allow_empty: bool) -> Catalog:
        """Put the staged changes on top of a new head of the branch; unless `allow_empty`, some of them must be new to it."""
        if head.commit is None:
            raise CommitConflictError(
                f"branch {self._branch!r} was deleted by {head.author}; create it again, what is staged is kept"
            )
        if not rebase:
            raise CommitConflictError(
                f"branch {self._branch!r} has moved to {head.commit[:12]} by {head.author} ({head.message!r}); "
                "commit with rebase=True to replay what is staged on it"
            )
        onto = self._session.snapshot_of(head.commit, head)
        graph = self._session.graph
        descends = graph.is_ancestor(self._base.commit.id, onto.commit.id)
        result = merge_catalogs(
            self._base.catalog,
            onto.catalog,
            working,
            renames_ours=graph.renames_between(self._base.commit.id, onto.commit.id) if descends else {},
            renames_theirs=self._renames,
            source=self._staged,
            sink=self._staged,
        )
        if result.conflicts:
            conflicts = [conflict_of(raw, self._session.chunks, self._uploader) for raw in result.conflicts]
            raise CommitConflictError(
                f"branch {self._branch!r} has moved to {head.commit[:12]}, which touches the same as what is staged: "
                f"{describe_conflicts(conflicts)}; drop those with w.reset(names) and commit the rest, "
                "or stage them on a branch of their own and merge that",
                conflicts,
            )
        self._take_merged(onto, head, result)
        replayed = self._working()
        if self._is_base(replayed) and not allow_empty:
            raise NothingToCommitError(
                f"what was staged on {self._branch!r} has been committed to it already, as {head.commit[:12]} shows; "
                "nothing is left to commit"
            )
        return replayed

    def merge(
        self,
        source: str | Commit,
        *,
        message: str | None = None,
        resolve: Resolve | None = None,
        granularity: Granularity = "chunk",
    ) -> Commit:
        """Merge a revision into the branch and go on from there; parameters and errors are those of :meth:`Repository.merge`.

        Raises
        ------
        MergeConflictError
            Also if something is staged: commit or reset it first. Nothing was changed.
        """
        with self._lock:
            self._check_open()
            if not self._is_base(self._working()):
                raise MergeConflictError(
                    f"{self._where()} has staged changes, which a merge would mix with; commit or reset them first"
                )
            merged = merge_into(
                self._session, self._branch, source, message=message, resolve=resolve, granularity=granularity
            )
            self._settle(merged)
            return merged.snapshot.commit

    # ---- together with others ---------------------------------------------------------------------------------------

    def fork(self) -> ForkedWriter:
        """Return a small writer that pickles to another process and writes parts of this checkout there.

        It sees what is staged here now (which is uploaded for that). What it wrote comes back by ``w.join(fork.changes())``.
        """
        from hangarlake.forking import fork

        return fork(self)

    def join(self, *change_sets: ChangeSet) -> None:
        """Stage what forks of this checkout wrote: all of it or nothing. Equal values of two forks are no conflict.

        Raises
        ------
        MergeConflictError
            If two of them, or one of them and what was staged here since, have different values for one key or chunk.
        """
        from hangarlake.forking import join

        join(self, change_sets)

    # ---- leaving ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave: what is staged is kept for the next write checkout (dropped with ``staging="memory"``), and the lock released."""
        with self._lock:
            if self._closed:
                return
            try:
                self._flush()
            finally:
                self._closed = True
                self._views = {}
                if self._staging is not None:
                    self._staging.close()

    def __del__(self) -> None:
        # Without close() nothing is flushed, but the lock must not outlive the checkout.
        staging = None if self._closed else getattr(self, "_staging", None)
        if staging is not None:
            staging.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{self._where()} cannot be pickled; use w.fork() for other processes")

    def __repr__(self) -> str:
        if self._closed:
            return f"<WriteCheckout of {self._branch!r}, closed>"
        names = listed(self._nodes)
        return f"<WriteCheckout of {self._branch!r} at {self._base.commit.id[:12]}, {self._session.url}: {names}>"

    def _repr_html_(self) -> str:
        return f"<p><b>WriteCheckout</b> {self._branch}</p>{self._table()}"


class WritableViews(NodeViews[ViewT]):
    """The columns or arrays of a write checkout by name."""

    def __delitem__(self, name: str) -> None:
        self[name]
        checkout = self._checkout
        assert isinstance(checkout, WriteCheckout)
        checkout.remove(name)
