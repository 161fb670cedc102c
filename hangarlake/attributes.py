"""Attributes of a write checkout: JSON values, staged as they are set."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from hangarlake.errors import SchemaError
from hangarlake.records.canonical import canonical_json

if TYPE_CHECKING:
    from hangarlake.working_set import WorkingSet

__all__ = ["StagedAttributes"]


class StagedAttributes(MutableMapping[str, Any]):
    """Attributes that are staged as they are set."""

    def __init__(self, checkout: WorkingSet) -> None:
        self._checkout = checkout

    def __getitem__(self, name: str) -> Any:
        return json.loads(canonical_json(self._checkout._attrs[name]))

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise SchemaError(f"an attribute's name is a str, not {name!r}")
        try:
            kept = json.loads(canonical_json(value))
        except ValueError as error:
            raise SchemaError(f"attribute {name!r} {error}") from error
        if kept != value:
            raise SchemaError(f"attribute {name!r}: JSON would change the value (a tuple becomes a list, say)")
        with self._checkout._lock:
            self._checkout._check_open()
            self._checkout._attrs[name] = kept

    def __delitem__(self, name: str) -> None:
        with self._checkout._lock:
            self._checkout._check_open()
            del self._checkout._attrs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._checkout._attrs))

    def __len__(self) -> int:
        return len(self._checkout._attrs)

    def __repr__(self) -> str:
        return repr(self._checkout._attrs)
