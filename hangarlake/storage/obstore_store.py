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
from obstore.exceptions import AlreadyExistsError, GenericError, NotFoundError, PermissionDeniedError
from obstore.store import AzureStore, GCSStore, S3Store

from hangarlake.errors import ObjectNotFoundError, ObjectTruncatedError, StorageError
from hangarlake.storage.base import ObjectInfo, ObjectStore
from hangarlake.storage.cloud import translate
from hangarlake.storage.executors import map_io
from hangarlake.storage.fsspec_store import FsspecStore
from hangarlake.storage.keys import check_key, check_prefix
from hangarlake.storage.redact import redact_text, redact_url, secrets_of
from hangarlake.storage.retry import RetryPolicy

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
_DELETE_BATCH = 1000

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
        self._pid = os.getpid()

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        check_key(key)
        if (other := self._forked()) is not None:
            return other.get(key)
        return self._call("read", key, lambda: obstore.get(self._store, key).bytes().to_bytes())

    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        if (other := self._forked()) is not None:
            return other.get_ranges(ranges)
        wanted = [item for item in ranges if item.length != 0]
        found = iter(map_io(self._read, wanted))
        return [next(found) if item.length != 0 else b"" for item in ranges]

    def _read(self, item: ByteRange) -> Buffer:
        if item.start < 0 or item.length < 0:
            raise StorageError(f"{item} is not a range of bytes.")
        check_key(item.key)
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
        # The server ignores ranges and answers 200: it has nothing but the whole object.
        return memoryview(self.get(item.key))[item.start : item.start + item.length]

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

        # The client does not repeat a conditional request whose answer was lost. Here it may be repeated: «exists» may
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
        check_prefix(prefix)
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
        if self._bucket is None:
            self._bucket = _open(replace(here, prefix=""))
        bucket = self._bucket
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
        global _runtime_pid
        _runtime_pid = os.getpid()
        if self._engine is None:
            self._engine = _open(self._target)
        return self._engine

    def _forked(self) -> FsspecStore | None:
        if _runtime_pid is None or _runtime_pid == os.getpid():
            return None
        if self._substitute is None:
            self._substitute = FsspecStore(*for_fsspec(self._typed, self._options))
        return self._substitute

    def close(self) -> None:
        self._engine = None
        self._bucket = None

    def __reduce__(self) -> tuple[type[ObstoreStore], tuple[str, dict[str, Any]]]:
        return ObstoreStore, (self._typed, self._options)

    def __repr__(self) -> str:
        return f"ObstoreStore({self.url!r})"

    def _call(self, verb: str, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:
            self._fail(verb, key, error)

    def _fail(self, verb: str, key: str, error: Exception) -> NoReturn:
        if isinstance(error, StorageError):
            raise error
        text = str(error)
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            raise StorageError(
                f"Cannot {verb} {key} in {self.url}: there is no such bucket. Create it first."
            ) from error
        if isinstance(error, FileNotFoundError | NotFoundError):
            raise ObjectNotFoundError(f"There is no object {key} in {self.url}.") from error
        if verb == "read" and _status(error) == 416:
            raise ObjectTruncatedError(f"{key} in {self.url} ends before the range that was asked for.") from error
        if isinstance(error, _UndecidedError):
            text = "the server is busy with other requests for this object"
        elif isinstance(error, PermissionDeniedError | PermissionError):
            text = "access denied. Check the credentials and their rights"
        else:
            # The first line tells what happened; Rust's debugging output of it follows.
            text = redact_text(text.partition("\n")[0], self._secrets)[:500]
        raise StorageError(f"Cannot {verb} {key} in {self.url}: {text}") from error


class _UndecidedError(Exception):
    """A conditional request was refused although the object is absent."""


def for_fsspec(url: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return `url` and `options` as the file systems of fsspec want them."""
    translated = dict(options)
    if url.startswith(("s3://", "s3a://")):
        for name in ("region", "region_name"):
            if (region := translated.pop(name, None)) is not None:
                client = dict(translated.get("client_kwargs", {}))
                translated["client_kwargs"] = {"region_name": region, **client}
    return url, translated


def _open(target: CloudTarget) -> S3Store | GCSStore | AzureStore:
    # One configuration type for each kind of store, of which the translation knows nothing.
    config: Any = target.config
    more: dict[str, Any] = {"client_options": target.client, "retry_config": _RETRIES}
    if target.prefix:
        more["prefix"] = target.prefix
    try:
        if target.kind == "s3":
            if target.profile is not None:
                more["credential_provider"] = _profile_credentials(target.profile)
            return S3Store(target.bucket, config=config, **more)
        if target.kind == "gs":
            return GCSStore(target.bucket, config=config, **more)
        return AzureStore(target.bucket, config=config, **more)
    except Exception as error:
        text = redact_text(str(error).partition("\n")[0], secrets_of(target.config))
        raise StorageError(f"Cannot open {target.kind}://{target.bucket}/{target.prefix}: {text}") from error


def _profile_credentials(profile: str) -> Callable[[], dict[str, Any]]:
    """Return a source of AWS credentials from configuration files, single sign-on included, which obstore does not read."""
    import botocore.session

    session = botocore.session.Session(profile=profile or None)

    def credentials() -> dict[str, Any]:
        found = session.get_credentials()
        if found is None:
            raise StorageError("No AWS credentials were found in the configuration files. Log in, or set AWS_PROFILE.")
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": getattr(found, "_expiry_time", None),
        }

    return credentials


def _status(error: Exception) -> int | None:
    match = _STATUS.search(str(error))
    return int(match[1]) if match else None


def _may_repeat(error: BaseException) -> bool:
    if isinstance(error, _UndecidedError):
        return True
    # With a status the server has answered, and the client has repeated what was worth it.
    return isinstance(error, GenericError) and _status(error) is None and "HTTP error" in str(error)
