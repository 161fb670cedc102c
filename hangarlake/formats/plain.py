"""Files that are one plain value: UTF-8 text, a JSON document, raw bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hangarlake.formats.base import Member

__all__ = ["BYTES", "JSON", "TEXT", "BytesFormat", "JsonFormat", "TextFormat", "refuse_constant"]


class TextFormat:
    """A ``.txt`` file: UTF-8, exactly as it stands, its line ends included."""

    name = "text"
    suffixes: tuple[str, ...] = (".txt",)
    kinds = frozenset({"str"})
    holds_many = False

    def read(self, path: Path) -> Iterator[Member]:
        """Yield the text."""
        yield None, path.read_bytes().decode("utf-8")

    def write(self, path: Path, members: Iterable[Member]) -> None:
        """Write the text."""
        for _, value in members:
            path.write_bytes(str(value).encode("utf-8"))


class JsonFormat:
    """A ``.json`` file: one document."""

    name = "json"
    suffixes: tuple[str, ...] = (".json",)
    kinds = frozenset({"json"})
    holds_many = False

    def read(self, path: Path) -> Iterator[Member]:
        """Yield the document."""
        yield None, json.loads(path.read_bytes().decode("utf-8"), parse_constant=refuse_constant)

    def write(self, path: Path, members: Iterable[Member]) -> None:
        """Write the document, readable and with a line end."""
        for _, value in members:
            path.write_bytes((json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8"))


class BytesFormat:
    """A ``.bin`` file: bytes without meaning."""

    name = "bytes"
    suffixes: tuple[str, ...] = (".bin",)
    kinds = frozenset({"bytes"})
    holds_many = False

    def read(self, path: Path) -> Iterator[Member]:
        """Yield the bytes."""
        yield None, path.read_bytes()

    def write(self, path: Path, members: Iterable[Member]) -> None:
        """Write the bytes."""
        for _, value in members:
            path.write_bytes(bytes(value))


def refuse_constant(name: str) -> Any:
    """Refuse NaN and the infinities, which Python would read."""
    raise ValueError(f"{name} is not JSON")


TEXT = TextFormat()
JSON = JsonFormat()
BYTES = BytesFormat()
