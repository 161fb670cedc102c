"""The command line: ``hangarlake [-r URL] COMMAND``."""

from hangarlake.cli.app import main

__all__ = ["main"]
