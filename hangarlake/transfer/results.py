"""What transfers report: progress while they run, and what came of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FetchResult", "Progress", "PushResult"]


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did.

    Attributes
    ----------
    branch : str
        The branch (or tag) of the remote.
    old : str or None
        Where it stood before; ``None`` if it did not exist.
    new : str
        Where it stands now.
    objects, bytes : int
        What was sent.
    created : bool
        Whether there was no repository at the remote before.
    """

    branch: str
    old: str | None
    new: str
    objects: int
    bytes: int
    created: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What :meth:`Repository.fetch_data` brought.

    Attributes
    ----------
    values : int
        Samples and array chunks that are here now and were not before.
    chunks : int
        Chunks that came.
    bytes : int
        Their encoded bytes.
    """

    values: int
    chunks: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return asdict(self)


class Progress:
    """Counts what travels. May be used from several threads.

    Parameters
    ----------
    report : callable, optional
        Called with the number of bytes of each object that has arrived.

    Attributes
    ----------
    objects, bytes : int
        What has been written to the target so far.
    """

    def __init__(self, report: Callable[[int], object] | None = None) -> None:
        self.objects = 0
        self.bytes = 0
        self._report = report
        self._lock = threading.Lock()

    def sent(self, size: int, objects: int = 1) -> None:
        """Count objects, and their bytes."""
        with self._lock:
            self.objects += objects
            self.bytes += size
        if self._report is not None and size:
            self._report(size)
