"""Revisions: what a person types, and the commit that it means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

from hangarlake.errors import AmbiguousRevisionError, RevisionNotFoundError
from hangarlake.records.canonical import is_id
from hangarlake.records.models import Commit
from hangarlake.records.movements import Movement, Tag, check_branch_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from hangarlake.records.graph import Graph
    from hangarlake.records.refs import Refs
    from hangarlake.storage.base import ObjectStore

__all__ = ["Resolved", "Resolver", "split_range"]

_REVISION = re.compile(r"(?P<base>.*?)(?:@\{(?P<at>[^{}]*)\})?(?P<steps>(?:[~^][0-9]*)*)", re.DOTALL)
_STEP = re.compile(r"([~^])([0-9]*)")
_PREFIX = re.compile(r"[0-9a-f]{4,63}")
_SHORT = re.compile(r"[0-9a-f]{1,3}")
_SHOWN = 8  # candidates that a message lists
_MOST_STEPS = 10**9
_LONGEST = 2048
_LISTINGS = "list them with repo.branches and repo.tags (`hangarlake branch`, `hangarlake tag`)"


def split_range(rev: str | Commit | None) -> tuple[str | Commit | None, str | None]:
    """Return where a log begins, and the revision whose history it leaves out: of ``A..B`` B and A, of anything else itself and None.

    Either side of ``..`` may be left out; it is the default branch then.

    Raises
    ------
    RevisionNotFoundError
        If it is written ``A...B``.
    """
    if not isinstance(rev, str) or ".." not in rev:
        return rev, None
    without, _, tip = rev.partition("..")
    if tip.startswith("."):
        raise RevisionNotFoundError(f"{rev[:80]!r}: a log takes A..B (two dots), what B has and A has not")
    return tip, without


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a revision means.

    Attributes
    ----------
    commit : str
        The commit id.
    branch : str or None
        The branch, if the revision is the name of one and nothing else.
    source : Movement or Tag or None
        The movement or tag that stands on this very commit, with its copies of record, catalog and nodes.
    """

    commit: str
    branch: str | None = None
    source: Movement | Tag | None = None


class Resolver:
    """Finds commits by revision.

    A revision is a branch, a tag, a branch of a remote as it was last seen (``origin/main``), a commit id or an
    unambiguous prefix of one (4 digits or more), in this order;
    ``HEAD``, ``@``, an empty string and None mean the default branch. Behind it may stand one of

    - ``@{N}``: where the branch stood N movements ago,
    - ``@{2026-11-01}``, ``@{2026-11-01T12:00}``: where the branch stood at that time. A time without a zone is UTC,
      so that a revision means the same commit on every machine,

    and then any number of ``~N`` (N first parents up; ``~`` is ``~1``) and ``^N`` (the N-th parent; ``^`` is ``^1``,
    ``^0`` the commit itself).
    """

    def __init__(
        self, refs: Refs, graph: Graph, store: ObjectStore, tracking: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._refs = refs
        self._graph = graph
        self._store = store
        self._tracking = tracking

    def locate(self, rev: str | Commit | None, default_branch: str = "main") -> Resolved:
        """Return the commit that a revision means, with the movement or tag in which it was found.

        Raises
        ------
        RevisionNotFoundError
            If there is none.
        AmbiguousRevisionError
            If a prefix fits several commits.
        TypeError
            If `rev` is not a string, a commit or None.
        """
        if isinstance(rev, Commit):
            return Resolved(self._graph.commit(rev.id).id)
        if rev is None:
            rev = "HEAD"
        if not isinstance(rev, str):
            raise TypeError(f"a revision is a string, a Commit or None, not {type(rev).__name__} ({str(rev)[:40]!r})")
        match = _REVISION.fullmatch(rev) if len(rev) <= _LONGEST else None
        if match is None:
            raise RevisionNotFoundError(
                f"{rev[:80]!r} is not a revision: write a branch, a tag or a commit id, then ~N or ^N"
            )
        base, at, steps = match["base"], match["at"], match["steps"]
        if base in ("", "HEAD", "@"):
            base = default_branch
        found = self._base(base, rev) if at is None else self._earlier(base, at, rev)
        return self._climb(found, steps, rev) if steps else found

    def _base(self, base: str, rev: str) -> Resolved:
        if is_id(base.lower()):
            return Resolved(self._graph.commit(base.lower()).id)
        try:
            check_branch_name(base)
        except ValueError as error:
            raise RevisionNotFoundError(f"{rev!r} is not a revision: {error}") from error
        head, tag = self._refs.head_or_tag(base)
        if head is not None and head.commit is not None:
            self._take(head)
            return Resolved(head.commit, base, head)
        if tag is not None:
            self._take(tag)
            return Resolved(tag.commit, None, tag)
        tracked = self._tracking(base)
        if tracked is not None:
            return Resolved(self._graph.commit(tracked).id)
        if _PREFIX.fullmatch(base.lower()):
            return Resolved(self._prefix(base.lower(), rev))
        raise RevisionNotFoundError(self._not_found(base, deleted=head is not None))

    def _take(self, source: Movement | Tag) -> None:
        if source.commit is not None and source.record is not None:
            self._graph.add(source.commit, source.record)

    def _prefix(self, prefix: str, rev: str) -> str:
        keys = (info.key for info in self._store.list(f"commits/{prefix[:2]}/{prefix}"))
        names = (key.rpartition("/")[2].removesuffix(".json") for key in keys)
        # The listing is by prefix, but an engine's word is not taken for it: an id must begin with what was typed.
        found = sorted({name for name in names if is_id(name) and name.startswith(prefix)})
        if not found:
            raise RevisionNotFoundError(self._not_found(rev, deleted=False))
        if len(found) > 1:
            shown = "".join(f"\n  {commit_id[:16]}  {self._describe(commit_id)}" for commit_id in found[:_SHOWN])
            more = f"\n  … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise AmbiguousRevisionError(
                f"{prefix!r} is the beginning of {len(found)} commit ids; add digits:{shown}{more}"
            )
        return self._graph.commit(found[0]).id

    def _describe(self, commit_id: str) -> str:
        try:
            lines = self._graph.commit(commit_id).message.strip().splitlines()
        except OSError:
            return "(damaged)"
        return lines[0] if lines else ""

    def _not_found(self, base: str, *, deleted: bool) -> str:
        if deleted:
            before = f"{base}@{{1}}"
            remedy = f"`hangarlake branch {base} '{before}'` or create_branch({base!r}, {before!r}) brings it back"
            return f"branch {base!r} was deleted; {remedy}"
        if _SHORT.fullmatch(base.lower()):
            return f"there is no branch or tag {base!r}; a commit id needs at least 4 digits"
        names = [*self._refs.names(), *self._refs.tag_names()]
        near = get_close_matches(base, names, n=3)
        remedy = f"did you mean {' or '.join(map(repr, near))}?" if near else _LISTINGS
        return f"there is no branch, tag or commit {base!r}; {remedy}"

    # ---- @{…} --------------------------------------------------------------------------------------------------------

    def _earlier(self, branch: str, at: str, rev: str) -> Resolved:
        try:
            check_branch_name(branch)
        except ValueError as error:
            raise RevisionNotFoundError(f"{rev!r} is not a revision: {error}") from error
        head = self._refs.head(branch)
        if head is None:
            raise RevisionNotFoundError(f"there is no branch {branch!r}, and @{{…}} asks where a branch stood")
        if at.isascii() and at.isdigit():
            movement = self._refs.movement(branch, head.seq - int(at)) if len(at) < 17 else None
            if movement is None:
                raise RevisionNotFoundError(
                    f"branch {branch!r} has moved {head.seq} times only; {rev!r} is before that"
                )
        else:
            time = _parse_when(at, rev)
            movement = self._refs.at(branch, time)
            if movement is None:
                raise RevisionNotFoundError(f"branch {branch!r} did not exist yet at {time:%Y-%m-%d %H:%M:%S} UTC")
        if movement.commit is None:
            raise RevisionNotFoundError(f"branch {branch!r} was deleted then (movement {movement.seq})")
        self._take(movement)
        return Resolved(movement.commit, None, movement)

    # ---- ~ and ^ -----------------------------------------------------------------------------------------------------

    def _climb(self, start: Resolved, steps: str, rev: str) -> Resolved:
        commit = self._graph.commit(start.commit)
        for step in _STEP.finditer(steps):
            sign, digits = step.groups()
            number = min(int(digits[:20]), _MOST_STEPS) if digits else 1
            if sign == "~":
                ancestor = self._graph.first_parent(commit.id, number)
                if ancestor is None:
                    before = rev[: len(rev) - len(steps) + step.start()] or "HEAD"
                    raise RevisionNotFoundError(
                        f"{rev!r} does not exist: {before!r} has fewer than {number:,} first-parent ancestors"
                    )
                commit = ancestor
            elif number:
                if number > len(commit.parents):
                    raise RevisionNotFoundError(
                        f"{rev!r} does not exist: commit {commit.id[:12]} has no parent {number} (it has {len(commit.parents)})"
                    )
                commit = self._graph.commit(commit.parents[number - 1])
        return Resolved(commit.id, None, start.source if commit.id == start.commit else None)


def _parse_when(text: str, rev: str) -> datetime:
    try:
        time = datetime.fromisoformat(text.strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RevisionNotFoundError(
            f"{rev!r}: {text!r} is neither a number of movements nor a time like 2026-11-01 or 2026-11-01T12:00"
        ) from error
