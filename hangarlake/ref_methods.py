"""The branches and tags of a repository, and how they are made, moved and deleted: the methods of :class:`Repository` about them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hangarlake.errors import BranchExistsError, CommitConflictError
from hangarlake.merging import branch_head
from hangarlake.publish import stand_fields
from hangarlake.racing import ATTEMPTS, give_way
from hangarlake.records.models import Commit
from hangarlake.records.movements import Movement, Tag, check_branch_name, check_tag_name
from hangarlake.records.refs import RefMovedError
from hangarlake.session import Session, Snapshot
from hangarlake.storage.executors import map_io

__all__ = ["RefMethods"]

_log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_ID = re.compile(r"\b[0-9a-fA-F]{64}\b")


class RefMethods:
    """The part of :class:`Repository` that names commits."""

    _session: Session

    @property
    def branches(self) -> Mapping[str, str]:
        """All branches: name → commit id; those of remotes (``origin/main``) as they were last seen."""
        return {**self._session.tracking(), **self._session.refs.branches()}

    @property
    def tags(self) -> Mapping[str, str]:
        """All tags: name → commit id."""
        return self._session.refs.tags()

    def create_branch(self, name: str, at: str | Commit | None = None) -> str:
        """Create a branch and return the id of the commit it stands on.

        Parameters
        ----------
        name : str
            As git allows them.
        at : revision, optional
            By default the default branch.

        Raises
        ------
        BranchExistsError
            If there is a branch of that name.
        RevisionNotFoundError
        ValueError
            If no branch can have that name.
        """
        check_branch_name(name)
        self._session.check_writable()
        snapshot, _ = self._session.snapshot(at)
        reads: list[Callable[[str], Movement | Tag | None]] = [self._session.refs.head, self._session.refs.read_tag]
        head, tag = map_io(lambda read: read(name), reads)
        assert not isinstance(head, Tag)
        if head is not None and head.commit is not None:
            raise BranchExistsError(
                f"there is a branch {name!r} already, at {head.commit[:12]}; move it with reset_branch, or choose another name"
            )
        if tag is not None:
            _log_hidden(name)
        try:
            self._move(name, head, snapshot, "create", f"from {_shown(at or self._session.marker.default_branch)}")
        except RefMovedError as error:
            raise BranchExistsError(
                f"branch {name!r} was just created by {error.movement.author}; choose another name, or move it with reset_branch"
            ) from error
        return snapshot.commit.id

    def delete_branch(self, name: str, *, force: bool = False) -> None:
        """Delete a branch; its log stays, so ``reflog`` and ``create_branch(name, at=…)`` bring it back.

        Raises
        ------
        RevisionNotFoundError
            If there is none of that name.
        ValueError
            If its commits are on no other branch or tag, or it is the last branch, and `force` is not given.
        CommitConflictError
            If others moved it time and again; it is still there.
        """
        self._session.check_writable()

        def delete(head: Movement) -> None:
            if not force:
                self._check_deletable(name, str(head.commit))
            self._session.refs.move(
                name, head, commit=None, operation="delete", author=self._session.author, message=f"deleted {name}"
            )

        self._keep_trying(name, delete)

    def _check_deletable(self, name: str, commit: str) -> None:
        others = {other: at for other, at in self.branches.items() if other != name}
        if not self._session.refs.branches().keys() - {name}:
            raise ValueError(f"{name!r} is the last branch; pass force=True to delete it all the same")
        graph = self._session.graph
        if not any(graph.is_ancestor(commit, at) for at in {*others.values(), *self.tags.values()}):
            raise ValueError(
                f"branch {name!r} has commits that are on no other branch or tag; merge it, or pass force=True"
            )

    def reset_branch(self, name: str, to: str | Commit) -> str:
        """Move a branch to any commit; where it stood stays in :meth:`reflog`. Returns the new commit id.

        Raises
        ------
        RevisionNotFoundError
            If there is no such branch, or no such commit.
        CommitConflictError
            If others moved it time and again; it was not reset.
        """
        self._session.check_writable()
        snapshot, _ = self._session.snapshot(to)

        def reset(head: Movement) -> str:
            if head.commit != snapshot.commit.id:
                self._move(name, head, snapshot, "reset", f"reset to {_shown(to)}")
            return snapshot.commit.id

        return self._keep_trying(name, reset)

    def _keep_trying(self, name: str, attempt: Callable[[Movement], ResultT]) -> ResultT:
        """Give `attempt` the head of a branch until nobody else moves it meanwhile."""
        for number in range(ATTEMPTS):
            began = time.monotonic()
            try:
                return attempt(branch_head(self._session, name))
            except RefMovedError:
                give_way(number, time.monotonic() - began)
        raise CommitConflictError(
            f"branch {name!r} was moved by others {ATTEMPTS} times in a row; nothing was changed: try again"
        )

    def _move(self, name: str, head: Movement | None, snapshot: Snapshot, operation: str, message: str) -> Movement:
        return self._session.refs.move(
            name,
            head,
            operation=operation,
            author=self._session.author,
            message=message,
            **stand_fields(self._session, snapshot),
        )

    def create_tag(self, name: str, at: str | Commit | None = None, *, message: str = "") -> str:
        """Create a tag, which never moves, and return the id of the commit it stands on.

        Raises
        ------
        BranchExistsError
            If there is a tag of that name.
        RevisionNotFoundError
        """
        self._session.check_writable()
        check_tag_name(name)
        # Whether a branch hides it is looked up on the side: a tag waits for no round trip more.
        reads: list[Callable[[], Any]] = [lambda: self._session.snapshot(at), lambda: self._session.refs.head(name)]
        snapshot: Snapshot
        head: Movement | None
        (snapshot, _), head = map_io(lambda read: read(), reads)
        if head is not None and head.commit is not None:
            _log_hidden(name)
        fields = stand_fields(self._session, snapshot)
        self._session.refs.create_tag(name, author=self._session.author, message=message, **fields)
        return snapshot.commit.id

    def delete_tag(self, name: str) -> None:
        """Delete a tag.

        Raises
        ------
        RevisionNotFoundError
        """
        self._session.check_writable()
        self._session.refs.delete_tag(name)


def _shown(rev: str | Commit) -> str:
    """Return a revision as a log shows it: with ids cut to twelve digits."""
    return _ID.sub(lambda found: found[0][:12], str(rev))


def _log_hidden(name: str) -> None:
    """Say what becomes of a tag that a branch has the name of."""
    _log.warning("the tag %r is hidden by the branch of that name: as a revision, it means the branch", name)
