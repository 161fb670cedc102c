"""Where an example keeps its repository: below a URL that was given, else in a temporary folder. Both are emptied at the end.

What Hangarlake keeps on this machine (staging, caches, remotes) goes to the temporary folder as well, so that an example leaves no trace.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["place"]


@contextmanager
def place(name: str) -> Iterator[str]:
    """Yield a URL for the repository of an example: a new folder below ``sys.argv[1]``, or below a temporary one.

    Credentials of a bucket come from the environment.
    """
    if any(argument.startswith("-") for argument in sys.argv[1:]):
        raise SystemExit(
            f"usage: python {sys.argv[0]} [URL]    (below which the repository is made; else a temporary folder)"
        )
    with tempfile.TemporaryDirectory(prefix="hangarlake-example-") as folder:
        os.environ["HANGARLAKE_CACHE_DIR"] = str(Path(folder) / "cache")
        os.environ["HANGARLAKE_CONFIG_DIR"] = str(Path(folder) / "config")
        given = sys.argv[1] if len(sys.argv) > 1 else folder
        made = not Path(given).exists()
        url = f"{given.rstrip('/')}/{name}-{secrets.token_hex(4)}"
        try:
            yield url
        finally:
            if given is not folder:
                _empty(url)
                if made and Path(given).is_dir():
                    Path(given).rmdir()


def _empty(url: str) -> None:
    from hangarlake.storage import open_store

    store = open_store(url)
    store.delete([info.key for info in store.list("")])
    store.close()
    if Path(url).is_dir():
        for path in sorted(Path(url).rglob("*"), reverse=True):
            path.rmdir()
        Path(url).rmdir()
