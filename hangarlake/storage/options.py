"""Which storage options there are, so that a misspelt one is not ignored, or refused in a riddle."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any

import fsspec

from hangarlake.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["check_options"]

# Of every file system of fsspec.
_COMMON = frozenset(
    {
        "asynchronous",
        "batch_size",
        "default_block_size",
        "default_cache_type",
        "default_fill_cache",
        "dircache",
        "engine",
    }
    | {"listings_expiry_time", "loop", "max_concurrency", "max_paths", "protocol", "skip_instance_cache"}
    | {"target_options", "target_protocol", "use_listings_cache", "version_aware"}
)
# By kind of cloud, as in `CloudTarget`: those of s3fs, gcsfs and adlfs, and our own.
_OF_KIND = {
    "s3": frozenset(
        {"anon", "cache_regions", "client_kwargs", "config_kwargs", "endpoint_url", "event_hooks", "fixed_upload_size"}
        | {"include_builtin_handlers", "key", "local_expiry_check", "password", "profile", "region", "region_name"}
        | {
            "requester_pays",
            "s3_additional_kwargs",
            "secret",
            "session",
            "session_vars",
            "token",
            "use_ssl",
            "username",
        }
    ),
    "gs": frozenset(
        {"access", "anon", "block_size", "cache_timeout", "check_connection", "consistency", "default_location"}
        | {"endpoint_url", "project", "requester_pays", "requests_timeout", "secure_serialize", "session_kwargs"}
        | {"timeout", "token"}
    ),
    "az": frozenset(
        {"account_host", "account_key", "account_name", "anon", "assume_container_exists", "blocksize", "client_id"}
        | {"client_secret", "connection_string", "connection_timeout", "credential", "endpoint", "endpoint_url"}
        | {"location_mode", "read_timeout", "request_session", "sas_token", "socket_timeout", "tenant_id", "timeout"}
    ),
}
_OF_FOLDERS = frozenset({"auto_mkdir"})
# Arguments of an S3 client of botocore.
_CLIENT = frozenset(
    {"api_version", "aws_access_key_id", "aws_account_id", "aws_secret_access_key", "aws_session_token", "config"}
    | {"endpoint_url", "region_name", "use_ssl", "verify"}
)
# What other tools call them, where that is too far off for a misspelling.
_ELSEWHERE = {
    "access_key": "key",
    "access_key_id": "key",
    "aws_access_key_id": "key",
    "aws_endpoint_url": "endpoint_url",
    "aws_profile": "profile",
    "aws_region": "region_name",
    "aws_secret_access_key": "secret",
    "aws_session_token": "token",
    "credentials": "token",
    "endpoint": "endpoint_url",
    "secret_access_key": "secret",
    "secret_key": "secret",
    "session_token": "token",
}


def check_options(options: Mapping[str, Any], kind: str | None, place: str) -> None:
    """Check that storage options have names that mean something.

    Parameters
    ----------
    options : mapping
    kind : str or None
        ``"s3"``, ``"gs"`` or ``"az"``. ``None`` for places without options: those of all clouds are accepted there, and
        ignored, because one set of options may serve several repositories.
    place : str
        What the options are for, in the message.

    Raises
    ------
    StorageError
        Nobody knows an option of that name. Values are never shown.
    """
    known = _COMMON | (_OF_KIND[kind] if kind is not None else _OF_FOLDERS.union(*_OF_KIND.values()))
    unknown = sorted(str(name) for name in options if name not in known)
    if unknown and kind is not None:
        accepted = _accepted(kind)
        unknown = [name for name in unknown if name not in accepted]
    elif unknown:
        protocols = fsspec.available_protocols()  # options of a chained URL, for other repositories
        unknown = [name for name in unknown if name not in protocols]
    if unknown:
        raise _refusal("", unknown[0], known - _COMMON, place)
    client = options.get("client_kwargs")
    if kind == "s3" and isinstance(client, dict):
        strange = sorted(str(name) for name in client if name not in _CLIENT)
        if strange:
            raise _refusal("client_kwargs.", strange[0], _CLIENT, place)


def _refusal(above: str, name: str, known: Collection[str], place: str) -> StorageError:
    near = [_ELSEWHERE[name.lower()]] if _ELSEWHERE.get(name.lower()) in known else []
    near = near or difflib.get_close_matches(name.lower(), known, n=1)
    remedy = f"did you mean '{above}{near[0]}'?" if near else f"known are {', '.join(sorted(known))}"
    return StorageError(f"the storage option '{above}{name}' is not known for {place}; {remedy}")


def _accepted(kind: str) -> set[str]:
    """Return what the installed file system of a cloud takes: a later one than is known here may take more."""
    try:
        filesystem = fsspec.get_filesystem_class(kind)
    except ImportError:
        return set()
    return {
        parameter.name
        for each in filesystem.__mro__
        if "__init__" in vars(each)
        for parameter in inspect.signature(each.__init__).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name != "self"
    }
