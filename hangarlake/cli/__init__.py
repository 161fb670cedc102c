"""The command line: ``hangarlake [-r URL] COMMAND``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.
    """
    try:
        # Here, because Ctrl-C may come while this is still being imported.
        from hangarlake.cli.app import main as run

        return run(argv)
    except KeyboardInterrupt:
        sys.stderr.write("hangarlake: Interrupted.\n")
        return _INTERRUPTED
