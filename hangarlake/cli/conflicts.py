"""Conflicts in the shell: a table of them, with the values of small samples, and what to do about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hangarlake.cli.failures import CONFLICT, Failure, refusals
from hangarlake.cli.output import print_json, print_table, short, text_of

if TYPE_CHECKING:
    from hangarlake import Commit, Conflict, Repository
    from hangarlake.conflicts import Side

__all__ = ["SmallValues", "attempt"]

# Conflicts whose values are shown: each may cost a read.
_SHOWN_VALUES = 100


def attempt(
    repo: Repository,
    join: Callable[[], Commit],
    *,
    as_json: bool,
    remedy: str = "take one side with --ours or --theirs, or resolve them one by one in Python",
) -> Commit:
    """Run what may end in conflicts, which are listed then.

    Raises
    ------
    Failure
        With status 1: there are conflicts.
    """
    from hangarlake.errors import MergeConflictError

    try:
        with refusals():  # the number of a parent that is missing, for instance
            return join()
    except MergeConflictError as error:
        if not error.conflicts:
            raise
        if as_json:
            print_json({"conflicts": [conflict.to_dict() for conflict in error.conflicts]})
        else:
            _list(repo, error.conflicts)
        count = text_of(len(error.conflicts), "conflict")
        raise Failure(f"{count}: nothing was changed; {remedy}", CONFLICT) from error


def _list(repo: Repository, conflicts: list[Conflict]) -> None:
    small = SmallValues(repo)

    def side(number: int, each: Any) -> str:
        if each is None:
            return "–"
        if each.digest is None:
            return repr(each).removeprefix("<Side ").removesuffix(">")
        return (small.text(each) if number < _SHOWN_VALUES else None) or short(each.digest)

    print_table(
        ("conflict", "in", "key", "base", "ours", "theirs"),
        [
            (
                conflict.kind,
                conflict.node or "attributes",
                "" if conflict.key is None else repr(conflict.key),
                side(number, conflict.base),
                side(number, conflict.ours),
                side(number, conflict.theirs),
            )
            for number, conflict in enumerate(conflicts)
        ],
    )


class SmallValues:
    """Samples that are small enough to be shown in a line, and cost no more than one small read from the repository's own bucket."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._may_lack = bool(repo.remotes)

    def text(self, side: Side) -> str | None:
        """Return a sample in a few words; ``None`` if it is large, elsewhere, damaged, or no sample."""
        from hangarlake.cli.values import SMALL, short_text
        from hangarlake.errors import HangarlakeError

        shape = side.shape
        if shape is None or len(shape) > 1 or (shape and shape[0] > SMALL):
            return None
        try:
            if self._may_lack and not self._is_here(side):
                return None
            return short_text(side.value)
        except HangarlakeError:
            return None

    def _is_here(self, side: Side) -> bool:
        entry = side._raw.entry
        return entry is None or not self._repo._session.locality.lacks(entry).any()
