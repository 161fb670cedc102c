"""Values that are stored already: so that equal samples of a column share one place, whatever their keys.

Known are the values of trees that are not too large, and the last half million that were staged (``docs/design/002-columns.md`` says
why not all). A filter answers the usual case, a value never seen, without a search.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hangarlake.records.entries import Digests, Entries

__all__ = ["KnownValues"]

_MOST = 1 << 19
_WINDOWS = 16
_FILTER_BITS = 24


class KnownValues:
    """Where values lie, by digest. Owned by one stage.

    Parameters
    ----------
    entries : iterable of Entries
        What is known from the beginning.
    """

    def __init__(self, entries: Iterable[Entries] = ()) -> None:
        # Runs of entries, each sorted by the first 8 bytes of its digests.
        self._windows: list[tuple[npt.NDArray[np.uint64], Entries]] = []
        # One byte for each value of the first three bytes of a digest: 0 says that no known digest starts so.
        self._seen = bytearray(1 << _FILTER_BITS)
        self._filter = np.frombuffer(self._seen, np.uint8)
        parts = [part for part in entries if len(part)]
        if parts:
            self.add(Entries.concat(parts).compact(dedupe=True))

    def add(self, entries: Entries) -> None:
        """Remember more values; the oldest are forgotten when there are too many."""
        if not len(entries):
            return
        self._filter[_starts(entries.digests)] = 1
        self._windows.append(_sorted(entries.compact()))
        if len(self._windows) > _WINDOWS:
            joined = Entries.concat([window for _, window in self._windows])
            self._windows = [_sorted(joined.compact(dedupe=True))]
        while sum(len(prefixes) for prefixes, _ in self._windows) > _MOST and len(self._windows) > 1:
            self._windows.pop(0)

    def find(self, digest: bytes) -> tuple[Entries, int] | None:
        """Return entries and the place in them of a value, or ``None``."""
        if not self._seen[digest[0] | digest[1] << 8 | digest[2] << 16]:
            return None
        prefix = np.frombuffer(digest, np.uint64, 1)[0]
        for prefixes, window in self._windows:
            at = int(np.searchsorted(prefixes, prefix))
            while at < len(prefixes) and prefixes[at] == prefix:
                if window.digests[at].tobytes() == digest:
                    return window, at
                at += 1
        return None

    def candidates(self, digests: Digests) -> npt.NDArray[np.intp]:
        """Return which of many digests may be known."""
        return np.flatnonzero(self._filter[_starts(digests)])


def _starts(digests: Digests) -> npt.NDArray[np.uint32]:
    parts = digests[:, :3].astype(np.uint32)
    starts: npt.NDArray[np.uint32] = parts[:, 0] | parts[:, 1] << np.uint32(8) | parts[:, 2] << np.uint32(16)
    return starts


def _sorted(entries: Entries) -> tuple[npt.NDArray[np.uint64], Entries]:
    prefixes = np.ascontiguousarray(entries.digests[:, :8]).view(np.uint64).reshape(-1)
    order = np.argsort(prefixes, kind="stable")
    # The keys are of no use here, and would be most of the memory.
    return prefixes[order], replace(entries.take(order), keys=np.empty(len(order), "S1"))
