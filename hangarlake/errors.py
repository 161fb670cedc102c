"""The exception tree.

::

    HangarlakeError
    ├── RepositoryNotFoundError   (FileNotFoundError)   no repository at a URL
    ├── RepositoryExistsError     (FileExistsError)     there is one already
    ├── RevisionNotFoundError     (KeyError)            no such branch, tag or commit
    ├── AmbiguousRevisionError    (ValueError)          a prefix of several commits
    ├── SampleNotFoundError       (KeyError)            no such key in a column
    ├── NodeNotFoundError         (KeyError)            no such column, array or group
    ├── NodeExistsError           (ValueError)          the name is taken
    ├── BranchExistsError         (ValueError)          the branch or tag is there already
    ├── SchemaError               (ValueError)          a value does not fit its column
    ├── ReadOnlyError             (PermissionError)     a write on a read-only view
    ├── WriterLockedError         (PermissionError)     another process writes to this working copy
    ├── CommitConflictError                             the branch moved, and touched the same keys
    ├── MergeConflictError                              both sides changed the same thing
    ├── NothingToCommitError      (ValueError)          nothing is staged
    ├── PushRejectedError                               the remote branch has moved on
    ├── DataNotLocalError         (FileNotFoundError)   this clone lacks the data
    ├── CorruptionError           (OSError)             bytes are not what their name says
    ├── StorageError              (OSError)             the store failed
    │   ├── ObjectNotFoundError   (FileNotFoundError)   no object under a key
    │   ├── ObjectTruncatedError                        an object ends before what was asked for
    │   ├── AccessDeniedError     (PermissionError)     the credentials, or the user, may not do that
    │   └── UnsafeStoreError                            the store ignores “create if absent”
    └── UnsupportedFormatError                          a newer or foreign repository
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "AccessDeniedError",
    "AmbiguousRevisionError",
    "BranchExistsError",
    "CommitConflictError",
    "CorruptionError",
    "DataNotLocalError",
    "HangarlakeError",
    "MergeConflictError",
    "NodeExistsError",
    "NodeNotFoundError",
    "NothingToCommitError",
    "ObjectNotFoundError",
    "ObjectTruncatedError",
    "PushRejectedError",
    "ReadOnlyError",
    "RepositoryExistsError",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
    "SampleNotFoundError",
    "SchemaError",
    "StorageError",
    "UnsafeStoreError",
    "UnsupportedFormatError",
    "WriterLockedError",
]


class HangarlakeError(Exception):
    """Base of every error that Hangarlake raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the repr of its argument; a message is meant to be read.
        return str(self.args[0]) if self.args else ""


class RepositoryNotFoundError(HangarlakeError, FileNotFoundError):
    """There is no repository at a URL."""


class RepositoryExistsError(HangarlakeError, FileExistsError):
    """There is a repository at a URL already."""


class RevisionNotFoundError(HangarlakeError, KeyError):
    """No branch, tag or commit answers to a revision."""


class AmbiguousRevisionError(HangarlakeError, ValueError):
    """A prefix names several commits."""


class SampleNotFoundError(HangarlakeError, KeyError):
    """A column has no sample under a key."""


class NodeNotFoundError(HangarlakeError, KeyError):
    """A commit has no column, array or group of a name."""


class NodeExistsError(HangarlakeError, ValueError):
    """A column, array or group of that name is there already."""


class BranchExistsError(HangarlakeError, ValueError):
    """A branch or tag of that name is there already."""


class SchemaError(HangarlakeError, ValueError):
    """A value or a declaration does not fit: wrong dtype, rank, shape or key."""


class ReadOnlyError(HangarlakeError, PermissionError):
    """A write was tried on a read-only view."""


class WriterLockedError(HangarlakeError, PermissionError):
    """Another process (or checkout) writes to this working copy of the branch.

    Attributes
    ----------
    pid : int or None
        Process id of the holder, where it is known.
    """

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class CommitConflictError(HangarlakeError):
    """The branch moved meanwhile, and the other commits touch the same things.

    Attributes
    ----------
    conflicts : list of Conflict
    """

    def __init__(self, message: str, conflicts: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.conflicts = list(conflicts)


class MergeConflictError(HangarlakeError):
    """Both sides of a merge changed the same thing; nothing was changed.

    Attributes
    ----------
    conflicts : list of Conflict
    """

    def __init__(self, message: str, conflicts: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.conflicts = list(conflicts)


class NothingToCommitError(HangarlakeError, ValueError):
    """Nothing is staged."""


class PushRejectedError(HangarlakeError):
    """The remote branch is not an ancestor of what was pushed."""


class DataNotLocalError(HangarlakeError, FileNotFoundError):
    """This clone lacks the data and was told not to fetch it."""


class CorruptionError(HangarlakeError, OSError):
    """Bytes are not what their name or checksum says."""


class StorageError(HangarlakeError, OSError):
    """The store failed, after retries where these make sense."""


class ObjectNotFoundError(StorageError, FileNotFoundError):
    """No object under a key. (Internal to stores and records; views turn it into something that names more.)"""


class ObjectTruncatedError(StorageError):
    """An object ends before the bytes that were asked for. (Internal to stores, like ObjectNotFoundError.)"""


class AccessDeniedError(StorageError, PermissionError):
    """The store refuses: credentials are missing or not accepted, or lack a right. Nothing was done, and repeating does not help."""


class UnsafeStoreError(StorageError):
    """The store ignores “create if absent”, so two writers could overwrite each other's commits."""


class UnsupportedFormatError(HangarlakeError):
    """The repository needs a newer version of Hangarlake, or is not one."""
