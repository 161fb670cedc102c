"""Sample keys on the command line, where everything is text.

What is typed is a string key; ``int:5`` is the integer. Commands that look a sample up also find the integer 5 under ``5`` if there is no
string of that name. ``str:int:5`` is the string ``int:5``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hangarlake.cli.failures import UsageFailure

if TYPE_CHECKING:
    from hangarlake.columns.column import Column

__all__ = ["KEY_HELP", "find_key", "parse_key"]

KEY_HELP = "A key is text; int:5 is the integer 5."
_NUMBER = re.compile(r"0|-?[1-9][0-9]*")


def parse_key(text: str) -> str | int:
    """Return the key that is meant where a new sample is named."""
    kind, colon, rest = text.partition(":")
    if colon and kind == "str":
        return rest
    if colon and kind == "int":
        if not _NUMBER.fullmatch(rest):
            raise UsageFailure(f"{text!r} is no integer key: after int: comes a whole number")
        return int(rest)
    return text


def find_key(column: Column, text: str) -> str | int:
    """Return the key that is meant where a sample of a column is looked up."""
    key = parse_key(text)
    if key == text and key not in column and _NUMBER.fullmatch(text) and int(text) in column:
        return int(text)
    return key
