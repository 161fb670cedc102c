"""What every command shares: which repository, with which options, and how to open it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hangarlake.cli.failures import UsageFailure, refusals

if TYPE_CHECKING:
    from hangarlake import Repository, WriteCheckout

__all__ = ["CONFIG_NAME", "Invocation", "found_url", "invocation_of", "is_local", "parse_options"]

CONFIG_NAME = ".hangarlake.toml"
# What every repository holds: records.marker.MARKER_KEY, which takes long to import.
_MARKER = "hangarlake.json"
_REPO_VARIABLE = "HANGARLAKE_REPO"
_OPTIONS_VARIABLE = "HANGARLAKE_OPTIONS"
# Options that are text even if they look like a number.
_TEXT = re.compile(r"key|secret|token|password|passwd|credential|sas|connection_string|account", re.IGNORECASE)
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:(//|:)|[^/]*::")


class Invocation:
    """One run of the program.

    Attributes
    ----------
    debug : bool
        Whether errors come with a traceback.
    explicit_url : str or None
        What ``-r`` said.
    options : dict
        Storage options; never shown.
    allow_unsafe_store : bool
        Whether a store without "create if absent" will do.
    """

    def __init__(self) -> None:
        self.debug = False
        self.allow_unsafe_store = False
        self.explicit_url: str | None = None
        self.options: dict[str, Any] = {}

    def configure(self, repo: str | None, options: Iterable[str]) -> None:
        """Take the global options."""
        self.explicit_url = repo
        self.options = {**_options_of_environment(), **parse_options(options)}

    @property
    def given_url(self) -> str | None:
        """The URL of ``-r`` or of the environment, before any file is looked for."""
        return self.explicit_url or os.environ.get(_REPO_VARIABLE) or None

    def url(self) -> str:
        """Return the URL of the repository, wherever it is told."""
        url = self.given_url or found_url(Path.cwd())
        if url is None:
            raise UsageFailure(
                f"no repository: give -r URL, set {_REPO_VARIABLE}, or run in a folder with a {CONFIG_NAME} (`hangarlake init` writes one) "
                "or in a repository's own folder"
            )
        return url

    def storage_options(self) -> dict[str, Any] | None:
        """Return the options in the form in which the library takes them."""
        return dict(self.options) or None

    def open(self, *, author: str | None = None) -> Repository:
        """Open the repository."""
        from hangarlake import Repository

        with refusals():
            return Repository.open(
                self.url(),
                storage_options=self.storage_options(),
                author=author,
                allow_unsafe_store=self.allow_unsafe_store,
            )

    @contextmanager
    def writer(self, branch: str | None) -> Iterator[WriteCheckout]:
        """Open the writer of a branch, by default of the default branch. What is staged is kept at the end."""
        repo = self.open()
        with repo.checkout(branch or repo.default_branch, write=True) as writer:
            yield writer

    def redact(self, text: str) -> str:
        """Take out of a text what nobody is to read: secret options, and user names and passwords in URLs."""
        if not self.options and "://" not in text:
            return text
        from hangarlake.storage.redact import redact_text, secrets_of

        return redact_text(text, secrets_of(self.options))


def invocation_of(ctx: typer.Context) -> Invocation:
    """Return the invocation of a command."""
    invocation: Invocation = ctx.obj
    return invocation


def is_local(url: str) -> bool:
    """Tell whether a URL is a plain path."""
    return _HAS_SCHEME.match(url) is None


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn ``key=value`` pairs into options. Dots make nested ones; numbers, booleans, lists and objects are read as JSON."""
    options: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        parts = path.split(".")
        if not equals or not all(parts):
            # The value may be a secret that came without its key, so it is not repeated.
            raise UsageFailure("--option takes KEY=VALUE, for example --option endpoint_url=http://localhost:9000")
        level = options
        for part in parts[:-1]:
            level = level.setdefault(part, {})
            if not isinstance(level, dict):
                raise UsageFailure(f"--option {path}: {part} has a value of its own already")
        level[parts[-1]] = text if _TEXT.search(parts[-1]) else _value(text)
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _options_of_environment() -> dict[str, Any]:
    if not os.environ.get(_OPTIONS_VARIABLE):
        return {}
    from hangarlake.errors import StorageError
    from hangarlake.transfer.config import options_of_environment

    try:
        return options_of_environment(_OPTIONS_VARIABLE)
    except StorageError as error:
        raise UsageFailure(str(error)) from error


def found_url(folder: Path) -> str | None:
    """Look for the file that names the repository, or the repository itself, in a folder and those above it: the nearest is meant."""
    import tomllib

    for place in (folder, *folder.parents):
        path = place / CONFIG_NAME
        if not path.is_file():
            if (place / _MARKER).is_file():
                return str(place)
            continue
        try:
            url = tomllib.loads(path.read_text("utf-8")).get("url")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageFailure(f"{path} is not valid TOML: {error}") from error
        if not isinstance(url, str) or not url:
            raise UsageFailure(f'{path} names no repository; it needs a line like url = "s3://bucket/path"')
        # A relative path is meant from where the file lies, not from where the command runs.
        return str(place / Path(url).expanduser()) if is_local(url) else url
    return None
