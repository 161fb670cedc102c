"""Removal of credentials from what people get to see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["redact_text", "redact_url", "secrets_of"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/@\s]*)@")
_QUERY = re.compile(r"(?P<url>[A-Za-z][A-Za-z0-9+.-]*://[^\s?]*)\?[^\s\"')\]]*")
_HEADER = re.compile(r"(?i)\b(authorization|x-amz-security-token|bearer|signature)(['\"]?\s*[:= ]\s*['\"]?)[^\s,'\"<]+")
# Azure writes container@account before the path: that is an address.
_CONTAINERS = ("abfs://", "abfss://", "az://", "adl://", "wasb://", "wasbs://")
_HARMLESS = frozenset(
    {"region", "region_name", "endpoint", "endpoint_url", "engine", "protocol", "target_protocol", "account_name"}
    | {"profile", "project"}
)


def redact_url(url: str) -> str:
    """Return `url` without user information and query, in every part of a chained URL."""
    return "::".join(_QUERY.sub(r"\g<url>", _USER.sub(_without_user, part)) for part in url.split("::"))


def redact_text(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return an error message of another library without URLs' credentials, and with `secrets` made unreadable."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _QUERY.sub(r"\g<url>", _USER.sub(_without_user, text))
    return _HEADER.sub(r"\1\2***", text)


def secrets_of(options: Mapping[str, object]) -> tuple[str, ...]:
    """Return the strings in `options`, nested ones included, that could be credentials."""
    found: set[str] = set()
    pending: list[object] = [value for name, value in options.items() if name not in _HARMLESS]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [inner for name, inner in value.items() if name not in _HARMLESS]
        elif isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, str) and len(value) >= 4 and _URL.match(value) is None:
            found.add(value)
    # A secret may contain another one.
    return tuple(sorted(found, key=len, reverse=True))


def _without_user(match: re.Match[str]) -> str:
    if match["scheme"].lower() in _CONTAINERS and ":" not in match["user"]:
        return match[0]
    return match["scheme"]
