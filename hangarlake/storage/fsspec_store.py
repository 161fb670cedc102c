"""Objects in anything that fsspec opens."""

from __future__ import annotations

import inspect
import os
import pickle
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from hangarlake.errors import AccessDeniedError, ObjectNotFoundError, ObjectTruncatedError, StorageError
from hangarlake.storage.base import ObjectInfo, ObjectStore, check_range
from hangarlake.storage.cloud import PROTOCOLS
from hangarlake.storage.credentials import REMEDIES, describe_denial, is_denied, is_unauthenticated
from hangarlake.storage.endpoints import Endpoint, describe_unreachable, find_endpoint, is_unreachable, place_of
from hangarlake.storage.executors import map_io
from hangarlake.storage.keys import check_folder, check_key, check_prefix, next_parts
from hangarlake.storage.redact import redact_text, redact_url, secrets_of
from hangarlake.storage.retry import (
    NEEDS_BUCKET,
    RetryPolicy,
    chain_of,
    codes_of,
    is_absent,
    is_conflict,
    is_missing_bucket,
    is_present,
    is_transient,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fsspec import AbstractFileSystem

    from hangarlake.storage.base import Buffer, ByteRange

__all__ = ["FsspecStore"]

T = TypeVar("T")

_HTTP = frozenset({"http", "https"})
# Options that stop fsspec from answering out of its own, possibly stale, memory.
_FRESH = {"use_listings_cache": False, "skip_instance_cache": True}

# fsspec's memory file system looks first and writes then. It never leaves the process, so a lock makes that safe.
_memory_lock = threading.Lock()


class FsspecStore(ObjectStore):
    """A store on an fsspec file system.

    Object stores (S3, GCS, Azure) create conditionally in the server. Other file systems are asked for
    ``pipe_file(mode="create")`` if they have their own; where it is fsspec's default, which looks first and writes then,
    the store says so in `creates_unsafely`.

    Parameters
    ----------
    target : str or fsspec.AbstractFileSystem
        Any URL that fsspec opens, chained ones too, or a file system.
    storage_options : mapping, optional
        Options of the file system, with a URL.
    path : str
        Where in a file system that was passed the store's root is.
    url : str, optional
        What to call the store.
    retry : RetryPolicy, optional
        Instead of the default: 5 attempts, or 1 where the file system has retries of its own.
    """

    def __init__(
        self,
        target: str | AbstractFileSystem,
        storage_options: Mapping[str, Any] | None = None,
        *,
        path: str = "",
        url: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._target = target
        self._options = dict(storage_options or {})
        self._path = path
        self._retry = retry
        self._secrets = secrets_of(self._options)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._filesystem: AbstractFileSystem | None = None
        self._emulated: bool | None = None
        self._endpoint: Endpoint | None = None
        if isinstance(target, str):
            self.url = redact_url(target if url is None else url)
            if (kind := PROTOCOLS.get(target.partition("://")[0])) is not None:
                self._endpoint = find_endpoint(kind, self._options)
            self._filesystem, self._root = self._open(target)
        else:
            self._filesystem = target
            self._root = path.rstrip("/")
            self._secrets = secrets_of(getattr(_innermost(target), "storage_options", {}))
            self.url = url or f"{_protocols(target)[0]}://{self._root}"
        if getattr(self._filesystem, "asynchronous", False):
            raise StorageError(
                f"{self.url} was opened with asynchronous=True, which belongs to one event loop. Pass it without."
            )
        protocols = _protocols(_innermost(self._filesystem))
        # The kind of cloud, if it is one.
        self._kind = next((PROTOCOLS[protocol] for protocol in protocols if protocol in PROTOCOLS), None)
        self._is_http = not _HTTP.isdisjoint(protocols)
        self._is_memory = isinstance(_innermost(self._filesystem), MemoryFileSystem)

    @property
    def place(self) -> str:
        return place_of(self.url, self._endpoint)

    @property
    def creates_unsafely(self) -> bool:
        if self._emulated is None:
            self._emulated = not self._is_memory and not _has_own_create(_innermost(self._fs))
        return self._emulated

    @property
    def can_list(self) -> bool:
        return not self._is_http

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        fs, path = self._fs, self._at(key)
        # Unless told otherwise s3fs asks for the length first, to split large objects.
        direct = {"max_concurrency": 1} if self._kind == "s3" and fs is _innermost(fs) else {}
        return bytes(self._call("read", key, lambda: fs.cat_file(path, **direct)))

    def get_bounded(self, key: str, limit: int) -> bytes:
        fs, path = self._fs, self._at(key)
        try:
            data = bytes(self._call("read", key, lambda: fs.cat_file(path, start=0, end=limit + 1)))
        except ObjectTruncatedError:
            data = self.get(key)  # an empty object has no first byte
        self._check_length(key, len(data), limit)
        return data

    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        for item in ranges:
            if item.length != 0:
                check_range(item, self.url)
        wanted = [item for item in ranges if item.length != 0]
        if getattr(self._fs, "async_impl", False) and len(wanted) > 1:
            found = iter(self._gather(wanted))
        else:
            found = iter(map_io(self._read, wanted))
        return [next(found) if item.length != 0 else b"" for item in ranges]

    def _read(self, item: ByteRange) -> Buffer:
        fs, path, end = self._fs, self._at(item.key), item.start + item.length
        data = self._call("read", item.key, lambda: fs.cat_file(path, start=item.start, end=end))
        return self._sliced(item, data)

    def _gather(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        fs = self._fs
        answers = fs.cat_ranges(
            [self._at(item.key) for item in ranges],
            [item.start for item in ranges],
            [item.start + item.length for item in ranges],
            on_error="return",
        )
        results: list[Buffer] = []
        for item, answer in zip(ranges, answers, strict=True):
            if isinstance(answer, BaseException):
                # Alone it goes through the retries, which turn a lasting error into one of ours.
                if not is_transient(answer) or self._policy().attempts == 1:
                    self._fail("read", item.key, answer)
                results.append(self._read(item))
            else:
                results.append(self._sliced(item, answer))
        return results

    def _sliced(self, item: ByteRange, data: Buffer) -> Buffer:
        if len(data) == item.length:
            return data
        end = item.start + item.length
        if len(data) >= end and len(data) > item.length:
            # A server without ranges answers 200 and the whole object.
            return memoryview(data)[item.start : end]
        raise ObjectTruncatedError(
            f"{item.key} in {self.url} ends early: {item.length} bytes were asked for from {item.start}, "
            f"and {len(data)} came."
        )

    # ---- writing ---------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer) -> None:
        fs, path, content = self._fs, self._at(key), bytes(data)
        self._call("write", key, lambda: self._with_folder(path, lambda: fs.pipe_file(path, content)))

    def put_new(self, key: str, data: Buffer) -> bool:
        fs, path, content = self._fs, self._at(key), bytes(data)

        def create() -> bool:
            try:
                self._with_folder(path, lambda: fs.pipe_file(path, content, mode="create"))
            except Exception as error:
                if is_present(error):
                    return False
                raise
            return True

        if self._is_memory:
            with _memory_lock:
                return self._call("create", key, create)
        if self.creates_unsafely:
            if self.exists(key):
                return False
            self.put(key, content)
            return True
        # A conflict was not decided by the server, and clients do not repeat it.
        return self._call("create", key, lambda: self._policy().run(create, attempts=5, when=is_conflict))

    def delete(self, keys: Sequence[str]) -> None:
        fs = self._fs

        def remove(key: str) -> None:
            try:
                self._call("delete", key, lambda: fs.rm_file(self._at(key)))
            except ObjectNotFoundError:
                return

        map_io(remove, keys)

    def _with_folder(self, path: str, write: Callable[[], object]) -> None:
        try:
            write()
        except FileNotFoundError:
            if self._kind is not None or self._is_http:
                raise
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            write()

    # ---- listing ---------------------------------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder, _, start = check_prefix(prefix).rpartition("/")
        fs, base = self._fs, self._join(folder)
        self._refuse_listing()
        narrow = {"prefix": start} if start and self._kind is not None and fs is _innermost(fs) else {}

        def find() -> dict[str, dict[str, Any]]:
            fs.invalidate_cache()
            try:
                found: dict[str, dict[str, Any]] = fs.find(base, detail=True, withdirs=False, **narrow)
            except FileNotFoundError as error:
                if is_missing_bucket(error):
                    raise
                return {}
            return found

        infos = []
        for name, info in self._call("list", prefix, find).items():
            key = self._key_of(name)
            if key is not None and key.startswith(prefix) and info.get("type", "file") == "file":
                infos.append(ObjectInfo(key, int(info.get("size") or 0), _modified(info)))
        yield from sorted(infos, key=lambda info: info.key)

    def list_prefixes(self, prefix: str) -> builtins.list[str]:
        check_folder(prefix)
        if self._kind is None:
            # Folders without objects may be left over in a real file system, and do not count.
            return next_parts([info.key for info in self.list(prefix)], prefix)
        fs, base = self._fs, self._join(prefix.rstrip("/"))

        def ls() -> builtins.list[str]:
            fs.invalidate_cache()
            try:
                return [entry["name"] for entry in fs.ls(base, detail=True)]
            except FileNotFoundError as error:
                if is_missing_bucket(error):
                    raise
                return []

        keys = [self._key_of(name.rstrip("/")) for name in self._call("list", prefix, ls)]
        return next_parts([key for key in keys if key is not None and key != prefix.rstrip("/")], prefix)

    def exists(self, key: str) -> bool:
        fs, path = self._fs, self._at(key)
        if self._is_http:
            return bool(self._call("look up", key, lambda: fs.exists(path)))
        try:
            info = self._call("look up", key, lambda: fs.info(path))
        except ObjectNotFoundError:
            return False
        return bool(info.get("type") == "file")

    def _refuse_listing(self) -> None:
        if self._is_http:
            raise StorageError(
                f"{self.url} cannot be listed: HTTP has no listing. Name the branch, tag or commit, or clone from a bucket."
            )

    # ---- the rest --------------------------------------------------------------------------------------------------

    @property
    def _fs(self) -> AbstractFileSystem:
        if self._pid != os.getpid():
            self._after_fork()
        filesystem = self._filesystem
        if filesystem is None:
            with self._lock:
                if self._filesystem is None:
                    self._filesystem = self._open(str(self._target))[0]
                filesystem = self._filesystem
        return filesystem

    def _after_fork(self) -> None:
        """Let go of the parent's connections and event loop."""
        self._lock = threading.Lock()
        if isinstance(self._target, str):
            self._filesystem = None
        elif _is_async(self._target):
            # fsspec pickles what is needed to connect again; in a new process that gives new instances.
            self._target = self._filesystem = pickle.loads(pickle.dumps(self._target))
        self._pid = os.getpid()

    def _open(self, url: str) -> tuple[AbstractFileSystem, str]:
        try:
            return _open_url(url, self._options)
        except ImportError as error:
            raise StorageError(f"Cannot open {self.url}: {error}") from error
        except ValueError as error:
            text = redact_text(str(error), self._secrets)
            raise StorageError(f"Cannot open {self.url}: {text}. Check the URL's protocol and the options.") from error
        except TypeError as error:
            text = redact_text(str(error), self._secrets)
            raise StorageError(f"Cannot open {self.url}: storage_options do not fit: {text}") from error

    def close(self) -> None:
        if isinstance(self._target, str):
            self._filesystem = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "target": self._target,
            "options": self._options,
            "path": self._path,
            "url": self.url,
            "retry": self._retry,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        FsspecStore.__init__(
            self, state["target"], state["options"], path=state["path"], url=state["url"], retry=state["retry"]
        )

    def __repr__(self) -> str:
        return f"FsspecStore({self.url!r})"

    def _join(self, key: str) -> str:
        if self._is_http:
            key = key.replace("%", "%25")  # the address of an object whose name has a percent sign
        return f"{self._root}/{key}".rstrip("/") if self._root else key

    def _at(self, key: str) -> str:
        return self._join(check_key(key))

    def _key_of(self, name: str) -> str | None:
        root = self._root.strip("/")
        name = name.lstrip("/")
        if not root:
            return name
        return name[len(root) + 1 :] if name.startswith(root + "/") else None

    def _policy(self) -> RetryPolicy:
        if self._retry is None:
            self._retry = RetryPolicy(attempts=5 if self._kind is None else 1)
        return self._retry

    def _call(self, verb: str, key: str, call: Callable[[], T]) -> T:
        try:
            return self._policy().run(call)
        except Exception as error:
            self._fail(verb, key, error)

    def _fail(self, verb: str, key: str, error: BaseException) -> NoReturn:
        if isinstance(error, StorageError):
            raise error
        absent = is_absent(error)
        if is_missing_bucket(error) or (absent and verb in NEEDS_BUCKET):
            place = "place" if self._kind is None else "bucket"
            raise StorageError(
                f"Cannot {verb} {key} in {self.url}: there is no such {place}. Create it first."
            ) from error
        if absent:
            raise ObjectNotFoundError(f"There is no object {key} in {self.url}.") from error
        if verb == "read" and not {"416", "InvalidRange"}.isdisjoint(codes_of(error)):
            raise ObjectTruncatedError(f"{key} in {self.url} ends before the range that was asked for.") from error
        if isinstance(error, NotImplementedError):
            raise StorageError(f"Cannot {verb} {key} in {self.url}: this kind of store cannot do that.") from error
        failed = f"Cannot {verb} {key} in {self.url}"
        text = redact_text(f"{type(error).__name__}: {error}", self._secrets)[:500]
        if self._kind is not None and is_unauthenticated(error):
            raise AccessDeniedError(f"{failed}: {text.rstrip('.')}. {REMEDIES[self._kind]}") from error
        if is_denied(error):
            raise AccessDeniedError(f"{failed}: {describe_denial(self._kind, verb, codes_of(error))}") from error
        if is_unreachable(error) and (self._endpoint is not None or self._is_http):
            details = " ".join(f"{type(link).__name__}: {link}" for link in chain_of(error))
            raise StorageError(f"{failed}: {describe_unreachable(self._endpoint, self.url, details)}") from error
        raise StorageError(f"{failed}: {text}") from error


def _open_url(url: str, options: Mapping[str, Any]) -> tuple[AbstractFileSystem, str]:
    if "::" not in url:
        protocol = url.partition("://")[0]
        if PROTOCOLS.get(protocol) == "gs" and (options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")):
            # The registered class asks gRPC services about the bucket's kind, which emulators do not have.
            from gcsfs.core import GCSFileSystem

            filesystem = GCSFileSystem(**{"token": "anon", **_FRESH, **options})
            return filesystem, filesystem._strip_protocol(url).rstrip("/")
        options = {**(_FRESH if fsspec.get_filesystem_class(protocol).cachable else {}), **options}
    filesystem, root = fsspec.core.url_to_fs(url, **options)
    return filesystem, root.rstrip("/")


def _protocols(filesystem: AbstractFileSystem) -> tuple[str, ...]:
    protocol = getattr(filesystem, "protocol", "custom")
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _innermost(filesystem: AbstractFileSystem) -> AbstractFileSystem:
    while isinstance(filesystem, DirFileSystem):
        filesystem = filesystem.fs
    return filesystem


def _is_async(filesystem: Any) -> bool:
    while filesystem is not None:
        if getattr(filesystem, "async_impl", False):
            return True
        filesystem = getattr(filesystem, "fs", None)
    return False


def _has_own_create(filesystem: AbstractFileSystem) -> bool:
    """Whether the file system itself implements ``pipe_file(mode="create")``, other than by looking first."""
    kind = type(filesystem)
    if isinstance(filesystem, AsyncFileSystem):
        method: Any = kind._pipe_file
        own = method is not AsyncFileSystem._pipe_file
    else:
        method = kind.pipe_file
        own = method is not fsspec.AbstractFileSystem.pipe_file
    if not own:
        return False
    # One that swallows the word in **kwargs may still obey it, or not: the probe finds out.
    parameters = inspect.signature(method).parameters.values()
    return any(item.name == "mode" or item.kind is item.VAR_KEYWORD for item in parameters)


def _modified(info: Mapping[str, Any]) -> datetime | None:
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = info.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return None


def _renew_lock() -> None:
    global _memory_lock
    _memory_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
