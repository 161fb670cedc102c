"""The configuration of this user: which remotes a working copy has, and named profiles of storage options.

One JSON file in the user's configuration directory (``HANGARLAKE_CONFIG_DIR`` overrides it)::

    {"profiles": {"lab": {"endpoint_url": "https://minio.lab"}},
     "repositories": {"<repository id> <place>": {"origin": {"url": "s3://…", "options": {}, "profile": "lab", "data": false}}}}

Hangarlake never writes a credential into it. What a person writes under ``profiles`` is that person's business.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hangarlake.errors import StorageError
from hangarlake.storage.redact import redact_url

__all__ = ["RemoteRecord", "UserConfig", "harmless_options", "options_of_environment"]

# Options that are no secrets; others are taken from the call, the environment or a profile each time.
_HARMLESS = frozenset(
    {"account_name", "anon", "endpoint", "endpoint_url", "engine", "project", "region", "region_name"}
    | {"requester_pays", "use_ssl"}
)
_NESTED = "client_kwargs"


class RemoteRecord(BaseModel):
    """One remote as it is kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str
    options: dict[str, Any] = Field(default_factory=dict)
    profile: str | None = None
    data: bool = False


class _File(BaseModel):
    model_config = ConfigDict(extra="allow")

    profiles: dict[str, dict[str, Any]] = Field(default_factory=dict)
    repositories: dict[str, dict[str, RemoteRecord]] = Field(default_factory=dict)


def harmless_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options that may be written to a file: addresses and switches, no credentials."""
    kept: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name == _NESTED and isinstance(value, Mapping):
            nested = harmless_options(value)
            if nested:
                kept[name] = nested
        elif name in _HARMLESS and isinstance(value, str | bool):
            kept[name] = redact_url(value) if isinstance(value, str) else value
    return kept


def options_of_environment(variable: str) -> dict[str, Any]:
    """Return the storage options in a variable of the environment: a JSON object; none if it is not set.

    Raises
    ------
    StorageError
        If it is something else. What it holds is not repeated.
    """
    text = os.environ.get(variable)
    if not text:
        return {}
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise StorageError(f'{variable} has to be a JSON object of storage options, like {{"anon": true}}')
    return options


class UserConfig:
    """The configuration file. Any number of processes may use it: changes are made under a lock, and in one step.

    Parameters
    ----------
    folder : path-like, optional
        By default ``HANGARLAKE_CONFIG_DIR``, else the user's configuration directory.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        chosen = folder or os.environ.get("HANGARLAKE_CONFIG_DIR")
        self.path = (
            Path(chosen).expanduser() if chosen else Path(platformdirs.user_config_dir("hangarlake"))
        ) / "config.json"

    def _read(self) -> _File:
        try:
            return _File.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return _File()
        except (ValidationError, OSError) as error:
            raise StorageError(
                f"the configuration {self.path} cannot be read ({type(error).__name__}); mend it, or move it away"
            ) from error

    def _change(self, change: Callable[[_File], None]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                content = self._read()
                change(content)
                text = json.dumps(content.model_dump(), indent=2, ensure_ascii=False) + "\n"
                handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".config-")
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(name).replace(self.path)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"the configuration {self.path} cannot be written: {error.strerror}; set HANGARLAKE_CONFIG_DIR"
            ) from error

    def remotes(self, repository: str) -> dict[str, RemoteRecord]:
        """Return the remotes of a working copy, by name."""
        return dict(self._read().repositories.get(repository, {}))

    def set_remote(self, repository: str, name: str, record: RemoteRecord) -> None:
        """Keep a remote, replacing one of that name."""
        self._change(lambda content: content.repositories.setdefault(repository, {}).update({name: record}))

    def remove_remote(self, repository: str, name: str) -> None:
        """Forget a remote; one that is not there is no error."""

        def remove(content: _File) -> None:
            content.repositories.get(repository, {}).pop(name, None)
            if not content.repositories.get(repository, True):
                del content.repositories[repository]

        self._change(remove)

    def profile(self, name: str) -> dict[str, Any]:
        """Return the storage options of a profile.

        Raises
        ------
        StorageError
            If there is none of that name.
        """
        profiles = self._read().profiles
        if name not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            raise StorageError(f"{self.path} has no profile {name!r}; there are: {known}")
        return dict(profiles[name])
