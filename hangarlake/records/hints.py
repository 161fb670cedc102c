"""Writing the hints of branches in the background (docs/format.md §12): best effort, and never an error."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

from hangarlake.records.movements import Movement, encode_hint, hint_key
from hangarlake.storage.executors import io_pool

if TYPE_CHECKING:
    from hangarlake.storage.base import ObjectStore

__all__ = ["HintWriter"]

_log = logging.getLogger(__name__)


class HintWriter:
    """Writes the hints of one repository's branches, of each branch one at a time and the newest last.

    May be used from any thread, but not in another process than that which made it.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._newest: dict[str, Movement] = {}
        self._writing: dict[str, Future[None]] = {}

    def write_later(self, movement: Movement) -> None:
        """Write the hint to a movement on another thread, unless there is a newer one."""
        branch = movement.branch
        with self._lock:
            known = self._newest.get(branch)
            if known is not None and known.seq >= movement.seq:
                return
            self._newest[branch] = movement
            if branch in self._writing:
                return  # whoever is writing finds the newer one when done
            try:
                self._writing[branch] = io_pool().submit(self._write, branch)
            except RuntimeError:
                _log.debug("no hint for %s: the interpreter is shutting down", branch)

    def _write(self, branch: str) -> None:
        written = 0
        while True:
            with self._lock:
                movement = self._newest[branch]
                if movement.seq <= written:
                    self._writing.pop(branch, None)
                    return
            try:
                self._store.put(hint_key(branch), encode_hint(movement))
            except Exception as error:
                _log.info("the hint of %s was not written: %s", branch, error)
            written = movement.seq

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all hints are written, or have failed to be."""
        with self._lock:
            writing = list(self._writing.values())
        wait(writing, timeout)
