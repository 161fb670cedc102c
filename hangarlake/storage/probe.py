"""A test of whether a store refuses to create an object twice."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from hangarlake.errors import StorageError, UnsafeStoreError

if TYPE_CHECKING:
    from hangarlake.storage.base import ObjectStore

__all__ = ["probe_create_if_absent"]

logger = logging.getLogger(__name__)

_REMEDY = (
    "Two writers could overwrite each other's commits there. Use a store that has it (S3, GCS, Azure, MinIO, R2, Ceph, a "
    "folder), or pass allow_unsafe_store=True if there is never more than one writer."
)


def probe_create_if_absent(store: ObjectStore) -> None:
    """Check that :meth:`~hangarlake.storage.ObjectStore.put_new` refuses what exists already.

    Real servers do ignore the condition, and answer as if they had obeyed. Costs three requests, once for a repository.

    Raises
    ------
    UnsafeStoreError
        The store overwrote the object, or is known to look first and write then.
    StorageError
        The store cannot be written to at all.
    """
    if store.creates_atomically:
        return
    if store.creates_unsafely:
        raise UnsafeStoreError(f"{store.url} has no operation that creates an object only if it is absent. {_REMEDY}")
    key = f"probe/{secrets.token_hex(16)}"
    first, second = secrets.token_bytes(16), secrets.token_bytes(16)
    try:
        store.put_new(key, first)
        created_again = store.put_new(key, second)
        found = store.get(key)
    finally:
        try:
            store.delete([key])
        except StorageError:
            # A writer need not have the right to delete; readers ignore the object.
            logger.debug("the probe %s could not be removed", key)
    if created_again or found != first:
        raise UnsafeStoreError(
            f"{store.url} ignores the condition of “create if absent” and overwrites what exists. {_REMEDY}"
        )
