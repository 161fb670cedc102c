"""Errors as a shell sees them: an exit status and one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hangarlake import errors

__all__ = [
    "CONFLICT",
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "Failure",
    "UsageFailure",
    "describe",
    "interruptible",
    "refusals",
    "status_of",
]

CONFLICT = 1
USAGE = 2
FAILED = 3
INTERRUPTED = 130

# "Differences or conflicts or a check that failed": the command worked, and this is its answer.
_ANSWERS = (
    errors.MergeConflictError,
    errors.CommitConflictError,
    errors.NothingToCommitError,
    errors.PushRejectedError,
)

# The library's messages say what to do in Python. Here it is a command or an option.
_REMEDIES = tuple(
    (re.compile(pattern), remedy)
    for pattern, remedy in (
        (r"\b(force|rebase|variable_shape|allow_empty|allow_unsafe_store)=True", lambda found: _option(found[1])),
        (r"Repository\.create\(url\) or `hangarlake init`", "`hangarlake init`"),
        (r"repo\.remotes\.add\('([^']*)', url\)", r"`hangarlake remote add \1 URL`"),
        (r"repo\.fetch_data(\([^)]*\) or `hangarlake fetch-data`)?", "`hangarlake fetch-data`"),
        (r"repo\.pull\(\)", "`hangarlake pull`"),
        (r"\brun verify\b", "run `hangarlake verify`"),
        (r"with reset_branch\b", "with `hangarlake reset`"),
        (r"with delete_tag\b", "with `hangarlake tag --delete`"),
        (r"drop those with w\.reset\(names\)", "drop those with `hangarlake reset --column NAME`"),
        (
            r"already, on commit ([0-9a-f]+); delete it first\b",
            r"already, on commit \1; delete it with `hangarlake tag --delete`",
        ),
        (
            r"list them with repo\.branches and repo\.tags \(`hangarlake branch`, `hangarlake tag`\)",
            "`hangarlake branch` and `hangarlake tag` list what there is",
        ),
        (r"close that checkout, wait for (?:it|the process) to end\b", "wait for it to end, or end it"),
        (r", or open (?:the checkout|this one) with staging='memory'", ""),
        (r" or cache_dir to a folder", " to a folder"),
        (r"bring the data there first \(fetch_data\)", "bring the data there first (`hangarlake fetch-data`)"),
        (
            r"resolve them with resolve='ours', 'theirs' or a function of each conflict",
            "take one side with --ours or --theirs",
        ),
        (r"use w\['[^']*'\], or ", ""),
        (
            r"(an?) (column|array) (.*) remove it with w\.remove\('([^']*)'\)",
            r"\1 \2 \3 remove it with `hangarlake \2 remove \4`",
        ),
        (r"(drop it|undo that) with w\.reset\('([^']*)'\)", r"\1 with `hangarlake reset --column \2`"),
        (r"create_branch\(name, at='([^']*)'\)", r"`hangarlake branch NAME \1`"),
        (
            r"(pass|with) storage_options=\{([^}]*)\}",
            lambda found: f"{found[1].replace('pass', 'put')} {_options(found[2])} before the command",
        ),
    )
)


def _options(mapping: str) -> str:
    """Return storage options as the command line takes them."""
    pairs = re.findall(r"'(\w+)': ('?)([^,']*)\2", mapping)
    return " ".join(f"--option {name}={value.lower() if value == 'True' else value}" for name, _, value in pairs)


def _option(parameter: str) -> str:
    return "--" + parameter.replace("_", "-")


class Failure(Exception):
    """A command ends with a status and, unless it is empty, a message."""

    def __init__(self, message: str = "", status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class UsageFailure(Failure):
    """The command line makes no sense, in a way that its parser cannot see."""

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)


@contextmanager
def refusals(status: int = USAGE) -> Iterator[None]:
    """Report what the library refuses by a plain ``ValueError`` as what it is: no fault of the program. By default wrong usage."""
    try:
        yield
    except ValueError as error:
        if type(error) is ValueError:
            raise Failure(_in_terms_of_commands(str(error)), status) from error
        raise


@contextmanager
def interruptible(said: str) -> Iterator[None]:
    """Report Ctrl-C by a line that tells what has become of the work."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Failure(said, INTERRUPTED) from error


def status_of(error: BaseException) -> int:
    """Return the exit status that an error stands for."""
    if isinstance(error, Failure):
        return error.status
    if isinstance(error, _ANSWERS):
        return CONFLICT
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    # typer brings click's exceptions with it in some releases and imports them in others: known by what they have.
    if hasattr(error, "format_message"):
        return USAGE
    if type(error).__name__ == "Abort":
        return INTERRUPTED
    if type(error).__name__ == "Exit":
        return int(getattr(error, "exit_code", FAILED))
    return FAILED


def describe(error: BaseException) -> str:
    """Return an error as one line of text; empty where there is nothing to say."""
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return "Interrupted."
    if isinstance(error, SystemExit) or type(error).__name__ == "Exit":
        return ""
    if hasattr(error, "format_message"):
        text = str(error.format_message())
        if type(error).__name__ == "NoArgsIsHelpError":
            return text
    elif isinstance(error, errors.HangarlakeError):
        text = _in_terms_of_commands(str(error)) or type(error).__name__
    elif isinstance(error, OSError) and error.strerror:
        # Without the "[Errno 2]", which tells nobody anything.
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        text = ": ".join([" and ".join(names), error.strerror] if names else [error.strerror])
    elif isinstance(error, Failure | OSError | ImportError):
        text = str(error) or type(error).__name__
    else:
        text = f"{type(error).__name__}: {error}"
    return one_line(text)


def _in_terms_of_commands(text: str) -> str:
    for pattern, remedy in _REMEDIES:
        text = pattern.sub(remedy, text)
    return text


def one_line(text: str) -> str:
    """Join lines, and make control characters visible: a message may quote what somebody else wrote."""
    joined = re.sub(r"\s*\n\s*", " ", text.strip())
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in joined)
