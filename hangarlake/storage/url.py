"""From what a person types to a store."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from hangarlake.errors import StorageError
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.cloud import PROTOCOLS, for_fsspec, split_bucket_url, translate
from hangarlake.storage.endpoints import find_endpoint
from hangarlake.storage.fsspec_store import FsspecStore
from hangarlake.storage.local import LocalStore
from hangarlake.storage.memory import MemoryStore
from hangarlake.storage.obstore_store import ObstoreStore
from hangarlake.storage.options import check_options
from hangarlake.storage.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StoreLike", "open_store"]

# Quoted, for fsspec's classes carry no types.
StoreLike: TypeAlias = (
    "str | os.PathLike[str] | ObjectStore | fsspec.AbstractFileSystem"
    " | tuple[fsspec.AbstractFileSystem, str] | fsspec.FSMap"
)

_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(?:://|::)")
_ENGINES = ("fsspec", "obstore")


def open_store(
    url: StoreLike, storage_options: Mapping[str, Any] | None = None, *, create: bool = False
) -> ObjectStore:
    """Return the store at `url`.

    Parameters
    ----------
    url : str, os.PathLike, fsspec file system, (file system, path), fsspec mapping, or ObjectStore
        ``s3://bucket/path``, ``gs://``, ``az://``, ``memory://name``, ``file:///path``, a plain path (``~`` is the home
        folder), or any URL that fsspec opens. An `ObjectStore` is returned as it is.
    storage_options : mapping, optional
        As fsspec takes them. ``"engine": "fsspec"`` or ``"obstore"`` chooses between the two for S3, GCS and Azure.
    create : bool
        Make a local folder that does not exist.

    Raises
    ------
    StorageError
        The URL or its options make no sense, or a package is missing. Nothing is asked of the store itself.
    TypeError
        `url` is none of the above.
    """
    options = dict(storage_options or {})
    if isinstance(url, ObjectStore):
        return url
    if isinstance(url, os.PathLike):
        check_options(options, None, "a folder")
        return _open_local(os.fspath(url), None, create)
    if isinstance(url, fsspec.FSMap):
        return _open_filesystem(url.fs, url.root, create)
    if isinstance(url, tuple) and len(url) == 2:
        return _open_filesystem(url[0], url[1], create)
    if isinstance(url, fsspec.AbstractFileSystem):
        return _open_filesystem(url, "", create)
    if not isinstance(url, str):
        raise TypeError(
            "A repository's place is a URL, a path, an fsspec file system, a pair of one and a path, or an ObjectStore; "
            f"got {type(url).__name__}."
        )
    if not url.strip():
        raise StorageError("The URL is empty. Give a path or a URL such as s3://bucket/path.")
    match = _PROTOCOL.match(url)
    if match is None:
        check_options(options, None, "a folder")
        return _open_local(_expanded(url), url, create)
    protocol = match[1].lower()
    if "::" in url:
        return FsspecStore(url, options)
    rest = url[match.end() :]
    if protocol in ("file", "local"):
        check_options(options, None, f"{protocol}://")
        return _open_local(_file_path(url, rest), url, create)
    if protocol == "memory":
        if not rest.strip("/"):
            raise StorageError(f"{url} has no name. Write memory://NAME.")
        check_options(options, None, "memory://")
        return MemoryStore(rest)
    if protocol in PROTOCOLS:
        return _open_cloud(f"{protocol}://{rest}", options)
    # A class that was registered itself is in the registry alone.
    if protocol not in fsspec.available_protocols() and protocol not in fsspec.registry:
        raise StorageError(
            f"unknown protocol {protocol!r} in {redact_url(url)}; known are file, memory, s3, gs, az and those of fsspec, "
            "some of which need a package to be installed"
        )
    return FsspecStore(url, options)


def _open_local(path: str, url: str | None, create: bool) -> LocalStore:
    store = LocalStore(path, url)
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{path} is a file. A repository is a folder: give another path.")
    if create:
        store.make_root()
    return store


def _file_path(url: str, rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host in ("", "localhost") and slash:
        return unquote("/" + path) if "%" in path and not Path("/" + path).exists() else "/" + path
    # fsspec also takes file://relative/path.
    if not rest:
        raise StorageError(f"{url} has no path. Write file:///PATH.")
    return _expanded(rest)


def _expanded(path: str) -> str:
    try:
        return os.fspath(Path(path).expanduser())
    except RuntimeError as error:
        raise StorageError(
            f"{path} is in the home folder of a user unknown to this machine. Write the path in full."
        ) from error


def _open_filesystem(filesystem: Any, path: str, create: bool) -> ObjectStore:
    if not isinstance(filesystem, fsspec.AbstractFileSystem):
        raise TypeError(f"A pair has to be an fsspec file system and a path; got {type(filesystem).__name__}.")
    while isinstance(filesystem, DirFileSystem):
        path = f"{filesystem.path}/{path}".rstrip("/") if path else str(filesystem.path)
        filesystem = filesystem.fs
    if isinstance(filesystem, LocalFileSystem):
        # fsspec looks first and writes then; a hard link does it in one step.
        return _open_local(filesystem._strip_protocol(path), None, create)
    return FsspecStore(filesystem, path=filesystem._strip_protocol(path) if path else "")


def _open_cloud(url: str, options: dict[str, Any]) -> ObjectStore:
    engine = options.pop("engine", None)
    if engine is not None and engine not in _ENGINES:
        raise StorageError(f"There is no engine {engine!r}. Choose 'fsspec' or 'obstore', or none.")
    url, options = _take_credentials(url, options)
    kind = split_bucket_url(url)[0]
    check_options(options, kind, f"{url.partition('://')[0]}://")
    endpoint = find_endpoint(kind, options)
    if engine == "fsspec":
        return FsspecStore(*for_fsspec(url, options))
    if engine is None and kind == "gs" and endpoint is not None:
        # obstore speaks the XML API, of which emulators implement little.
        return FsspecStore(*for_fsspec(url, options))
    if engine == "obstore" or translate(url, options) is not None:
        return ObstoreStore(url, options)
    return FsspecStore(*for_fsspec(url, options))


def _take_credentials(url: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Move credentials from an S3 URL (``s3://key:secret@bucket``) into the options."""
    protocol, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, at, bucket = place.rpartition("@")
    if PROTOCOLS[protocol] != "s3" or not at:
        return url, options
    key, _, secret = user.partition(":")
    given = {"key": unquote(key), "secret": unquote(secret)}
    return f"{protocol}://{bucket}{slash}{path}", {**given, **options}
