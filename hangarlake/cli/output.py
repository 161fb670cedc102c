"""What commands print: text for people, JSON for programs, progress for whoever watches."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from hangarlake.cli.failures import UsageFailure

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from hangarlake import Commit

__all__ = [
    "bytes_bar",
    "confirm",
    "console",
    "moment",
    "note_writer",
    "plain",
    "print_json",
    "print_table",
    "progress",
    "say",
    "short",
    "size",
    "subject",
    "text_of",
]

_SHORT = 12
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def console() -> Console:
    """Return a console for standard output. In a pipe lines are as long as they are."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            # rich would end the program itself, with status 1.
            raise BrokenPipeError

    return Output(file=sys.stdout, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 10_000)


def plain(text: object) -> str:
    """Make control characters visible. Names and messages come from whoever wrote the repository, and a terminal obeys escape sequences."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in str(text))


def say(text: str, style: str | None = None) -> None:
    """Print text without interpreting anything in it."""
    from rich.text import Text

    console().print(Text(plain(text), style=style or ""))


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print rows under headings; `right` names the columns that are aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console().print(table)


def moment(time: datetime) -> str:
    """Write a time, in UTC and to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short(hexadecimal: str) -> str:
    """Return as much of a commit's id, or of a digest, as is shown to people."""
    return hexadecimal[:_SHORT]


def subject(commit: Commit) -> str:
    """Return the first line of a commit's message."""
    return commit.message.partition("\n")[0]


def note_writer(writer: int | None, branch: str) -> None:
    """Say on standard error that a process is writing to what is shown, if one is."""
    if writer is not None:
        sys.stderr.write(f"process {writer} is writing to {plain(branch)}; what it has not flushed is not shown\n")


def size(count: int) -> str:
    """Write a number of bytes for people."""
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{count} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def text_of(count: int, singular: str, plural: str | None = None) -> str:
    """Write a number with its noun: “1 file”, “2 files”."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost; without a terminal there is nobody to ask, and ``--yes`` is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageFailure(f"{question} Pass --yes to do it, --dry-run to see what it would do")
    if not typer.confirm(plain(question), err=True):
        raise typer.Exit(1)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], None]]:
    """Show a count on standard error while something runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda count: bar.update(task, advance=count)


def bytes_bar(*texts: str) -> Progress:
    """Return a display for standard error of bytes, their rate and the time, behind texts in rich's markup of tasks."""
    from rich.console import Console
    from rich.progress import (
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    return Progress(
        SpinnerColumn(),
        *map(TextColumn, texts),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
