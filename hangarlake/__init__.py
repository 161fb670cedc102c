"""Hangarlake: git for array data, on any bucket, with no server.

Point it at a bucket URL and it is a versioned repository of arrays. ``Repository.create`` and ``Repository.open`` are
the way in; everything else is reached from there.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hangarlake.errors import (
    AccessDeniedError,
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

if TYPE_CHECKING:
    from hangarlake.arrays import Array, ArrayChangeStats, WritableArray
    from hangarlake.checkout import Checkout
    from hangarlake.columns import Column, LazyArray, WritableColumn
    from hangarlake.conflicts import Conflict
    from hangarlake.diffs import ArrayDiff, ColumnDiff, Diff, EntryDiff
    from hangarlake.forking import ChangeSet, ForkedWriter
    from hangarlake.records.conflicts import Resolution
    from hangarlake.records.models import Author, Commit, RefEntry
    from hangarlake.repository import Repository
    from hangarlake.staged import StagedCheckout
    from hangarlake.statistics import Stats
    from hangarlake.transfer import FetchResult, Progress, PushResult, Remote
    from hangarlake.upkeep import Problem, VerifyReport
    from hangarlake.write_checkout import WriteCheckout

    #: What a function that resolves conflicts may answer, besides a value.
    OURS = Resolution.OURS
    THEIRS = Resolution.THEIRS
    REMOVE = Resolution.REMOVE

__version__ = "0.1.0"

__all__ = [
    "OURS",
    "REMOVE",
    "THEIRS",
    "AccessDeniedError",
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
    "Problem",
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
    "StagedCheckout",
    "Stats",
    "StorageError",
    "UnsafeStoreError",
    "UnsupportedFormatError",
    "VerifyReport",
    "WritableArray",
    "WritableColumn",
    "WriteCheckout",
    "WriterLockedError",
    "__version__",
]

# A name is imported when it is first asked for: the views take ten times as long to import as a program to say its version.
_HOMES = {
    "hangarlake.arrays": ("Array", "ArrayChangeStats", "WritableArray"),
    "hangarlake.checkout": ("Checkout",),
    "hangarlake.columns": ("Column", "LazyArray", "WritableColumn"),
    "hangarlake.conflicts": ("Conflict",),
    "hangarlake.diffs": ("ArrayDiff", "ColumnDiff", "Diff", "EntryDiff"),
    "hangarlake.forking": ("ChangeSet", "ForkedWriter"),
    "hangarlake.records.models": ("Author", "Commit", "RefEntry"),
    "hangarlake.repository": ("Repository",),
    "hangarlake.staged": ("StagedCheckout",),
    "hangarlake.statistics": ("Stats",),
    "hangarlake.transfer": ("FetchResult", "Progress", "PushResult", "Remote"),
    "hangarlake.upkeep": ("Problem", "VerifyReport"),
    "hangarlake.write_checkout": ("WriteCheckout",),
}

if not TYPE_CHECKING:  # where types are checked, a name that does not exist is an error
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name in ("OURS", "THEIRS", "REMOVE"):
            value = getattr(import_module("hangarlake.records.conflicts").Resolution, name)
        elif name in _HOME_OF:
            value = getattr(import_module(_HOME_OF[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
