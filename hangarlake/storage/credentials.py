"""Where credentials for clouds come from, and what to say where there are none, or where they do not suffice."""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hangarlake.errors import AccessDeniedError, StorageError
from hangarlake.storage.retry import chain_of, codes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hangarlake.storage.cloud import CloudTarget

__all__ = [
    "NONE_FOUND",
    "REMEDIES",
    "aws_credentials",
    "check_metadata_service",
    "describe_denial",
    "is_denied",
    "is_unauthenticated",
    "names_metadata_service",
]

# By kind of cloud, as in `CloudTarget`.
REMEDIES = {
    "s3": (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or pass storage_options={'key': …, 'secret': …}. "
        "A public bucket is read with storage_options={'anon': True}."
    ),
    "gs": (
        "Log in with 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS, or pass "
        "storage_options={'token': 'KEY.json'}. A public bucket is read with storage_options={'anon': True}."
    ),
    "az": (
        "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or pass storage_options={'account_name': …, "
        "'account_key': …}. A public container is read with storage_options={'account_name': …, 'anon': True}."
    ),
}

NONE_FOUND = "no credentials were found"

_WRITE = "these credentials do not allow writing; writing needs"
_DELETE = "these credentials do not allow deleting; deleting needs"
# What a request takes, by kind of cloud, in the words of its access control.
_RIGHTS = {
    "s3": {
        "read": "reading needs s3:GetObject and s3:ListBucket",
        "list": "reading needs the right to list the bucket (s3:ListBucket), too",
        "write": f"{_WRITE} s3:PutObject",
        "delete": f"{_DELETE} s3:DeleteObject",
    },
    "gs": {
        "read": "reading needs storage.objects.get",
        "list": "reading needs the right to list the bucket (storage.objects.list), too",
        "write": f"{_WRITE} storage.objects.create, and storage.objects.delete to replace objects",
        "delete": f"{_DELETE} storage.objects.delete",
    },
    "az": {
        "read": "reading needs the role Storage Blob Data Reader, or a signature with the right to read",
        "list": "reading needs the role Storage Blob Data Reader, or a signature with the right to list, too",
        "write": f"{_WRITE} the role Storage Blob Data Contributor, or a signature with the right to write",
        "delete": f"{_DELETE} the role Storage Blob Data Contributor, or a signature with the right to delete",
    },
}
_RIGHT_OF = {"look up": "read", "create": "write", "copy": "write"}
_DENIED_CODES = frozenset(
    {"403", "AccessDenied", "AllAccessDisabled", "AuthorizationFailure", "AuthorizationPermissionMismatch"}
)
# The credentials themselves are wrong: rights would not help.
_UNACCEPTED_CODES = frozenset(
    {"AuthenticationFailed", "ExpiredToken", "InvalidAccessKeyId", "InvalidAuthenticationInfo", "InvalidToken"}
    | {"SignatureDoesNotMatch", "TokenRefreshRequired"}
)

# Classes of the libraries below fsspec, by name: none of them is imported here.
_MISSING_NAMES = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"})
# The service by which machines in a cloud learn their credentials: the same address in all of them.
_METADATA_ADDRESS = ("169.254.169.254", 80)
_METADATA_MARKS = (_METADATA_ADDRESS[0], "metadata.google.internal", "/computeMetadata/", "/metadata/identity/")
# As patient as Google's own library; where there is no such service, nobody answers and nobody refuses.
_METADATA_ATTEMPTS = 3
_METADATA_TIMEOUT = 1.0
_METADATA_PAUSE = 0.2
# What of obstore's configuration and of the environment keeps it from asking that service, and names that say nothing of it.
_SOURCES = {
    "gs": frozenset({"service_account_key", "application_credentials", "bearer_token", "skip_signature"}),
    "az": frozenset({"account_key", "sas_key", "client_secret", "skip_signature"}),
}
_VARIABLES = {"gs": ("GOOGLE_", "GCE_METADATA"), "az": ("AZURE_", "IDENTITY_", "MSI_", "IMDS_")}
_NO_SOURCES = {"gs": ("GOOGLE_CLOUD_",), "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT")}


def aws_credentials(profile: str) -> Callable[[], dict[str, Any]]:
    """Return a source of AWS credentials, as obstore takes them, that looks where the AWS tools look.

    Configuration files (single sign-on included), web identities, containers, and the metadata service, of which obstore reads
    only some and waits for the last one too long.

    Parameters
    ----------
    profile : str
        Of the configuration files; ``""`` for the one that ``AWS_PROFILE`` names, or their default one.
    """
    import botocore.session

    session = botocore.session.Session(profile=profile or None)

    def credentials() -> dict[str, Any]:
        found = session.get_credentials()
        if found is None:
            raise StorageError(NONE_FOUND)
        frozen = found.get_frozen_credentials()
        expires = getattr(found, "_expiry_time", None)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # obstore knows one class of time zones only.
            "expires_at": None if expires is None else expires.astimezone(UTC),
        }

    return credentials


def check_metadata_service(target: CloudTarget, url: str) -> None:
    """Make sure that somebody answers, if obstore would ask the metadata service for credentials: it would wait much longer.

    Raises
    ------
    StorageError
        There are no credentials, and no metadata service that could give some.
    """
    if _asks_metadata_service(target) and not _metadata_service_answers():
        raise AccessDeniedError(f"Cannot open {url}: {NONE_FOUND}. {REMEDIES[target.kind]}")


def is_unauthenticated(error: BaseException) -> bool:
    """Whether a request through fsspec failed for want of credentials; missing rights are something else."""
    if "401" in codes_of(error):
        return True
    return any(type(link).__name__ in _MISSING_NAMES for link in chain_of(error))


def is_denied(error: BaseException) -> bool:
    """Whether a request through fsspec was refused: repeating it would not help."""
    if isinstance(error, PermissionError) or not (_DENIED_CODES | _UNACCEPTED_CODES).isdisjoint(codes_of(error)):
        return True
    return isinstance(error, OSError) and str(error).startswith("Forbidden: ")  # all that gcsfs says


def describe_denial(kind: str | None, verb: str, codes: Iterable[str]) -> str:
    """Return what to say of a request that was refused.

    Parameters
    ----------
    kind : str or None
        Of the cloud; ``None`` for other file systems.
    verb : str
        What the request was to do, as messages call it.
    codes : iterable of str
        The error codes that came with the answer.
    """
    found = set(codes)
    if unaccepted := sorted(_UNACCEPTED_CODES & found):
        remedy = f" {REMEDIES[kind]}" if kind is not None else ""
        return f"the server does not accept the credentials ({unaccepted[0]}).{remedy}"
    if "RequestTimeTooSkewed" in found:
        return "access denied. The clock of this machine differs from the server's; set it"
    if kind is None:
        return "access denied. Check the credentials and their rights"
    right = _RIGHTS[kind][_RIGHT_OF.get(verb, verb)]
    return f"access denied. {right[0].upper()}{right[1:]}"


def names_metadata_service(text: str) -> bool:
    """Whether an error message of obstore is about the metadata service: nothing else had credentials."""
    return any(mark in text for mark in _METADATA_MARKS)


def _asks_metadata_service(target: CloudTarget) -> bool:
    """Whether credentials can come from nowhere else. Where that is unclear, the answer is no."""
    kind = target.kind
    if kind not in _SOURCES or not _SOURCES[kind].isdisjoint(target.config):
        return False
    if any(name.startswith(_VARIABLES[kind]) and not name.startswith(_NO_SOURCES[kind]) for name in os.environ):
        return False
    return kind != "gs" or not _has_google_login()


def _has_google_login() -> bool:
    folder = os.environ.get("APPDATA") if os.name == "nt" else os.path.expanduser("~/.config")  # noqa: PTH111 -- never raises
    return folder is not None and (Path(folder) / "gcloud" / "application_default_credentials.json").is_file()


def _metadata_service_answers() -> bool:
    for attempt in range(_METADATA_ATTEMPTS):
        if attempt:
            time.sleep(_METADATA_PAUSE)
        try:
            socket.create_connection(_METADATA_ADDRESS, timeout=_METADATA_TIMEOUT).close()
        except OSError:
            continue
        return True
    return False
