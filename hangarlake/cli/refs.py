"""Commands that name and move commits: branch, tag, reset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from hangarlake.cli.commands import add_commands
from hangarlake.cli.failures import FAILED, Failure, UsageFailure, refusals
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.options import Branch, DryRun, Json, Yes
from hangarlake.cli.output import confirm, print_json, print_table, say, short, subject

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    add_commands(app, "Branches and tags", branch, tag, reset)


def branch(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Branch to create; all are listed if left out.", show_default=False)
    ] = None,
    at: Annotated[
        str | None,
        typer.Argument(metavar="REV", help="Where it begins; the default branch if left out.", show_default=False),
    ] = None,
    delete: Annotated[
        str | None,
        typer.Option(
            "--delete", "-d", metavar="NAME", help="Delete this branch, if its commits are on another branch or a tag."
        ),
    ] = None,
    delete_force: Annotated[
        str | None, typer.Option("-D", metavar="NAME", help="Delete this branch in any case: --delete with --force.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Delete it even if its commits are on no other branch or tag.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """List, create or delete branches.

    Nothing is asked before a branch is deleted, unless it is the default branch: without --force no commit is lost, and the reflog
    says where it was.
    """
    if sum(each is not None for each in (name, delete, delete_force)) > 1:
        raise UsageFailure("either create a branch or delete one")
    delete, force = delete or delete_force, force or delete_force is not None
    repo = invocation_of(ctx).open()
    found = _Names("branch", repo.branches, dry_run=dry_run, as_json=as_json)
    if delete is not None:
        if dry_run and not force and delete in repo.branches:
            with refusals(FAILED):
                repo._check_deletable(delete, repo.branches[delete])
        harmless = delete != repo.default_branch
        found.delete(delete, lambda: repo.delete_branch(delete, force=force), yes=yes or harmless)
    elif name is not None:
        from hangarlake.records.movements import check_branch_name

        found.create(name, repo.resolve(at).id, check_branch_name, lambda: repo.create_branch(name, at))
    elif as_json:
        print_json(dict(repo.branches))
    else:
        print_table(
            ("", "branch", "commit"),
            [
                ("*" if each == repo.default_branch else "", each, short(commit))
                for each, commit in repo.branches.items()
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
    found = _Names("tag", repo.tags, dry_run=dry_run, as_json=as_json)
    if delete is not None:
        found.delete(delete, lambda: repo.delete_tag(delete), yes=yes)
    elif name is not None:
        from hangarlake.records.movements import check_tag_name

        found.create(name, repo.resolve(at).id, check_tag_name, lambda: repo.create_tag(name, at, message=message))
    elif as_json:
        print_json(dict(repo.tags))
    else:
        print_table(("tag", "commit"), [(each, short(commit)) for each, commit in repo.tags.items()])


def reset(
    ctx: typer.Context,
    rev: Annotated[
        str | None,
        typer.Argument(help="Where to move the branch; if left out, what is staged is dropped.", show_default=False),
    ] = None,
    branch: Branch = None,
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
            say(f"Would move {name} from {short(old.id)} to {short(new.id)} ({subject(new)}).")
            return
        confirm(f"Move {name} from {short(old.id)} to {short(new.id)}?", yes=yes)
        repo.reset_branch(name, new.id)
        say(f"{name} is at {short(new.id)}. It was at {short(old.id)}.")
        return
    what = "what is staged" + (f" for {', '.join(column)}" if column else "") + f" on {name}"
    with repo.checkout(name, write=True) as writer:
        staged = writer.status()
        if not staged and not column:
            say(f"Nothing was staged on {name}.")
            return
        if dry_run:
            say(f"Would drop {what}.")
            return
        before = staged.to_dict()  # now: a difference is read when it is asked for
        if staged:
            confirm(f"Drop {what}?", yes=yes)
        writer.reset(column or None)
        dropped = writer.status().to_dict() != before
    say(f"Dropped {what}." if dropped else f"Nothing was staged{what.removeprefix('what is staged')}.")


class _Names:
    """The branches or the tags, to be added to and taken from."""

    def __init__(self, kind: str, present: Mapping[str, str], *, dry_run: bool, as_json: bool) -> None:
        self._kind = kind
        self._present = present
        self._dry_run = dry_run
        self._as_json = as_json

    def create(self, name: str, commit: str, check: Callable[[str], str], create: Callable[[], str]) -> None:
        """Create one, or say what would be created."""
        with refusals():
            check(name)
        if not self._dry_run:
            commit = create()
        elif name in self._present:
            raise Failure(f"there is a {self._kind} {name!r} already, at {short(self._present[name])}")
        self._tell("create", name, commit, f" at {short(commit)}")

    def delete(self, name: str, delete: Callable[[], None], *, yes: bool) -> None:
        """Delete one, or say what would be deleted. One that is not there is for `delete` to report."""
        commit = self._present.get(name)
        if not self._dry_run or commit is None:
            if commit is not None:
                confirm(f"Delete the {self._kind} {name}?", yes=yes)
            with refusals(FAILED):
                delete()
        at = short(commit or "")
        self._tell("delete", name, commit, f", which is at {at}" if self._dry_run else f" (it was at {at})")

    def _tell(self, verb: str, name: str, commit: str | None, where: str) -> None:
        if self._as_json:
            print_json({self._kind: name, "commit": commit, "operation": verb, "dry_run": self._dry_run})
        else:
            say(f"{f'Would {verb}' if self._dry_run else f'{verb.capitalize()}d'} the {self._kind} {name}{where}.")
