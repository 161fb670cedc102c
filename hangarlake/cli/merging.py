"""Commands that join lines of history: merge, revert, cherry-pick."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from hangarlake.cli.commands import add_commands
from hangarlake.cli.conflicts import attempt
from hangarlake.cli.failures import UsageFailure
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.options import Branch, Json, Ours, Theirs
from hangarlake.cli.output import print_json, say, short, subject

if TYPE_CHECKING:
    from hangarlake import Commit, Repository

__all__ = ["register", "resolution"]

Message: TypeAlias = Annotated[
    str | None, typer.Option("--message", "-m", help="The commit's message.", show_default=False)
]
Mainline: TypeAlias = Annotated[
    int | None,
    typer.Option("--mainline", min=1, help="Of a merge: the change relative to this parent.", show_default=False),
]


class Granularity(StrEnum):
    """What of an array conflicts with what."""

    CHUNK = "chunk"
    ELEMENT = "element"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    add_commands(app, "Changes and history", merge, revert, cherry_pick)


def merge(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="Branch, tag or commit to merge; one at a time.", show_default=False)],
    into: Annotated[
        str | None,
        typer.Option("--into", "-b", help="Into this branch; the default branch if left out.", show_default=False),
    ] = None,
    message: Annotated[
        str | None,
        typer.Option(
            "--message",
            "-m",
            help="Makes a merge commit even where the branch could just move forward.",
            show_default=False,
        ),
    ] = None,
    ours: Ours = False,
    theirs: Theirs = False,
    concatenate: Annotated[
        bool, typer.Option("--concatenate", help="Put two appends to an array one behind the other.")
    ] = False,
    granularity: Annotated[
        Granularity, typer.Option(help="Whether two edits of one chunk of an array conflict, or of one element.")
    ] = Granularity.CHUNK,
    as_json: Json = False,
) -> None:
    """Merge a revision into a branch. What is staged is not touched.

    Exit status 1 with a list of the conflicts if both sides changed the same; nothing is changed then.
    """
    resolve = resolution(ours=ours, theirs=theirs, concatenate=concatenate)
    repo = invocation_of(ctx).open()
    name = into or repo.default_branch
    before, incoming = repo.resolve(name), repo.resolve(source)

    def join() -> Commit:
        level: Any = granularity.value
        return repo.merge(source, name, message=message, resolve=resolve, granularity=level)

    after = attempt(repo, join, as_json=as_json)
    if as_json:
        print_json({**after.to_dict(), "branch": name, "before": before.id})
    elif after == before:
        say("Already up to date.")
    else:
        _tell(repo, f"{'Fast-forwarded' if after == incoming else 'Merged'} {name}", before, after)


def revert(
    ctx: typer.Context,
    rev: Annotated[str, typer.Argument(help="The commit whose change is undone.", show_default=False)],
    branch: Branch = None,
    message: Message = None,
    mainline: Mainline = None,
    ours: Ours = False,
    theirs: Theirs = False,
    as_json: Json = False,
) -> None:
    """Undo what a commit changed, by a new commit. Exit status 1 if later commits changed the same, or there is nothing to undo."""
    resolve = resolution(ours=ours, theirs=theirs)
    repo = invocation_of(ctx).open()
    name = branch or repo.default_branch
    change = partial(repo.revert, rev, branch=name, message=message, mainline=mainline, resolve=resolve)
    _apply(repo, name, change, as_json)


def cherry_pick(
    ctx: typer.Context,
    rev: Annotated[str, typer.Argument(help="The commit whose change is repeated.", show_default=False)],
    branch: Branch = None,
    message: Message = None,
    mainline: Mainline = None,
    ours: Ours = False,
    theirs: Theirs = False,
    as_json: Json = False,
) -> None:
    """Repeat what a commit changed on another branch. Exit status 1 if the branch changed the same, or has it already."""
    resolve = resolution(ours=ours, theirs=theirs)
    repo = invocation_of(ctx).open()
    name = branch or repo.default_branch
    change = partial(repo.cherry_pick, rev, branch=name, message=message, mainline=mainline, resolve=resolve)
    _apply(repo, name, change, as_json)


def _apply(repo: Repository, branch: str, change: Callable[[], Commit], as_json: bool) -> None:
    """Make the commit that a change comes to on a branch, and show it."""
    before = repo.resolve(branch)
    after = attempt(repo, change, as_json=as_json)
    if as_json:
        print_json({**after.to_dict(), "branch": branch, "before": before.id})
    else:
        _tell(repo, branch, before, after)


def resolution(**chosen: bool) -> Any:
    """Return which side flags choose: the name of the one that is set, or ``None``."""
    names = [name for name, is_chosen in chosen.items() if is_chosen]
    if len(names) > 1:
        raise UsageFailure(f"--{names[0]} and --{names[1]} exclude each other")
    return names[0] if names else None


def _tell(repo: Repository, what: str, before: Commit, after: Commit) -> None:
    from hangarlake.cli.changes import print_changes

    say(f"[{what} {short(after.id)}] {subject(after)}")
    changes = repo.diff(before, after)
    if changes:
        print_changes(changes)
