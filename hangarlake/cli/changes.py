"""A difference between two states, as text: what changed and how much, and on request which keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hangarlake.cli.output import console, plain, short

if TYPE_CHECKING:
    from rich.text import Text

    from hangarlake.cli.conflicts import SmallValues
    from hangarlake.diffs import Diff, EntryDiff, NodeChange

__all__ = ["print_changes", "print_keys", "small_changes"]

# Regions of one array that are named.
_REGIONS = 8
_STYLES = {"+": "green", "-": "red", "~": "yellow"}


def print_changes(diff: Diff) -> None:
    """Print a line for each thing that changed, with a bar as long as it changed, and what it comes to."""
    from rich.text import Text

    rows = [tuple(plain(cell) for cell in row) for row in diff.stat()]
    name_width = max((len(name) for name, _, _ in rows), default=0)
    what_width = max((len(what) for _, what, bar in rows if bar), default=0)
    out = console()
    for name, what, bar in rows:
        line = Text(f" {name:<{name_width}} | {what:<{what_width if bar else 0}} ")
        for mark in bar:
            line.append(mark, _STYLES[mark])
        line.rstrip()
        out.print(line)
    for region in _regions(diff):
        out.print(Text(plain(region), "dim"))
    out.print(Text(f" {diff.summary()}"))


def _regions(diff: Diff) -> Iterator[str]:
    """Yield which regions of arrays changed, a few of each."""
    from hangarlake.cli.hierarchy import region_text

    for name, change in diff.arrays.items():
        if change.state not in ("modified", "renamed") or not any(change.counts):
            continue
        regions = change.regions()
        for region in regions[:_REGIONS]:
            yield f"   {name}[{region_text(region)}]"
        if len(regions) > _REGIONS:
            yield f"   {name}: and {len(regions) - _REGIONS:,} regions more"


def print_keys(diff: Diff, small: SmallValues | None = None) -> None:
    """Print every key that changed, in key order, below the name of its column or array; with `small` its values, where they are."""
    for changes in (diff.columns, diff.arrays, diff.groups):
        for change in changes.values():
            if change.replaced is not None:
                _print_keys_of(change.replaced, small)
            _print_keys_of(change, small)
    if diff.attrs:
        console().print(_line("attributes", "bold"))
        for name in diff.attrs:
            console().print(_line(f"  ~ {name}", _STYLES["~"]))


def _print_keys_of(change: NodeChange, small: SmallValues | None) -> None:
    out = console()
    words = [change.state] if change.state != "renamed" else []
    out.print(_line(f"{change.name}  ({', '.join([*words, *change.notes()])})", "bold"))
    marks = {"added": "+", "removed": "-", "modified": "~"}
    for entry in change.entries():
        mark = marks[entry.state]
        out.print(_line(f"  {mark} {entry.key!r}{_values_text(entry, small)}", _STYLES[mark]))


def _values_text(entry: EntryDiff, small: SmallValues | None) -> str:
    if small is None:
        return ""
    old, new = (side and (small.text(side) or short(side.digest or "")) for side in (entry.old, entry.new))
    return f": {old} → {new}" if entry.old and entry.new else f": {old or new}"


def small_changes(diff: Diff, small: SmallValues) -> Iterator[dict[str, Any]]:
    """Yield what became of each small value, JSON-ready: column, key, and the texts of both sides (``None``: absent, or not small)."""
    for change in diff.columns.values():
        for entry in change.entries():
            old, new = (side and small.text(side) for side in (entry.old, entry.new))
            if old or new:
                key = list(entry.key) if isinstance(entry.key, tuple) else entry.key
                yield {"column": change.name, "key": key, "old": old, "new": new}


def _line(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(plain(text), style=style)
