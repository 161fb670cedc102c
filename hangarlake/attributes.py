"""Attributes of a write checkout, and of what it holds: JSON values, staged as they are set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager
from typing import Any

from hangarlake.errors import SchemaError
from hangarlake.records.canonical import canonical_json

__all__ = ["StagedAttributes", "exact_json"]


def exact_json(value: Any, what: str) -> Any:
    """Return a JSON value (a copy) that is kept as it is.

    Raises
    ------
    SchemaError
        If `what` cannot be written as JSON, or JSON would change it.
    """
    try:
        kept = json.loads(canonical_json(value))
    except ValueError as error:
        raise SchemaError(f"{what} {error}") from error
    if kept != value:
        raise SchemaError(f"{what}: JSON would change the value (a tuple becomes a list, say)")
    return kept


class StagedAttributes(MutableMapping[str, Any]):
    """Attributes of a write checkout, or of a column or array of it, staged as they are set.

    Parameters
    ----------
    current : callable
        Returns all attributes as they are now, as values of its caller's own.
    stage : callable
        Takes all attributes anew, or raises :class:`~hangarlake.SchemaError` where they cannot be kept.
    guard : context manager
        Held from looking at the attributes until they are staged; may be entered again.
    """

    def __init__(
        self,
        current: Callable[[], dict[str, Any]],
        stage: Callable[[dict[str, Any]], None],
        guard: AbstractContextManager[Any],
    ) -> None:
        self._current = current
        self._stage = stage
        self._guard = guard

    def __getitem__(self, name: str) -> Any:
        return self._current()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        with self._guard:
            attributes = self._current()
            del attributes[name]
            self._stage(attributes)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several attributes, all or none."""
        changes = dict(*args, **kwargs)
        for name in changes:
            if not isinstance(name, str):
                raise SchemaError(f"an attribute's name is a str, not {name!r}")
        with self._guard:
            self._stage({**self._current(), **changes})

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def __repr__(self) -> str:
        return repr(self._current())
