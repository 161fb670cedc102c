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

__all__ = ["KEY_HELP", "find_key", "find_sub_key", "parse_key"]

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
    return next((key for key in _readings(text) if key in column), parse_key(text))


def find_sub_key(column: Column, sample: str | int, text: str) -> tuple[str | int, str | int]:
    """Return the (sample, sub) key that is meant where a value of a nested column is looked up."""
    return sample, next((sub for sub in _readings(text) if (sample, sub) in column), parse_key(text))


def _readings(text: str) -> list[str | int]:
    key = parse_key(text)
    return [key, int(text)] if key == text and _NUMBER.fullmatch(text) else [key]
