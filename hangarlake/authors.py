"""Who commits, when nobody has said: the environment, git's settings, or the user of this machine."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess

from hangarlake.records.models import Author

__all__ = ["default_author", "parse_author"]


def parse_author(text: str | Author | None) -> Author | None:
    """Read ``Name <mail>``; ``None`` stays ``None``.

    Raises
    ------
    ValueError
        If it is written otherwise.
    """
    return text if text is None or isinstance(text, Author) else Author.parse(text)


def default_author() -> Author:
    """Return ``HANGARLAKE_AUTHOR``, else git's ``user.name`` and ``user.email``, else user@host.

    Raises
    ------
    ValueError
        If ``HANGARLAKE_AUTHOR`` is not written so.
    """
    given = os.environ.get("HANGARLAKE_AUTHOR")
    if given:
        try:
            return Author.parse(given)
        except ValueError as error:
            raise ValueError(f"HANGARLAKE_AUTHOR: {error}") from error
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    name = _plain(_git("user.name")) or _plain(user) or "unknown"
    email = _plain(_git("user.email")) or _plain(f"{user}@{socket.gethostname()}")
    return Author(name, email)


def _git(setting: str) -> str:
    try:
        done = subprocess.run(
            ["git", "config", "--get", setting], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _plain(text: str) -> str:
    return re.sub(r"[<>\x00-\x1f\x7f]", "", text).strip()
