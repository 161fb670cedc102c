"""Conflicts of a merge as raw facts, and how they are decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

from hangarlake.records.catalog import CatalogNode, ColumnNode, ColumnSchema
from hangarlake.records.diff import MISSING, Missing, same_json
from hangarlake.records.entries import Entries

__all__ = ["Arbiter", "Assign", "ConflictKind", "Decide", "Decision", "RawConflict", "RawSide", "Resolution"]

ConflictKind: TypeAlias = Literal[
    "added-both",
    "changed-both",
    "changed-removed",
    "removed-changed",
    "node-removed",
    "schema",
    "layout",
    "rename",
    "attribute",
    "array-metadata",
    "chunk",
    "append",
]


class Resolution(Enum):
    """Which side of a conflict to take."""

    OURS = "ours"
    THEIRS = "theirs"
    REMOVE = "remove"

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Assign:
    """Resolve a conflict of a key or an attribute by a value of its own."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class RawSide:
    """What one side of a conflict has.

    Attributes
    ----------
    entries : Entries or None
        Of a key or chunk: its entry is number `at` of these, which conflicts share, for there may be very many.
    at : int
    node : CatalogNode or None
        The column, array or group that the conflict is in.
    value : object
        Of an attribute; else `MISSING`.
    name : str or None
        Of the node on this side; sides differ in it after a rename.
    """

    entries: Entries | None = None
    at: int = 0
    node: CatalogNode | None = None
    value: Any | Missing = MISSING
    name: str | None = None

    @property
    def entry(self) -> Entries | None:
        """The entry by itself, of length 1."""
        return None if self.entries is None else self.entries.take(slice(self.at, self.at + 1)).compact()

    @property
    def digest(self) -> str | None:
        """Value digest of a key or chunk, hex."""
        return None if self.entries is None else self.entries.digests[self.at].tobytes().hex()

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of the value under a key, where its entry or the schema tells it."""
        if self.entries is None:
            return None
        if self.entries.rank:
            return tuple(self.entries.shapes[self.at].tolist())
        fixed = [n for n in self.schema.shape if n is not None] if self.schema else None
        return None if fixed is None else tuple(fixed)

    @property
    def schema(self) -> ColumnSchema | None:
        """The schema of the column on this side."""
        return self.node.schema if isinstance(self.node, ColumnNode) else None


@dataclass(frozen=True, slots=True, eq=False)
class RawConflict:
    """Something that both sides of a merge changed, each in its own way.

    Attributes
    ----------
    node : str
        Name in the merged catalog; ``""`` for the catalog's own attributes.
    key : str, int, tuple or None
        Sample key, (sample, sub) in nested columns, grid coordinates in arrays, name of an attribute; ``None`` for whole nodes.
    kind : str
    base, ours, theirs : RawSide or None
        ``None``: absent there.
    """

    node: str
    key: Any
    kind: ConflictKind
    base: RawSide | None
    ours: RawSide | None
    theirs: RawSide | None

    def __str__(self) -> str:
        if not self.node:
            return f"attribute {self.key!r} ({self.kind})"
        return f"{self.node!r} ({self.kind})" if self.key is None else f"{self.node!r}, {self.key!r} ({self.kind})"


Decision: TypeAlias = Resolution | Assign
Decide: TypeAlias = Callable[[RawConflict], Decision | None]


class Arbiter:
    """Asks for decisions, and remembers conflicts without one and values to be assigned. Unresolved means ours, for the time being.

    Attributes
    ----------
    unresolved : list of RawConflict
    assignments : list of (node, key, value)
    """

    def __init__(self, decide: Decide | None) -> None:
        self._decide = decide
        self.unresolved: list[RawConflict] = []
        self.assignments: list[tuple[str, Any, Any]] = []

    def _ask(self, conflict: RawConflict) -> Decision:
        decision = self._decide(conflict) if self._decide is not None else None
        if decision is None:
            self.unresolved.append(conflict)
            return Resolution.OURS
        if not isinstance(decision, Resolution | Assign):
            raise TypeError(
                f"the conflict of {conflict} was answered with {decision!r}; answer with a Resolution or Assign"
            )
        return decision

    def of_node(self, conflict: RawConflict) -> Resolution:
        """Decide over a whole node.

        Raises
        ------
        ValueError
            If the answer is a value.
        """
        decision = self._ask(conflict)
        if isinstance(decision, Assign):
            raise ValueError(
                f"the conflict of {conflict} is about the whole node and cannot be resolved by a value; "
                "answer with OURS, THEIRS or REMOVE"
            )
        return decision

    def of_key(self, conflict: RawConflict) -> Resolution:
        """Decide over a key; an assigned value is put on record, and ours stands until it is set."""
        decision = self._ask(conflict)
        if isinstance(decision, Assign):
            self.assignments.append((conflict.node, conflict.key, decision.value))
            return Resolution.OURS
        return decision

    def merge_attributes(
        self, node: str, base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Merge attributes key by key."""
        merged: dict[str, Any] = {}
        for key in sorted({*ours, *theirs}):
            value = self._attribute(node, key, *(side.get(key, MISSING) for side in (base, ours, theirs)))
            if value is not MISSING:
                merged[key] = value
        return merged

    def _attribute(self, node: str, key: str, base: Any, ours: Any, theirs: Any) -> Any:
        if same_json(ours, theirs) or same_json(base, theirs):
            return ours
        if same_json(base, ours):
            return theirs
        sides = [None if value is MISSING else RawSide(value=value) for value in (base, ours, theirs)]
        decision = self._ask(RawConflict(node, key, "attribute", *sides))
        if isinstance(decision, Assign):
            return decision.value
        return {Resolution.OURS: ours, Resolution.THEIRS: theirs, Resolution.REMOVE: MISSING}[decision]
