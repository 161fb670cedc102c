"""The command that compares: diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hangarlake.cli.commands import add_commands
from hangarlake.cli.conflicts import SmallValues
from hangarlake.cli.failures import Failure, UsageFailure
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.options import Json
from hangarlake.cli.output import note_writer, print_json, say

if TYPE_CHECKING:
    from hangarlake import Diff, Repository

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    add_commands(app, "Changes and history", diff)


def diff(
    ctx: typer.Context,
    base: Annotated[
        str | None,
        typer.Argument(
            help="From this revision; A..B compares two, A...B what B did since it parted from A. Without any: what is staged.",
            show_default=False,
        ),
    ] = None,
    other: Annotated[
        str | None, typer.Argument(help="To this one; the default branch if left out.", show_default=False)
    ] = None,
    staged: Annotated[bool, typer.Option("--staged", help="To what is staged on --branch.")] = False,
    branch: Annotated[
        str | None,
        typer.Option(
            "--branch", "-b", help="Whose staged changes; the default branch if left out.", show_default=False
        ),
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Count what changed; that is the default.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="List every key that changed.")] = False,
    values: Annotated[
        bool, typer.Option("--values", help="List the keys, with small values before and after where they are at hand.")
    ] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if there are differences.")] = False,
    as_json: Json = False,
) -> None:
    """Show what differs between two revisions, always read from the first to the second."""
    if stat and (keys or values):
        raise UsageFailure("--stat counts, and --keys and --values list: give one of them")
    if staged and other is not None:
        raise UsageFailure("--staged takes the place of the second revision")
    if branch is not None and not staged and base is not None:
        raise UsageFailure("--branch says whose staged changes are meant: add --staged")
    repo = invocation_of(ctx).open()
    small = SmallValues(repo) if values else None
    keys = keys or values
    if staged or base is None:
        with repo.staged(branch) as view:
            note_writer(view.writer, view.branch)
            found = view.status() if base is None else repo.diff(base, view)
            _show(found, small, keys=keys, as_json=as_json)
    else:
        found = _compare(repo, base, other)
        _show(found, small, keys=keys, as_json=as_json)
    if exit_code and found:
        raise typer.Exit(1)


def _compare(repo: Repository, base: str, other: str | None) -> Diff:
    old, dots, new = base.partition("..")
    if not dots:
        return repo.diff(base, other or repo.default_branch)
    if other is not None:
        raise UsageFailure(f"either {base!r} or two revisions")
    since_parted = new.startswith(".")
    old, new = old or repo.default_branch, new.removeprefix(".") or repo.default_branch
    if not since_parted:
        return repo.diff(old, new)
    parted = repo.merge_base(old, new)
    if parted is None:
        raise Failure(f"{old} and {new} have no common history; compare them with two dots")
    return repo.diff(parted, new)


def _show(found: Diff, small: SmallValues | None, *, keys: bool, as_json: bool) -> None:
    from hangarlake.cli.changes import print_changes, print_keys, small_changes

    if as_json:
        facts = found.to_dict(keys=keys)
        print_json(facts if small is None else {**facts, "values": list(small_changes(found, small))})
    elif not found:
        say("No differences.")
    elif keys:
        print_keys(found, small)
    else:
        print_changes(found)
