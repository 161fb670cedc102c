"""What columns and arrays need of the checkout that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hangarlake.chunks.packs import ChunkRef
from hangarlake.chunks.reader import ChunkReader
from hangarlake.chunks.uploader import PendingChunk
from hangarlake.columns.lookup import HotNodes
from hangarlake.records.tree import NodeSource

__all__ = ["PendingChunks", "ReadingOwner", "ViewOwner"]


class PendingChunks(Protocol):
    """Chunks of a writer that are not (known to be) in the bucket yet."""

    @property
    def places(self) -> Mapping[bytes, ChunkRef]: ...

    def pending(self, digest: bytes) -> PendingChunk | None: ...


class ReadingOwner(Protocol):
    """What reading trees and chunks needs of a checkout."""

    @property
    def nodes(self) -> NodeSource: ...

    @property
    def chunks(self) -> ChunkReader: ...

    @property
    def hot(self) -> HotNodes: ...

    @property
    def pending(self) -> PendingChunks | None: ...


class ViewOwner(ReadingOwner, Protocol):
    """What a column or array, as a person holds it, needs of its checkout."""

    def token_of(self, name: str) -> tuple[Any, ...]:
        """Return what identifies the content of a node in all processes."""

    def __getitem__(self, key: Any) -> Any: ...
