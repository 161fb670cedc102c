"""Messages of the library tell what to do in Python; the command line puts commands in their place, and knows them by their words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hangarlake
from hangarlake.cli.failures import _REMEDIES, describe
from hangarlake.errors import AccessDeniedError
from hangarlake.storage.credentials import REMEDIES

PACKAGE = Path(hangarlake.__file__).parent


def words_of(pattern: str) -> str:
    """Return the longest run of plain text of a regular expression."""
    plain = re.sub(r"\\b|\(\?:|\[[^\]]*\][*+?]?|\.\*|[()|?*+]", "\0", pattern.replace(r"\(", "\1").replace(r"\)", "\2"))
    runs = re.split(r"\0|'", plain.replace("\1", "(").replace("\2", ")"))  # a quoted name is written {name!r}
    return re.sub(r"\\(.)", r"\1", max(runs, key=len))


@pytest.fixture(scope="module")
def messages() -> str:
    """The source of the library, with strings that go on in the next line joined."""
    sources = [
        path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if "cli" not in path.relative_to(PACKAGE).parts
    ]
    return re.sub(r"\"\s*\n\s*f?\"", "", "\n".join(sources))


@pytest.mark.parametrize("pattern", [pattern.pattern for pattern, _ in _REMEDIES])
def test_every_remedy_that_is_replaced_is_one_that_the_library_gives(pattern: str, messages: str) -> None:
    words = words_of(pattern)
    assert len(words) >= 5
    assert words in messages


def test_storage_options_are_named_as_the_command_line_takes_them() -> None:
    line = describe(AccessDeniedError(REMEDIES["s3"]))
    assert "or put --option key=… --option secret=… before the command." in line
    assert "read with --option anon=true before the command." in line
    assert "storage_options" not in "".join(describe(AccessDeniedError(text)) for text in REMEDIES.values())
