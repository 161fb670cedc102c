"""Objects in S3, GCS and Azure through obstore, the fast engine."""

from __future__ import annotations

import functools
import logging
import os
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from hangarlake.errors import AccessDeniedError, ObjectNotFoundError, ObjectTruncatedError, StorageError
from hangarlake.storage.base import ObjectInfo, ObjectStore, check_range
from hangarlake.storage.cloud import for_fsspec, translate
from hangarlake.storage.credentials import (
    NONE_FOUND,
    REMEDIES,
    aws_credentials,
    check_metadata_service,
    describe_denial,
    names_metadata_service,
)
from hangarlake.storage.endpoints import describe_unreachable, place_of
from hangarlake.storage.executors import map_io
from hangarlake.storage.fsspec_store import FsspecStore
from hangarlake.storage.keys import check_folder, check_key, check_prefix
from hangarlake.storage.redact import redact_text, redact_url, secrets_of
from hangarlake.storage.retry import NEEDS_BUCKET, RetryPolicy

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hangarlake.storage.base import Buffer, ByteRange
    from hangarlake.storage.cloud import CloudTarget

__all__ = ["ObstoreStore"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The client's own retries: long enough for a restart of a server, short enough for a person who waits.
_RETRIES: dict[str, Any] = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"(?:<Code>|\(code: )(\w+)")
_ADDRESS = re.compile(r"\bhttps?://[^\s,)]+")
_DELETE_BATCH = 1000

_ENGINES: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}

# The process in which obstore's threads were started; they do not survive a fork, and a child that waits for them
# waits for ever.
_runtime_pid: int | None = None


class ObstoreStore(ObjectStore):
    """A store in S3, GCS or Azure.

    In a child that was forked after the parent had used obstore the same objects are reached through fsspec instead.

    Parameters
    ----------
    url : str
        ``s3://``, ``gs://`` or ``az://``.
    storage_options : mapping, optional
        As fsspec takes them.

    Raises
    ------
    StorageError
        The options have no translation (see :func:`hangarlake.storage.cloud.translate`), or make no sense.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self._typed = url
        self._options = dict(storage_options or {})
        self._secrets = secrets_of(self._options)
        self.url = redact_url(url)
        target = translate(url, self._options)
        if target is None:
            raise StorageError(
                f"{self.url}: storage_options {sorted(self._options)} cannot be given to obstore. Use engine='fsspec'."
            )
        self._target = target
        self._engine: S3Store | GCSStore | AzureStore | None = None
        self._bucket: S3Store | GCSStore | AzureStore | None = None
        self._substitute: FsspecStore | None = None

    @property
    def place(self) -> str:
        return place_of(self.url, self._target.endpoint)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        check_key(key)
        if (other := self._forked()) is not None:
            return other.get(key)
        return self._call("read", key, lambda: obstore.get(self._store, key).bytes().to_bytes())

    def get_bounded(self, key: str, limit: int) -> bytes:
        check_key(key)
        if (other := self._forked()) is not None:
            return other.get_bounded(key, limit)
        # The length comes with the head of the answer, before its body.
        answer = self._call("read", key, lambda: obstore.get(self._store, key))
        self._check_length(key, answer.meta["size"], limit)
        return self._call("read", key, lambda: answer.bytes().to_bytes())

    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        if (other := self._forked()) is not None:
            return other.get_ranges(ranges)
        wanted = [item for item in ranges if item.length != 0]
        found = iter(map_io(self._read, wanted))
        return [next(found) if item.length != 0 else b"" for item in ranges]

    def _read(self, item: ByteRange) -> Buffer:
        check_key(item.key)
        check_range(item, self.url)
        data: Buffer = self._call("read", item.key, lambda: self._request(item))
        if len(data) != item.length:
            raise ObjectTruncatedError(
                f"{item.key} in {self.url} ends early: {item.length} bytes were asked for from {item.start}, "
                f"and {len(data)} came."
            )
        return data

    def _request(self, item: ByteRange) -> Buffer:
        try:
            return memoryview(obstore.get_range(self._store, item.key, start=item.start, length=item.length))
        except GenericError as error:
            if "non-partial response" not in str(error):
                raise
        # The server ignores ranges and answers 200 with the whole object, of which no more is read, and kept, than need be.
        position, end = 0, item.start + item.length
        kept = bytearray()
        for part in obstore.get(self._store, item.key).stream():
            kept += memoryview(part)[max(0, item.start - position) : end - position]
            position += len(part)
            if position >= end:
                break
        return memoryview(kept)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer) -> None:
        check_key(key)
        if (other := self._forked()) is not None:
            other.put(key, data)
            return
        self._call("write", key, lambda: obstore.put(self._store, key, data, use_multipart=False))

    def put_new(self, key: str, data: Buffer) -> bool:
        check_key(key)
        if (other := self._forked()) is not None:
            return other.put_new(key, data)

        def create() -> bool:
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if _status(error) == 409 and not self.exists(key):
                    # The server was busy with another request for this object, and decided nothing.
                    raise _UndecidedError from error
                return False
            return True

        # The client does not repeat a conditional request whose answer was lost. Here it may be repeated: “exists” may
        # then be our own doing, which callers are told to expect.
        return self._call("create", key, lambda: RetryPolicy(attempts=4).run(create, when=_may_repeat))

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        if (other := self._forked()) is not None:
            other.delete(keys)
            return
        for start in range(0, len(keys), _DELETE_BATCH):
            batch = list(keys[start : start + _DELETE_BATCH])
            try:
                self._call("delete", batch[0], functools.partial(self._delete_many, batch))
            except ObjectNotFoundError:
                # Where there is no bulk delete the first absent object ends the batch.
                map_io(self._delete_one, batch)

    def _delete_many(self, keys: Sequence[str]) -> None:
        obstore.delete(self._store, keys)

    def _delete_one(self, key: str) -> None:
        try:
            self._call("delete", key, lambda: obstore.delete(self._store, key))
        except ObjectNotFoundError:
            return

    # ---- listing ---------------------------------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        if (other := self._forked()) is not None:
            yield from other.list(prefix)
            return
        # obstore lists whole path parts.
        folder = prefix.rpartition("/")[0]
        pages = iter(self._call("list", prefix, lambda: obstore.list(self._store, folder or None)))
        while (page := self._call("list", prefix, lambda: next(pages, None))) is not None:
            for meta in page:
                if meta["path"].startswith(prefix):
                    yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"])

    def list_prefixes(self, prefix: str) -> builtins.list[str]:
        check_folder(prefix)
        if (other := self._forked()) is not None:
            return other.list_prefixes(prefix)
        folder = prefix.rstrip("/")
        level = self._call("list", prefix, lambda: obstore.list_with_delimiter(self._store, folder or None))
        names = [*level["common_prefixes"], *(meta["path"] for meta in level["objects"])]
        return sorted({name.rstrip("/").rpartition("/")[2] for name in names if name.rstrip("/") != folder})

    def exists(self, key: str) -> bool:
        check_key(key)
        if (other := self._forked()) is not None:
            return other.exists(key)
        try:
            self._call("look up", key, lambda: obstore.head(self._store, key))
        except ObjectNotFoundError:
            return False
        return True

    def copy_from(self, source: ObjectStore, key: str) -> int | None:
        check_key(key)
        if not isinstance(source, ObstoreStore) or self._forked() is not None:
            return None
        there, here = source._target, self._target
        if replace(there, prefix=here.prefix) != here:
            return None  # another bucket, or other credentials: one server need not see both
        bucket = self._whole_bucket
        paths = [f"{target.prefix}/{key}".lstrip("/") for target in (there, here)]
        try:
            self._call("copy", key, lambda: obstore.copy(bucket, *paths))
            size: int = self._call("look up", key, lambda: obstore.head(bucket, paths[1]))["size"]
        except ObjectNotFoundError:
            raise
        except StorageError as error:
            logger.info("%s is not copied by the server: %s", key, error)
            return None
        return size

    # ---- the rest --------------------------------------------------------------------------------------------------

    @property
    def _store(self) -> S3Store | GCSStore | AzureStore:
        if self._engine is None:
            self._engine = self._open(self._target)
        return self._engine

    @property
    def _whole_bucket(self) -> S3Store | GCSStore | AzureStore:
        if self._bucket is None:
            self._bucket = self._open(replace(self._target, prefix=""))
        return self._bucket

    def _open(self, target: CloudTarget) -> S3Store | GCSStore | AzureStore:
        global _runtime_pid
        # One configuration type for each kind of store, of which the translation knows nothing.
        config: Any = target.config
        more: dict[str, Any] = {"client_options": target.client, "retry_config": _RETRIES}
        if target.prefix:
            more["prefix"] = target.prefix
        try:
            if target.profile is not None:
                more["credential_provider"] = aws_credentials(target.profile)
            opened: S3Store | GCSStore | AzureStore = _ENGINES[target.kind](target.bucket, config=config, **more)
        except BaseException as error:
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            text = redact_text(str(error).partition("\n")[0], self._secrets)
            remedy = f". {REMEDIES[target.kind]}" if "Missing" in text or "must be specified" in text else ""
            raise StorageError(f"Cannot open {self.url}: {text}{remedy}") from error
        check_metadata_service(target, self.url)
        _runtime_pid = os.getpid()
        return opened

    def _forked(self) -> FsspecStore | None:
        if _runtime_pid is None or _runtime_pid == os.getpid():
            return None
        if self._substitute is None:
            try:
                self._substitute = FsspecStore(*for_fsspec(self._typed, self._options))
            except StorageError as error:
                raise StorageError(
                    f"{error} This process was forked from one that had used {self.url}, and reaches it through fsspec: "
                    "install what that needs, or start processes by 'spawn' or 'forkserver' instead."
                ) from error
        return self._substitute

    def close(self) -> None:
        self._engine = None
        self._bucket = None
        self._substitute = None

    def __reduce__(self) -> tuple[type[ObstoreStore], tuple[str, dict[str, Any]]]:
        return ObstoreStore, (self._typed, self._options)

    def __repr__(self) -> str:
        return f"ObstoreStore({self.url!r})"

    def _call(self, verb: str, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except BaseException as error:
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            self._fail(verb, key, error)

    def _fail(self, verb: str, key: str, error: BaseException) -> NoReturn:
        if isinstance(error, StorageError):
            raise error
        text = str(error)
        failed = f"Cannot {verb} {key} in {self.url}"
        absent = isinstance(error, FileNotFoundError | NotFoundError)
        if "NoSuchBucket" in text or "ContainerNotFound" in text or (absent and verb in NEEDS_BUCKET):
            raise StorageError(f"{failed}: there is no such bucket. Create it first.") from error
        if absent:
            raise ObjectNotFoundError(f"There is no object {key} in {self.url}.") from error
        if verb == "read" and _status(error) == 416:
            raise ObjectTruncatedError(f"{key} in {self.url} ends before the range that was asked for.") from error
        if _is_unreachable(error):
            address = _ADDRESS.search(text)
            told = describe_unreachable(self._target.endpoint, address[0] if address else self.url, text)
            raise StorageError(f"{failed}: {told}") from error
        codes = _CODE.findall(text)
        # The first line tells what happened; Rust's debugging output of it follows.
        text = redact_text(text.partition("\n")[0], self._secrets)[:500]
        if names_metadata_service(text) or isinstance(error, UnauthenticatedError):
            # What a source of credentials says comes after its name.
            text = NONE_FOUND if names_metadata_service(text) else text.rpartition("credential provider: ")[2]
            text = text.removeprefix("StorageError: ")
            raise AccessDeniedError(f"{failed}: {text}. {REMEDIES[self._target.kind]}") from error
        denied = isinstance(error, PermissionDeniedError | PermissionError) or _status(error) == 403
        if denied or not {"AccessDenied", "ExpiredToken"}.isdisjoint(codes):
            raise AccessDeniedError(f"{failed}: {describe_denial(self._target.kind, verb, codes)}") from error
        if isinstance(error, _UndecidedError):
            text = "the server is busy with other requests for this object. Try again later"
        elif _is_panic(error):
            text = f"the client crashed ({text}). Check the URL and the options, or try engine='fsspec'"
        raise StorageError(f"{failed}: {text}") from error


class _UndecidedError(Exception):
    """A conditional request was refused although the object is absent."""


def _is_panic(error: BaseException) -> bool:
    """Whether Rust gave up: pyo3's class for that is no ``Exception``, and cannot be imported."""
    return type(error).__name__ == "PanicException"


def _is_unreachable(error: BaseException) -> bool:
    """Whether no connection came about. The client has tried that several times, since nothing had been sent."""
    text = str(error)
    return isinstance(error, GenericError) and "HTTP error" in text and "kind: Connect" in text


def _status(error: BaseException) -> int | None:
    match = _STATUS.search(str(error))
    return int(match[1]) if match else None


def _may_repeat(error: BaseException) -> bool:
    if isinstance(error, _UndecidedError):
        return True
    # With a status the server has answered, and the client has repeated what was worth it.
    if not isinstance(error, GenericError) or _is_unreachable(error):
        return False
    return _status(error) is None and "HTTP error" in str(error)
