"""Hangarlake: git for array data, on any bucket, with no server.

Point it at a bucket URL and it is a versioned repository of arrays. ``Repository.create`` and ``Repository.open`` are
the way in; everything else is reached from there.
"""

from hangarlake.arrays import Array, ArrayChangeStats, WritableArray
from hangarlake.checkout import Checkout
from hangarlake.columns import Column, WritableColumn
from hangarlake.columns.lazy import LazyArray
from hangarlake.conflicts import Conflict
from hangarlake.diffs import ArrayDiff, ColumnDiff, Diff, EntryDiff
from hangarlake.errors import (
    AmbiguousRevisionError,
    BranchExistsError,
    CommitConflictError,
    CorruptionError,
    DataNotLocalError,
    HangarlakeError,
    MergeConflictError,
    NodeExistsError,
    NodeNotFoundError,
    NothingToCommitError,
    ObjectNotFoundError,
    ObjectTruncatedError,
    PushRejectedError,
    ReadOnlyError,
    RepositoryExistsError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SampleNotFoundError,
    SchemaError,
    StorageError,
    UnsafeStoreError,
    UnsupportedFormatError,
    WriterLockedError,
)
from hangarlake.forking import ChangeSet, ForkedWriter
from hangarlake.records.conflicts import Resolution
from hangarlake.records.models import Author, Commit, RefEntry
from hangarlake.repository import Repository
from hangarlake.statistics import Stats
from hangarlake.transfer import FetchResult, Progress, PushResult, Remote
from hangarlake.write_checkout import WriteCheckout

__version__ = "0.1.0"

#: What a function that resolves conflicts may answer, besides a value.
OURS = Resolution.OURS
THEIRS = Resolution.THEIRS
REMOVE = Resolution.REMOVE

__all__ = [
    "OURS",
    "REMOVE",
    "THEIRS",
    "AmbiguousRevisionError",
    "Array",
    "ArrayChangeStats",
    "ArrayDiff",
    "Author",
    "BranchExistsError",
    "ChangeSet",
    "Checkout",
    "Column",
    "ColumnDiff",
    "Commit",
    "CommitConflictError",
    "Conflict",
    "CorruptionError",
    "DataNotLocalError",
    "Diff",
    "EntryDiff",
    "FetchResult",
    "ForkedWriter",
    "HangarlakeError",
    "LazyArray",
    "MergeConflictError",
    "NodeExistsError",
    "NodeNotFoundError",
    "NothingToCommitError",
    "ObjectNotFoundError",
    "ObjectTruncatedError",
    "Progress",
    "PushRejectedError",
    "PushResult",
    "ReadOnlyError",
    "RefEntry",
    "Remote",
    "Repository",
    "RepositoryExistsError",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
    "SampleNotFoundError",
    "SchemaError",
    "Stats",
    "StorageError",
    "UnsafeStoreError",
    "UnsupportedFormatError",
    "WritableArray",
    "WritableColumn",
    "WriteCheckout",
    "WriterLockedError",
    "__version__",
]
