"""A difference between two states, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hangarlake.cli.output import plain, text_of

if TYPE_CHECKING:
    from hangarlake.diffs import Diff

__all__ = ["print_changes"]

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "modified": ("~", "yellow"), "renamed": (">", "cyan")}


def print_changes(diff: Diff) -> None:
    """Print one line for each column or array, and one for the repository's attributes."""
    from rich.text import Text

    from hangarlake.cli.output import console

    out = console()
    for name, column in diff.columns.items():
        added, removed, modified = column.counts
        counts = [
            text_of(count, "sample") + f" {what}"
            for count, what in ((added, "added"), (removed, "removed"), (modified, "changed"))
            if count
        ]
        mark, style = _MARKS[column.state]
        line = f"  {mark} {name}  {column.state}" + (f": {', '.join(counts)}" if counts else "")
        out.print(Text(plain(line), style=style))
    if diff.attrs:
        out.print(Text(plain(f"  ~ attributes: {', '.join(sorted(diff.attrs))}"), style="yellow"))
