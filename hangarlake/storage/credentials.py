"""Where credentials for clouds come from, and what to say where there are none."""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hangarlake.errors import StorageError
from hangarlake.storage.retry import chain_of, codes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hangarlake.storage.cloud import CloudTarget

__all__ = [
    "NONE_FOUND",
    "REMEDIES",
    "aws_credentials",
    "check_metadata_service",
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
        raise StorageError(f"Cannot open {url}: {NONE_FOUND}. {REMEDIES[target.kind]}")


def is_unauthenticated(error: BaseException) -> bool:
    """Whether a request through fsspec failed for want of credentials; missing rights are something else."""
    if "401" in codes_of(error):
        return True
    return any(type(link).__name__ in _MISSING_NAMES for link in chain_of(error))


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
