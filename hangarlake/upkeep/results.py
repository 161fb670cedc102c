"""What a check reports: the problems found, and how much was looked at."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Problem", "VerifyReport"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be.

    Attributes
    ----------
    object : str
        Key of the object in the bucket.
    kind : str
        ``"missing"``; ``"truncated"``: it ends early; ``"damaged"``: its bytes are not what its name or seal says;
        ``"mismatch"``: its bytes are what was written, and say something untrue; ``"unsupported"``: this version cannot tell.
    detail : str
        What is wrong, and what to do.
    affects : tuple of str
        What suffers from it: branches, commits, columns and keys. A long list is cut short, and says so.
    """

    object: str
    kind: str
    detail: str
    affects: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return {"object": self.object, "kind": self.kind, "detail": self.detail, "affects": list(self.affects)}


@dataclass(frozen=True, slots=True, repr=False)
class VerifyReport:
    """What :meth:`Repository.verify` found. It is true where nothing is wrong: ``assert repo.verify()``.

    Attributes
    ----------
    level : str
        ``"refs"``, ``"records"`` or ``"full"``.
    commit : str or None
        The commit whose history was checked; ``None``: everything.
    problems : tuple of Problem
    checked : dict of str to int
        How many ``objects`` were read, and which: ``movements``, ``tags``, ``commits``, ``catalogs``, tree ``nodes``, ``segments``
        (of history and locations), ``chunks``, ``samples`` (array chunks included) whose digests were computed again, ``bytes``.
        With a sample also ``chunks_total``: how many chunks there are, of which ``chunks`` were checked.
    absent : int
        Chunks that a partial clone does not have, and need not have. They were not checked.
    sample : int, float or None
        The sample that was asked for: a number of chunks, or a share of them; ``None``: all.
    """

    level: str
    commit: str | None
    problems: tuple[Problem, ...]
    checked: dict[str, int] = field(hash=False)
    absent: int = 0
    sample: float | int | None = None

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    @property
    def summary(self) -> str:
        """What was checked and found, in one line."""
        seen = self.checked
        parts = [f"{seen['objects']:,} objects", f"{seen['commits']:,} commits"]
        if self.level != "refs":
            parts.append(f"{seen['nodes']:,} nodes")
        if self.level == "full":
            of = f" of {seen['chunks_total']:,}" if "chunks_total" in seen else ""
            parts += [f"{seen['chunks']:,}{of} chunks", f"{seen['samples']:,} samples"]
        text = f"{', '.join(parts)}, {seen['bytes']:,} bytes: "
        text += (
            f"{len(self.problems):,} problem{'' if len(self.problems) == 1 else 's'}" if self.problems else "all well"
        )
        if self.absent:
            text += f"; {self.absent:,} chunk{' is' if self.absent == 1 else 's are'} not in this clone and not checked"
        return text

    def __repr__(self) -> str:
        return f"<VerifyReport {self.level}: {self.summary}>"

    def _repr_html_(self) -> str:
        head = f"<p>{html.escape(self.level)}: {html.escape(self.summary)}</p>"
        if not self.problems:
            return head
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(each)}</td>" for each in (p.object, p.kind, p.detail, "; ".join(p.affects)))
            + "</tr>"
            for p in self.problems
        )
        names = "".join(f"<th>{name}</th>" for name in ("object", "kind", "detail", "affects"))
        return f"{head}<table><tr>{names}</tr>{rows}</table>"

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return {
            "ok": self.ok,
            "level": self.level,
            "commit": self.commit,
            "problems": [problem.to_dict() for problem in self.problems],
            "checked": dict(self.checked),
            "absent": self.absent,
            "sample": self.sample,
        }
