"""Commands that name and move commits: branch, tag, reset."""

from __future__ import annotations

from typing import Annotated

import typer

from hangarlake.cli.failures import UsageFailure
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.output import DryRun, Json, Yes, confirm, print_json, print_table, say

__all__ = ["register"]

_PANEL = "Branches and tags"
_SHORT = 12


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (branch, tag, reset):
        app.command(rich_help_panel=_PANEL)(command)


def branch(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Branch to create; all are listed if left out.", show_default=False)
    ] = None,
    at: Annotated[
        str | None,
        typer.Argument(metavar="REV", help="Where it begins; the default branch if left out.", show_default=False),
    ] = None,
    delete: Annotated[str | None, typer.Option("--delete", "-d", metavar="NAME", help="Delete this branch.")] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Delete it even if its commits are on no other branch.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """List, create or delete branches."""
    if delete is not None and name is not None:
        raise UsageFailure("either create a branch or delete one")
    repo = invocation_of(ctx).open()
    if delete is not None:
        commit = repo.branches.get(delete)
        if dry_run and commit is not None:
            say(f"Would delete the branch {delete}, which stands at {commit[:_SHORT]}.")
            return
        if commit is not None:
            confirm(f"Delete the branch {delete}?", yes=yes)
        repo.delete_branch(delete, force=force)
        say(f"Deleted the branch {delete}" + (f" (it stood at {commit[:_SHORT]})." if commit else "."))
    elif name is not None:
        if dry_run:
            say(f"Would create the branch {name} at {repo.resolve(at).id[:_SHORT]}.")
            return
        created = repo.create_branch(name, at)
        if as_json:
            print_json({"branch": name, "commit": created})
        else:
            say(f"Created the branch {name} at {created[:_SHORT]}.")
    else:
        branches = dict(repo.branches)
        if as_json:
            print_json(branches)
        else:
            print_table(
                ("", "branch", "commit"),
                [
                    ("*" if each == repo.default_branch else "", each, commit[:_SHORT])
                    for each, commit in branches.items()
                ],
            )


def tag(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Tag to create; all are listed if left out.", show_default=False)
    ] = None,
    at: Annotated[
        str | None,
        typer.Argument(metavar="REV", help="What it names; the default branch if left out.", show_default=False),
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="What the tag is for.")] = "",
    delete: Annotated[str | None, typer.Option("--delete", "-d", metavar="NAME", help="Delete this tag.")] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """List, create or delete tags."""
    if delete is not None and name is not None:
        raise UsageFailure("either create a tag or delete one")
    repo = invocation_of(ctx).open()
    if delete is not None:
        commit = repo.tags.get(delete)
        if dry_run and commit is not None:
            say(f"Would delete the tag {delete}, which names {commit[:_SHORT]}.")
            return
        if commit is not None:
            confirm(f"Delete the tag {delete}?", yes=yes)
        repo.delete_tag(delete)
        say(f"Deleted the tag {delete}" + (f" (it named {commit[:_SHORT]})." if commit else "."))
    elif name is not None:
        if dry_run:
            say(f"Would create the tag {name} at {repo.resolve(at).id[:_SHORT]}.")
            return
        created = repo.create_tag(name, at, message=message)
        if as_json:
            print_json({"tag": name, "commit": created})
        else:
            say(f"Created the tag {name} at {created[:_SHORT]}.")
    else:
        tags = dict(repo.tags)
        if as_json:
            print_json(tags)
        else:
            print_table(("tag", "commit"), [(each, commit[:_SHORT]) for each, commit in tags.items()])


def reset(
    ctx: typer.Context,
    rev: Annotated[
        str | None,
        typer.Argument(
            help="Where the branch is to stand; if left out, what is staged is dropped.", show_default=False
        ),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option("--branch", "-b", help="Which branch; the default branch if left out.", show_default=False),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", "-c", help="Drop what is staged for this column or array only; repeatable.", show_default=False
        ),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Drop what is staged, or move a branch to another commit.

    A branch that was moved away from a commit still shows it in its reflog.
    """
    if rev is not None and column:
        raise UsageFailure("a branch moves as a whole: give either REV or --column")
    repo = invocation_of(ctx).open()
    name = branch or repo.default_branch
    if rev is not None:
        old, new = repo.resolve(name), repo.resolve(rev)
        if dry_run:
            say(f"Would move {name} from {old.id[:_SHORT]} to {new.id[:_SHORT]} ({new.message.partition(chr(10))[0]}).")
            return
        confirm(f"Move {name} from {old.id[:_SHORT]} to {new.id[:_SHORT]}?", yes=yes)
        repo.reset_branch(name, new.id)
        say(f"{name} stands at {new.id[:_SHORT]}. It stood at {old.id[:_SHORT]}.")
        return
    what = "what is staged" + (f" for {', '.join(column)}" if column else "") + f" on {name}"
    with repo.checkout(name, write=True) as writer:
        if dry_run:
            say(f"Would drop {what}.")
            return
        confirm(f"Drop {what}?", yes=yes)
        writer.reset(column or None)
    say(f"Dropped {what}.")
