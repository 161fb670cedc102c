"""What history is made of, as a person meets it: authors, commits and reflog entries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from hangarlake.records.canonical import format_time

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Author", "Commit", "RefEntry"]

_AUTHOR = re.compile(r"([^<>]*)<([^<>]*)>")
_FORBIDDEN = re.compile(r"[<>\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Author:
    """Who made a commit or moved a ref; ``str`` gives ``Name <mail>``."""

    name: str
    email: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"

    @classmethod
    def parse(cls, text: str) -> Author:
        """Read ``Name <mail>``.

        Raises
        ------
        ValueError
            If it is written otherwise.
        """
        match = _AUTHOR.fullmatch(text.strip()) if isinstance(text, str) else None
        author = cls(match[1].strip(), match[2].strip()) if match else None
        if author is None or not author.name or _FORBIDDEN.search(author.name + author.email):
            raise ValueError(f"{text!r} is not an author; write 'Name <mail@example.org>'")
        return author

    def to_dict(self) -> dict[str, str]:
        """Return name and email, JSON-ready."""
        return {"name": self.name, "email": self.email}


def _subject(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[0] if lines else ""


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left;white-space:pre-wrap">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table>{cells}</table>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Commit:
    """One commit. Equal and hashable by its id; ``str`` gives the id.

    Attributes
    ----------
    id : str
        BLAKE3-256 of the commit's record, 64 hexadecimal digits.
    parents : tuple of str
    message : str
    author : Author
    time : datetime
        Aware, UTC. Information only: nothing is ordered by it.
    catalog : str
        Id of the catalog, which covers everything that the commit holds.
    generation : int
        0 without parents, else 1 + the greatest of the parents'.
    renames : tuple of dict
        One for each parent: old name → new name of the nodes that were renamed since.
    """

    id: str
    parents: tuple[str, ...]
    message: str
    author: Author
    time: datetime
    catalog: str
    generation: int
    renames: tuple[dict[str, str], ...] = ()

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Commit) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<Commit {self.id[:12]} {_subject(self.message)!r} by {self.author}, {self.time:%Y-%m-%d %H:%M} UTC>"

    def _repr_html_(self) -> str:
        return _table(
            [
                ("commit", self.id),
                *(("parent", parent) for parent in self.parents),
                ("author", str(self.author)),
                ("time", f"{self.time:%Y-%m-%d %H:%M:%S} UTC"),
                ("message", self.message),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return {
            "id": self.id,
            "parents": list(self.parents),
            "message": self.message,
            "author": self.author.to_dict(),
            "time": format_time(self.time),
            "catalog": self.catalog,
            "generation": self.generation,
            "renames": [dict(renames) for renames in self.renames],
        }


@dataclass(frozen=True, slots=True, repr=False)
class RefEntry:
    """One movement of a branch, as a reflog shows it.

    Attributes
    ----------
    seq : int
        Number of the movement, from 1.
    branch : str
    commit : str or None
        Where the branch stands after it; ``None`` if this deleted it.
    previous : str or None
        Where it stood before.
    operation : str
        ``create``, ``commit``, ``merge``, ``reset``, ``push``, ``delete``, …
    author : Author
    time : datetime
        Aware, UTC, by the clock of whoever moved it.
    message : str
    """

    seq: int
    branch: str
    commit: str | None
    previous: str | None
    operation: str
    author: Author
    time: datetime
    message: str

    def __repr__(self) -> str:
        stands = self.commit[:12] if self.commit else "(deleted)"
        return (
            f"<RefEntry {self.branch}#{self.seq} {stands} {self.operation}: {_subject(self.message)!r} "
            f"by {self.author}, {self.time:%Y-%m-%d %H:%M} UTC>"
        )

    def _repr_html_(self) -> str:
        return _table(
            [
                ("branch", f"{self.branch} #{self.seq}"),
                ("commit", self.commit or "(deleted)"),
                ("before", self.previous or "(none)"),
                ("operation", self.operation),
                ("author", str(self.author)),
                ("time", f"{self.time:%Y-%m-%d %H:%M:%S} UTC"),
                ("message", self.message),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return {
            "seq": self.seq,
            "branch": self.branch,
            "commit": self.commit,
            "previous": self.previous,
            "operation": self.operation,
            "author": self.author.to_dict(),
            "time": format_time(self.time),
            "message": self.message,
        }
