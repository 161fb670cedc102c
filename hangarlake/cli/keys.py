"""Sample keys on the command line, where everything is text.

What is typed is a string key; ``int:5`` is the integer. Commands that look a sample up also find the integer 5 under ``5`` if there is no
string of that name; those that make one refuse to make the string beside the integer, unless it is written ``str:5``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hangarlake.cli.failures import UsageFailure

if TYPE_CHECKING:
    from hangarlake.columns.column import Column

__all__ = ["KEY_HELP", "NEW_KEY_HELP", "find_key", "find_sub_key", "is_explicit", "parse_key"]

KEY_HELP = "5 is the text, or the integer if there is only that; int:5 and str:5 say which."
NEW_KEY_HELP = "5 is text, and refused where the column has the integer; int:5 and str:5 say which."
_NUMBER = re.compile(r"0|-?[1-9][0-9]*")


def is_explicit(text: str) -> bool:
    """Tell whether it says whether it is an integer or text."""
    return text.startswith(("int:", "str:"))


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
