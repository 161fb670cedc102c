# ruff: noqa: PTH100, PTH102, PTH105, PTH106, PTH108, PTH112, PTH116, PTH118, PTH120
# Plain os calls on strings: building Path objects would take longer than the calls themselves.
"""Objects as files below one folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from hangarlake.errors import (
    AccessDeniedError,
    CorruptionError,
    ObjectNotFoundError,
    ObjectTruncatedError,
    StorageError,
    UnsafeStoreError,
)
from hangarlake.storage._rename import RenameUnsupportedError, rename_new
from hangarlake.storage.base import Buffer, ByteRange, ObjectInfo, ObjectStore, check_range
from hangarlake.storage.keys import check_folder, check_key, check_prefix

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["LocalStore"]

T = TypeVar("T")

# Unfinished writes live here until they are complete; listings never look inside.
_TEMPORARY = ".tmp"
# What a process that died left behind is removed by the first writer that comes a day later.
_LITTER_SECONDS = 86_400
# The oldest goes first: keeping them in order of use would cost every read something.
_MAX_DESCRIPTORS = 128
# From this many ranges on, the kernel is told about all of them before the first is read.
_ADVISE_FROM = 4

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

# Folders are removed when they become empty: so often may another process do that while this one writes into them.
_FOLDER_ATTEMPTS = 10

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Windows has neither positioned reads nor deletion of open files: descriptors are not kept there.
_POSITIONED = hasattr(os, "pread")


class _Descriptor:
    """An open file that closes itself when the last thread that reads from it lets go."""

    __slots__ = ("fd",)

    def __init__(self, path: str) -> None:
        self.fd = -1
        self.fd = os.open(path, _READ_FLAGS)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class LocalStore(ObjectStore):
    """A store in a folder of a file system.

    A write goes to a temporary file, is flushed to the disk, and then moves to its name in one step: `put` by rename,
    `put_new` by a hard link, which fails if the name is taken, for exactly one of any number of threads and processes.
    An object cannot be named like a folder of other objects (``a`` beside ``a/b``).

    Parameters
    ----------
    path : str or os.PathLike
        The folder. It is made by the first write if it is absent.
    url : str, optional
        What to call the store; the path if absent.
    """

    def __init__(self, path: str | os.PathLike[str], url: str | None = None) -> None:
        self._root = os.path.abspath(os.fspath(path))
        self.url = os.fspath(path) if url is None else url
        # Both are used without a lock: single operations on them are atomic, and a fork cannot leave them locked.
        self._descriptors: OrderedDict[str, _Descriptor] = OrderedDict()
        self._folders: set[str] = set()
        self._swept = False

    @property
    def creates_atomically(self) -> bool:
        return True

    @property
    def path(self) -> str:
        """The folder, absolute."""
        return self._root

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        return self._get(key, None)

    def get_bounded(self, key: str, limit: int) -> bytes:
        return self._get(key, limit)

    def _get(self, key: str, limit: int | None) -> bytes:
        # Always opened afresh: the object may have been replaced by another process.
        path = self._path(key)
        try:
            fd = os.open(path, _READ_FLAGS)
            try:
                if limit is not None:
                    self._check_length(key, os.fstat(fd).st_size, limit)
                return _read_all(fd)
            finally:
                os.close(fd)
        except CorruptionError:
            raise
        except OSError as error:
            self._fail("read", key, error)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        if len(ranges) >= _ADVISE_FROM and hasattr(os, "posix_fadvise"):
            for item in ranges:
                if item.length > 0:
                    descriptor = self._descriptor(item.key)
                    # Advice only: whatever is wrong with the range shows when it is read.
                    with contextlib.suppress(OSError):
                        os.posix_fadvise(descriptor.fd, item.start, item.length, os.POSIX_FADV_WILLNEED)
        return [self.get_range(item.key, item.start, item.length) for item in ranges]

    def get_range(self, key: str, start: int, length: int) -> Buffer:
        if length == 0:
            return b""
        try:
            # Written out instead of calling _descriptor: this is the hottest path there is.
            descriptors = self._descriptors
            if (descriptor := descriptors.get(key)) is not None and os.fstat(descriptor.fd).st_nlink:
                data = os.pread(descriptor.fd, length, start)
            else:
                descriptor = self._descriptor(key)
                data = _read_at(descriptor.fd, length, start)
            if len(data) == length:
                return data
            # The kernel may return less than was asked for, of very large ranges.
            parts = [data]
            received = len(data)
            while data and received < length:
                data = _read_at(descriptor.fd, length - received, start + received)
                parts.append(data)
                received += len(data)
        except OSError as error:
            self._fail("read", key, error)
        except (OverflowError, MemoryError):
            # Damaged data names lengths that no object has.
            check_range(ByteRange(key, start, length), self.url)
            received = max(0, os.fstat(self._descriptor(key).fd).st_size - start)
            if received >= length:
                raise
        if received < length:
            raise ObjectTruncatedError(
                f"{key} in {self.url} ends early: {length} bytes were asked for from {start}, and there are {received}."
            )
        return b"".join(parts)

    def _descriptor(self, key: str) -> _Descriptor:
        """Return an open descriptor of the object as it is now."""
        descriptors = self._descriptors
        descriptor = descriptors.get(key)
        # A file without a name was replaced or deleted since it was opened.
        if descriptor is not None and os.fstat(descriptor.fd).st_nlink:
            return descriptor
        try:
            descriptor = _Descriptor(self._path(key))
        except OSError as error:
            self._forget(key)
            self._fail("read", key, error)
        if _POSITIONED:
            descriptors[key] = descriptor
            while len(descriptors) > _MAX_DESCRIPTORS:
                with contextlib.suppress(KeyError):
                    descriptors.popitem(last=False)
        return descriptor

    # ---- writing ---------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer) -> None:
        path = self._path(key)
        try:
            self._publish(path, data, _replace)
        except OSError as error:
            self._fail("write", key, error)
        self._forget(key)

    def put_new(self, key: str, data: Buffer) -> bool:
        path = self._path(key)
        if os.path.lexists(path):
            return False
        try:
            return self._publish(path, data, _link)
        except RenameUnsupportedError as error:
            raise UnsafeStoreError(
                f"The file system of {self.url} has neither hard links nor a rename that refuses to replace, so two "
                "writers could overwrite each other. Move the repository to another file system or a bucket."
            ) from error
        except OSError as error:
            self._fail("write", key, error)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self._path(key)
            self._forget(key)
            try:
                os.unlink(path)
            except OSError as error:
                if error.errno in _ABSENT:
                    continue
                self._fail("delete", key, error)
            self._prune(os.path.dirname(path))

    def _publish(self, path: str, data: Buffer, move: Callable[[str, str], bool]) -> bool:
        """Write `data` aside, flush it, and give it its name by `move`; tell whether it got the name."""
        temporary = self._write_aside(data)
        try:
            folder = os.path.dirname(path)
            moved = self._within(folder, lambda: move(temporary, path))
        except BaseException:
            _unlink(temporary)
            raise
        if moved:
            # A folder that is gone again was emptied: the object has been deleted since.
            with contextlib.suppress(FileNotFoundError):
                _sync_folder(folder)
        return moved

    def _within(self, folder: str, call: Callable[[], T]) -> T:
        """Return what `call`, which needs `folder`, returns; make the folder where it is absent."""
        for left in reversed(range(_FOLDER_ATTEMPTS)):
            try:
                self._make_folder(folder)
                return call()
            except FileNotFoundError:
                # Another process removed the folder, or one above it, when it became empty.
                self._folders.clear()
                if not left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _write_aside(self, data: Buffer) -> str:
        folder = os.path.join(self._root, _TEMPORARY)
        if not self._swept:
            self._make_folder(folder)
            _sweep(folder)
            self._swept = True
        temporary = os.path.join(folder, secrets.token_hex(16))
        fd = self._within(folder, lambda: os.open(temporary, _WRITE_FLAGS, 0o666))
        try:
            view = memoryview(data)
            # A view without elements cannot be cast, and needs no writing.
            view = view.cast("B") if view.nbytes else memoryview(b"")
            written = 0
            while written < len(view):
                written += os.write(fd, view[written:] if written else view)
            os.fsync(fd)
        except BaseException:
            os.close(fd)
            _unlink(temporary)
            raise
        os.close(fd)
        return temporary

    def _make_folder(self, folder: str) -> None:
        """Make a folder and those above it, durably; remember what is known to exist."""
        if folder in self._folders:
            return
        parent = os.path.dirname(folder)
        if not os.path.isdir(folder):
            if parent != folder:
                self._make_folder(parent)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
            # Also after losing the race to make it: what is put inside must not outlive the folder's own entry.
            _sync_folder(parent)
        self._folders.add(folder)

    def _prune(self, folder: str) -> None:
        """Remove folders that have become empty, as a bucket has no empty folders."""
        while len(folder) > len(self._root):
            try:
                os.rmdir(folder)
            except OSError:
                return
            self._folders.discard(folder)
            folder = os.path.dirname(folder)

    # ---- listing ---------------------------------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder, _, start = check_prefix(prefix).rpartition("/")
        if folder.partition("/")[0] == _TEMPORARY:
            return
        yield from self._walk(folder + "/" if folder else "", start)

    def _walk(self, above: str, start: str) -> Iterator[ObjectInfo]:
        for name, entry in self._entries(above, start):
            if name.endswith("/"):
                yield from self._walk(above + name, "")
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # deleted since the folder was read
            except OSError as error:
                self._fail("list", above + name, error)
            yield ObjectInfo(above + name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def list_prefixes(self, prefix: str) -> builtins.list[str]:
        if check_folder(prefix).partition("/")[0] == _TEMPORARY:
            return []
        # A folder counts if there is an object in it: a writer that died may have left an empty one.
        return sorted(
            name.rstrip("/")
            for name, _ in self._entries(prefix, "")
            if not name.endswith("/") or next(self._walk(prefix + name, ""), None) is not None
        )

    def _entries(self, above: str, start: str) -> builtins.list[tuple[str, os.DirEntry[str]]]:
        """Return the entries of a folder in the order of the keys below them; folders end in a slash."""
        try:
            with os.scandir(os.path.join(self._root, above)) as entries:
                found = [
                    (entry.name + "/" if entry.is_dir() else entry.name, entry)
                    for entry in entries
                    if entry.name.startswith(start) and (above or entry.name != _TEMPORARY)
                ]
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            self._fail("list", above, error)
        # "a/…" sorts after "a-b" and "a.b": the slash takes part in the order.
        return sorted(found, key=lambda item: item[0])

    def exists(self, key: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(self._path(key)).st_mode)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            self._fail("look up", key, error)

    def make_root(self) -> None:
        """Make the store's folder, durably, if it is absent."""
        try:
            self._make_folder(self._root)
        except OSError as error:
            raise _refusal(error)(f"Cannot make the folder {self._root}: {error.strerror or error}.") from error

    # ---- the rest --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._descriptors.clear()

    def __reduce__(self) -> tuple[type[LocalStore], tuple[str, str]]:
        return LocalStore, (self._root, self.url)

    def __repr__(self) -> str:
        return f"LocalStore({self._root!r})"

    def _path(self, key: str) -> str:
        check_key(key)
        if key.startswith(_TEMPORARY + "/") or key == _TEMPORARY:
            raise StorageError(f"{key!r} cannot be a key of {self.url}: {_TEMPORARY} is kept for unfinished writes.")
        return f"{self._root}/{key}"

    def _forget(self, key: str) -> None:
        self._descriptors.pop(key, None)

    def _fail(self, verb: str, key: str, error: OSError) -> NoReturn:
        if isinstance(error, StorageError):
            raise error
        if verb == "read" and error.errno in _ABSENT:
            raise ObjectNotFoundError(f"There is no object {key} in {self.url}.") from error
        raise _refusal(error)(f"Cannot {verb} {key} in {self.url}: {error.strerror or error}.") from error


def _refusal(error: OSError) -> type[StorageError]:
    return AccessDeniedError if error.errno in _DENIED else StorageError


def _replace(temporary: str, path: str) -> bool:
    os.replace(temporary, path)
    return True


def _link(temporary: str, path: str) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over a network file system the answer to a successful link may be lost, and its repetition finds our own file.
        won = os.stat(temporary).st_nlink > 1
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        won = rename_new(temporary, path)
    else:
        won = True
    _unlink(temporary)
    return won


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while data:
        data = os.read(fd, 1 << 24)
        parts.append(data)
    return b"".join(parts)


if _POSITIONED:
    _read_at = os.pread
else:

    def _read_at(fd: int, length: int, start: int, /) -> bytes:
        os.lseek(fd, start, os.SEEK_SET)
        return os.read(fd, length)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":
        return  # Windows cannot open folders, and journals names by itself
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network file systems refuse to flush folders and are synchronous instead.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def _sweep(folder: str) -> None:
    limit = time.time() - _LITTER_SECONDS
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat().st_mtime < limit:
                    Path(entry.path).unlink()
