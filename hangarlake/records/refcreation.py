"""Creating movements and tags, each exactly once, whatever answers are lost on the way (docs/format.md §10)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from hangarlake.errors import AccessDeniedError, CorruptionError, ObjectNotFoundError, StorageError, UnsafeStoreError
from hangarlake.records.movements import Movement, Tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from hangarlake.storage.base import ObjectStore

__all__ = ["RefCreator"]

_log = logging.getLogger(__name__)

_ATTEMPTS = 4  # at a create whose outcome stays unclear

_Stored = TypeVar("_Stored", Movement, Tag)


class RefCreator:
    """Creates objects below ``refs/``. May be used from any thread."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        # Write ids of attempts whose outcome could not be told.
        self._unclear: set[str] = set()

    def create(self, key: str, data: bytes, parse: Callable[[bytes], _Stored], new: _Stored) -> _Stored:
        """Create an object; return `new`, or what somebody else had put there.

        An answer that was lost on the way is neither: the object is read back, and its write id tells. As long as
        there is nothing to read, the create is repeated: it is the same object, so a late arrival of the first does no
        harm.

        Raises
        ------
        AccessDeniedError
            If the store refused, and nothing was created.
        StorageError
            If the store failed, and it is not known whether the object was created.
        CorruptionError
            If what is there is damaged.
        """
        unclear: OSError | None = None
        for _ in range(_ATTEMPTS):
            try:
                if self._store.put_new(key, data):
                    return new
            except UnsafeStoreError:
                raise
            except OSError as error:  # StorageError, or a TimeoutError that slipped through
                if isinstance(error, AccessDeniedError) and unclear is None:
                    raise  # definite, unless an earlier attempt got through
                unclear = error
                _log.debug("creating %s failed (%s); reading back what became of it", key, type(error).__name__)
            try:
                stored = parse(self._store.get(key))
            except ObjectNotFoundError:
                continue
            except CorruptionError:
                raise
            except OSError as error:
                unclear = error
                continue
            return new if stored.write_id == new.write_id else stored
        self._unclear.add(new.write_id)
        raise StorageError(
            f"the store failed while {key} was being created, and it is not known whether it was "
            f"({unclear or 'it says that the object exists, and that it does not'}); "
            "repeat the operation when the store answers again"
        ) from unclear

    def made(self, stored: Movement | Tag, new: Movement | Tag) -> bool:
        """Tell whether what is stored is `new`, or an earlier attempt at the same whose outcome could not be told then."""
        return stored is new or (stored.write_id in self._unclear and stored.commit == new.commit)
