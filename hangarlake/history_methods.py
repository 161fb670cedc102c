"""What a person asks of a repository's history: the methods of :class:`Repository` about it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from hangarlake.checkout import BaseCheckout, side_of
from hangarlake.diffs import Diff, diff_sides
from hangarlake.errors import RevisionNotFoundError
from hangarlake.history import cherry_pick, log_of_node, revert
from hangarlake.merging import Granularity, Resolve, merge_into
from hangarlake.records.models import Commit, RefEntry
from hangarlake.records.revisions import split_range
from hangarlake.session import Session

__all__ = ["HistoryMethods"]


class HistoryMethods:
    """The part of :class:`Repository` that looks at history and joins lines of it. It reads book-keeping alone."""

    _session: Session

    def _or_default(self, branch: str | None) -> str:
        return self._session.marker.default_branch if branch is None else branch

    def resolve(self, rev: str | Commit | None = None) -> Commit:
        """Return the commit that a revision means (the default branch's by default).

        Raises
        ------
        RevisionNotFoundError, AmbiguousRevisionError
        """
        return self._session.graph.commit(self._session.locate(rev).commit)

    def log(
        self, rev: str | Commit | None = None, *, limit: int | None = None, node: str | None = None, key: Any = None
    ) -> Iterator[Commit]:
        """Yield commits, newest first: children before their parents, whatever the clocks said.

        Parameters
        ----------
        rev : revision, optional
            Where to begin; or ``"A..B"`` for the commits that can be reached from B and not from A.
        limit : int, optional
            How many at most.
        node : str, optional
            Only commits that changed this column, array or group, which is followed through renames. A merge is among them if it
            holds something else than each of its parents.
        key : optional
            Only commits that changed this sample of it (in a nested column: any of its sub-samples, or one, as a pair), or
            this chunk of an array.

        Raises
        ------
        RevisionNotFoundError
        NodeNotFoundError
            At the end, if no commit of the history that was looked through holds `node`.
        """
        if key is not None and node is None:
            raise ValueError("the log of a key needs the column or array it is in: log(node=…, key=…)")
        start, without = split_range(rev)
        tip = self._session.locate(start).commit
        exclude = [] if without is None else [self._session.locate(without).commit]
        if node is None:
            commits = self._session.graph.walk([tip], exclude=exclude)
        else:
            commits = log_of_node(self._session, tip, node, key, exclude=exclude)
        return islice(commits, limit if limit is None else max(limit, 0))

    def reflog(self, branch: str) -> Iterator[RefEntry]:
        """Yield where a branch has stood, newest first, deletions included.

        Raises
        ------
        RevisionNotFoundError
            If there never was such a branch.
        """
        movements = self._session.refs.log(branch)
        first = next(movements, None)
        if first is None:
            raise RevisionNotFoundError(
                f"there never was a branch {branch!r}; the branches are: {', '.join(self._session.refs.branches()) or 'none'}"
            )

        def entries() -> Iterator[RefEntry]:
            yield first.entry
            for movement in movements:
                yield movement.entry

        return entries()

    def diff(self, base: str | Commit | BaseCheckout, other: str | Commit | BaseCheckout) -> Diff:
        """Compare two states; always read as from `base` to `other`.

        Parameters
        ----------
        base, other : revision or checkout
            A write checkout stands for what is staged in it.

        Raises
        ------
        RevisionNotFoundError, AmbiguousRevisionError
        """
        return diff_sides(self._session, side_of(self._session, base), side_of(self._session, other))

    def merge_base(self, a: str | Commit, b: str | Commit) -> Commit | None:
        """Return the best common ancestor of two commits, or ``None`` if their histories are unrelated.

        Found from the graph alone, never from clocks. Of several (criss-cross histories), the one of the greatest generation, and of
        these the one of the least id.

        Raises
        ------
        RevisionNotFoundError, AmbiguousRevisionError
        """
        graph = self._session.graph
        found = graph.merge_base(self._session.locate(a).commit, self._session.locate(b).commit)
        return None if found is None else graph.commit(found)

    def merge(
        self,
        source: str | Commit,
        into: str | None = None,
        *,
        message: str | None = None,
        resolve: Resolve | None = None,
        granularity: Granularity = "chunk",
    ) -> Commit:
        """Merge a revision into a branch: three-way, by book-keeping alone.

        What is staged on the branch in a working copy is kept apart: it is neither merged nor touched, and is put on top of the
        merge when it is committed.

        Parameters
        ----------
        source : revision
            One at a time.
        into : str, optional
            A branch; by default the default branch.
        message : str, optional
            Makes a merge commit even where the branch could just move forward.
        resolve : "ours", "theirs", "concatenate" or callable, optional
            ``"ours"`` and ``"theirs"`` decide every conflict. A callable is given each :class:`Conflict` and returns
            ``hl.OURS``, ``hl.THEIRS``, ``hl.REMOVE``, one of its sides, or a value for the key or attribute; ``None`` leaves it open.
            ``"concatenate"`` puts two appends to an array one behind the other.
        granularity : "chunk" or "element"
            Whether two edits of one chunk of an array conflict, or only two edits of one element.

        Returns
        -------
        Commit
            Where the branch stands now: its present head if `source` is merged already, `source` after a fast-forward, else
            a new merge commit.

        Raises
        ------
        MergeConflictError
            With every conflict that is left; nothing was changed.
        CommitConflictError
            If the branch was deleted meanwhile, or others were faster time and again; nothing was changed.
        SchemaError
            If a resolution does not fit its column; nothing was changed.
        RevisionNotFoundError, AmbiguousRevisionError
        """
        branch = self._or_default(into)
        merged = merge_into(self._session, branch, source, message=message, resolve=resolve, granularity=granularity)
        return merged.snapshot.commit

    def revert(
        self,
        rev: str | Commit,
        *,
        branch: str | None = None,
        message: str | None = None,
        mainline: int | None = None,
        resolve: Resolve | None = None,
    ) -> Commit:
        """Undo what one commit changed, by a new commit on a branch.

        Parameters
        ----------
        rev : revision
        branch : str, optional
            By default the default branch.
        message : str, optional
        mainline : int, optional
            Number of a parent, from 1: what a merge commit changed relative to it. Needed for merges.
        resolve
            As for :meth:`merge`; "theirs" is the state before the commit.

        Raises
        ------
        MergeConflictError
            If later commits changed the same things; nothing was changed.
        NothingToCommitError
            If there is nothing to undo.
        ValueError
            If it is a merge and `mainline` is missing.
        """
        made = revert(self._session, self._or_default(branch), rev, message=message, mainline=mainline, resolve=resolve)
        return made.snapshot.commit

    def cherry_pick(
        self,
        rev: str | Commit,
        *,
        branch: str | None = None,
        message: str | None = None,
        mainline: int | None = None,
        resolve: Resolve | None = None,
    ) -> Commit:
        """Repeat what one commit changed, by a new commit on a branch. It keeps the author and, unless told otherwise, the message.

        Parameters and errors are those of :meth:`revert`; "theirs" is the state of `rev`.
        """
        made = cherry_pick(
            self._session, self._or_default(branch), rev, message=message, mainline=mainline, resolve=resolve
        )
        return made.snapshot.commit
