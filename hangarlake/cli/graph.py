"""History as a drawing in ASCII: a line of ``|`` for each line of history, ``*`` for commits, slashes where lines part and meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hangarlake.records.models import Commit

__all__ = ["draw"]


def draw(commits: Iterable[Commit]) -> Iterator[tuple[str, Commit | None]]:
    """Yield rows of the drawing: those with a commit (whose place is ``*``), and those between (with ``None``).

    Parameters
    ----------
    commits : iterable of Commit
        Children before parents. The line of a parent that does not come goes on to the end.
    """
    lanes: list[str] = []  # the commit that each line of history leads to
    for commit in commits:
        if commit.id not in lanes:
            lanes.append(commit.id)
        at = lanes.index(commit.id)
        yield " ".join("*" if i == at else "|" for i in range(len(lanes))), commit
        if not commit.parents:
            del lanes[at]
            yield from _close_gap(at, len(lanes))
            continue
        lanes[at] = commit.parents[0]
        for number, parent in enumerate(commit.parents[1:], 1):
            yield _part(at + number - 1, len(lanes)), None
            lanes.insert(at + number, parent)
        while (twice := _twice(lanes)) is not None:
            left, right = twice
            yield _join(left, right, len(lanes)), None
            del lanes[right]


def _twice(lanes: list[str]) -> tuple[int, int] | None:
    """Return two places that lead to the same commit."""
    for right in range(1, len(lanes)):
        left = lanes.index(lanes[right])
        if left < right:
            return left, right
    return None


def _part(at: int, count: int) -> str:
    """Return the row in which a line parts to the right; those further right make room."""
    row = [" "] * (2 * count + 1)
    for i in range(count):
        row[2 * i if i <= at else 2 * i + 1] = "|" if i <= at else "\\"
    row[2 * at + 1] = "\\"
    return "".join(row).rstrip()


def _join(left: int, right: int, count: int) -> str:
    """Return the row in which a line runs into one on its left; those further right move up."""
    row = [" "] * (2 * count)
    for i in range(count):
        if i < right:
            row[2 * i] = "|"
        else:
            row[2 * i - 1] = "/"
    for place in range(2 * left + 1, 2 * right - 1, 2):
        row[place] = "_"
    return "".join(row).rstrip()


def _close_gap(at: int, count: int) -> Iterator[tuple[str, Commit | None]]:
    """Yield the row in which the lines on the right of one that ended move up."""
    if at < count:
        row = [" "] * (2 * count + 2)
        for i in range(count):
            row[2 * i if i < at else 2 * i + 1] = "|" if i < at else "/"
        yield "".join(row).rstrip(), None
