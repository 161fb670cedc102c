"""Which server stands in for a cloud's own, who named it, and what to say when it cannot be reached."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hangarlake.errors import StorageError
from hangarlake.storage.redact import redact_url
from hangarlake.storage.retry import chain_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Endpoint", "describe_unreachable", "find_endpoint", "is_unreachable", "place_of"]

# By kind of cloud, as in `CloudTarget`. What comes first wins.
_OPTIONS = {"s3": ("endpoint_url",), "gs": ("endpoint_url",), "az": ("account_host", "endpoint", "endpoint_url")}
_VARIABLES = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("STORAGE_EMULATOR_HOST",), "az": ()}
# Where a host alone is the custom of the cloud's own tools.
_DEFAULT_SCHEMES = {"STORAGE_EMULATOR_HOST": "http", "account_host": "https", "endpoint": "https"}

# Exceptions of the libraries below fsspec, by name, that mean that no connection came about.
_CONNECT_NAMES = frozenset(
    {"EndpointConnectionError", "ClientConnectorError", "ClientConnectorDNSError", "ClientConnectorSSLError"}
    | {"ClientConnectorCertificateError", "ConnectTimeoutError", "ConnectionRefusedError", "gaierror", "SSLError"}
    | {"ConnectionTimeoutError", "SSLCertVerificationError"}
)
# How clients put it, what it is called here, and what to look at. Causes come after what they cause, so the first one counts.
_CAUSES = (
    (
        r"ConnectionRefused|Connection refused|Connect call failed",
        "connection refused",
        "is the server running, and the port right?",
    ),
    (
        r"dns error|failed to lookup|DNSError|gaierror|Name or service not known|nodename nor servname",
        "unknown host",
        "is the name right, and this machine online?",
    ),
    (r"[Cc]ertificate|CERTIFICATE|UnknownIssuer", "its certificate is not trusted", "is the address right?"),
    (
        r"InvalidContentType|WRONG_VERSION_NUMBER|RECORD_LAYER|SSLError|InvalidMessage",
        "it does not speak TLS",
        "should the address begin with http://?",
    ),
    (r"TimedOut|[Tt]imed? ?out|Timeout", "no answer in time", "is the address right, and this machine online?"),
)


@dataclass(frozen=True)
class Endpoint:
    """A server, and the option or variable that names it."""

    address: str
    source: str


def find_endpoint(kind: str, options: Mapping[str, Any]) -> Endpoint | None:
    """Return the server that options or the environment name for a kind of cloud; ``None`` if it is the cloud's own.

    Raises
    ------
    StorageError
        What is named is not the URL of a server. Clients say so in a riddle, or crash.
    """
    for source, value in _named(kind, options):
        if not value:
            continue
        address = value
        if isinstance(value, str) and "://" not in value and (kind == "az" or source in _DEFAULT_SCHEMES):
            address = f"{_DEFAULT_SCHEMES.get(source, 'https')}://{value}"
        _check(source, address)
        return Endpoint(address, source)
    return None


def place_of(url: str, endpoint: Endpoint | None) -> str:
    """Return a store's URL together with the server that it is on, if that is not the cloud's own."""
    return url if endpoint is None else f"{url} (at {redact_url(endpoint.address)})"


def is_unreachable(error: BaseException) -> bool:
    """Whether a request through fsspec failed because no connection came about."""
    return any(type(link).__name__ in _CONNECT_NAMES for link in chain_of(error))


def describe_unreachable(endpoint: Endpoint | None, address: str, details: str) -> str:
    """Return what to say of a server that cannot be reached.

    Parameters
    ----------
    endpoint : Endpoint or None
        Where it was named.
    address : str
        URL of a request, for servers that nobody named.
    details : str
        What the client says, causes included.
    """
    found = next(((cause, hint) for pattern, cause, hint in _CAUSES if re.search(pattern, details)), None)
    cause, hint = found or ("the connection failed", "is the address right, and this machine online?")
    if endpoint is not None:
        return f"cannot reach {redact_url(endpoint.address)} ({cause}), which {endpoint.source} names; {hint}"
    parts = urlsplit(redact_url(address))
    return f"cannot reach {parts.scheme}://{parts.netloc} ({cause}); {hint}"


def _named(kind: str, options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _OPTIONS[kind]:
        yield name, options.get(name)
    if kind == "s3":
        client = options.get("client_kwargs")
        yield "client_kwargs['endpoint_url']", client.get("endpoint_url") if isinstance(client, dict) else None
    for name in _VARIABLES[kind]:
        yield name, os.environ.get(name)


def _check(source: str, address: object) -> None:
    shown = redact_url(str(address))
    if isinstance(address, str):
        if "://" not in address:
            bare = re.sub(r"(?i)^https?:/*", "", shown).lstrip("/")
            raise StorageError(f"{source} {shown!r} has no scheme; write http://{bare} or https://{bare}")
        try:
            parts = urlsplit(address)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False  # a port that is no number, or too large, or brackets that do not match
        if usable and address.isprintable() and " " not in address:
            return
    raise StorageError(f"{source} {shown!r} is not the URL of a server; write http://HOST:PORT or https://HOST")
