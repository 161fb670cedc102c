"""Commands that move repositories between places: clone, remote, fetch, pull, push, fetch-data."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from hangarlake.cli.commands import add_commands, add_group
from hangarlake.cli.conflicts import attempt
from hangarlake.cli.failures import UsageFailure, refusals
from hangarlake.cli.invocation import Invocation, invocation_of, is_local, parse_options
from hangarlake.cli.keys import KEY_HELP, find_key, parse_key
from hangarlake.cli.merging import resolution
from hangarlake.cli.options import Author, Branch, DryRun, Json, Ours, Rev, Theirs, UnsafeStore, Yes
from hangarlake.cli.output import bytes_bar, confirm, print_json, print_table, say, short, size, text_of

if TYPE_CHECKING:
    from hangarlake import Commit, Progress, Repository

__all__ = ["register"]

_PANEL = "Remotes"

RemoteName: TypeAlias = Annotated[str, typer.Argument(metavar="REMOTE", help="Name of the remote.")]
RemoteOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--remote-option",
        metavar="KEY=VALUE",
        help="A storage option of the other place; repeatable. Else `$HANGARLAKE_OPTIONS_<REMOTE>`, as JSON.",
        show_default=False,
    ),
]
Branches: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--branch", "-b", help="Only this branch; repeatable.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    add_commands(app, _PANEL, clone)
    about = "Add, remove and list remotes: other places of the repository."
    add_group(app, _PANEL, "remote", about, add=add, remove=remove, list=list_remotes)
    add_commands(app, _PANEL, fetch, pull, push, fetch_data)


def clone(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="The repository: any URL, plain HTTP included.")],
    url: Annotated[
        str | None,
        typer.Argument(
            help="Where to; -r, else a folder here of the source's name, if left out.",
            show_default=False,
        ),
    ] = None,
    branch: Branches = None,
    data: Annotated[
        bool,
        typer.Option(
            "--data", help="Bring all data as well, now and with every fetch; else history and records alone."
        ),
    ] = False,
    options: RemoteOptions = None,
    author: Author = None,
    unsafe: UnsafeStore = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Copy a repository to another place.

    The clone has the same id and the same commits, and the source as its remote `origin`. Samples are read from there until
    `fetch-data` brings them. A clone that was interrupted is continued by the same command.
    """
    invocation = invocation_of(ctx)
    place = url or invocation.given_url or PurePosixPath(source.rstrip("/").rpartition("::")[2]).name
    if not place:
        raise UsageFailure("say where the clone is to be: hangarlake clone SOURCE URL")
    source_options = _options(options)
    if dry_run:
        from hangarlake.transfer.clone import plan_clone

        plan = plan_clone(source, source_options=source_options, branches=branch, data=data)
        facts = {"url": invocation.redact(place), "dry_run": True}
        _say_sent(invocation, as_json, facts, plan, f"Would clone to {place}: ")
        return
    from hangarlake import Repository

    with _progress("cloning") as progress, refusals():
        repo = Repository.clone(
            source,
            place,
            source_options=source_options,
            storage_options=invocation.storage_options(),
            branches=branch,
            data=data,
            author=author,
            allow_unsafe_store=unsafe or invocation.allow_unsafe_store,
            progress=progress,
        )
    shown = shlex.quote(invocation.redact(place))
    facts = {"url": invocation.redact(repo.url), "dry_run": False, "id": repo.id, "branches": dict(repo.branches)}
    _say_sent(invocation, as_json, facts, progress, f"Cloned to {repo.url}: ")
    if not as_json:
        here = f", or cd {shown}" if is_local(place) else ""
        say(f"Use it with -r {shown}{here}.")


def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it, origin for instance.")],
    url: Annotated[str, typer.Argument(help="Its URL.")],
    options: RemoteOptions = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Storage options of this name, from `profiles` in the configuration.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Name another place of the repository.

    Addresses are remembered, credentials are not: they come from the environment, a profile, or --remote-option.
    """
    invocation = invocation_of(ctx)
    repo = invocation.open()
    with refusals():
        remote = repo.remotes.add(name, url, storage_options=_options(options), profile=profile)
    if as_json:
        print_json(remote.to_dict())
    else:
        say(f"Added the remote {remote.name}: {invocation.redact(remote.url)}")


def remove(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the remote.")],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Remove a remote, and what is known of its branches. What was fetched stays."""
    remotes = invocation_of(ctx).open().remotes
    if name in remotes:
        if dry_run:
            say(f"Would remove the remote {name} ({remotes[name].url}).")
            return
        confirm(f"Remove the remote {name}?", yes=yes)
    remotes.remove(name)
    say(f"Removed the remote {name}.")


def list_remotes(ctx: typer.Context, as_json: Json = False) -> None:
    """List the remotes of this working copy."""
    remotes = list(invocation_of(ctx).open().remotes.values())
    if as_json:
        print_json([remote.to_dict() for remote in remotes])
    else:
        print_table(("remote", "url", "profile"), [(each.name, each.url, each.profile or "") for each in remotes])


def fetch(
    ctx: typer.Context,
    remote: RemoteName = "origin",
    branch: Branches = None,
    data: Annotated[
        bool | None,
        typer.Option(
            "--data/--no-data", help="Bring data packs too; by default as the clone was made.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Even from another repository.")] = False,
    options: RemoteOptions = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Fetch what a remote has and this repository lacks.

    No branch here moves; those of the remote can be named from then on: origin/main.
    """
    invocation = invocation_of(ctx)
    repo = invocation.open()
    before = dict(repo.branches)
    with _progress("fetching") as progress, refusals():
        found = repo.fetch(
            remote,
            branch,
            force=force,
            data=data,
            storage_options=_options(options),
            dry_run=dry_run,
            progress=progress,
        )
    facts = {"branches": found, "dry_run": dry_run}
    _say_sent(invocation, as_json, facts, progress, "Would fetch: " if dry_run else "Fetched: ")
    if not as_json:
        for name, commit in found.items():
            old = before.get(name)
            state = "as before" if old == commit else f"was {short(old)}" if old else "new"
            say(f"{name}  {short(commit)}  ({state})")


def pull(
    ctx: typer.Context,
    remote: RemoteName = "origin",
    branch: Branch = None,
    ours: Ours = False,
    theirs: Theirs = False,
    options: RemoteOptions = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Fetch a branch and merge it into the one of the same name here.

    Exit status 1 with a list of the conflicts if both sides changed the same; what was fetched is `origin/main` then, to be
    merged by `hangarlake merge`.
    """
    resolve = resolution(ours=ours, theirs=theirs)
    invocation = invocation_of(ctx)
    repo = invocation.open()
    name = branch or repo.default_branch
    tracking = f"{remote}/{name}"
    into = "" if name == repo.default_branch else f" --into {name}"
    remedy = f"run `hangarlake merge {tracking}{into} --ours` (or `--theirs`), or resolve them one by one in Python"
    with _progress("fetching") as progress, refusals():
        if dry_run:
            repo.fetch(remote, [name], storage_options=_options(options), dry_run=True, progress=progress)
        else:
            join = partial(_pull, repo, remote, name, resolve, _options(options), progress)
            commit = attempt(repo, join, as_json=as_json, remedy=remedy)
    if dry_run:
        facts = {"branch": name, "dry_run": True}
        _say_sent(invocation, as_json, facts, progress, f"Would merge {tracking} after fetching: ")
        return
    facts = {"branch": name, "dry_run": False, "commit": commit.id}
    _say_sent(invocation, as_json, facts, progress, "Fetched: ")
    if not as_json:
        say(f"{name} is at {short(commit.id)}.")


def _pull(
    repo: Repository, remote: str, branch: str, resolve: Any, options: dict[str, Any] | None, progress: Progress
) -> Commit:
    from hangarlake.errors import MergeConflictError

    try:
        return repo.pull(remote, branch, storage_options=options, progress=progress)
    except MergeConflictError:
        if resolve is None:
            raise
        return repo.merge(f"{remote}/{branch}", branch, resolve=resolve)


def push(
    ctx: typer.Context,
    remote: RemoteName = "origin",
    branch: Annotated[
        str | None, typer.Argument(help="Branch or tag; the default branch if left out.", show_default=False)
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", help="Even if commits of the remote branch are left behind; its reflog keeps them."
        ),
    ] = False,
    options: RemoteOptions = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send a branch to a remote, with all that it needs there and no more, then move it there.

    An empty place becomes a clone. A push that was interrupted is continued by the same command.
    """
    invocation = invocation_of(ctx)
    repo = invocation.open()
    if force and not dry_run:
        confirm(f"Move {branch or repo.default_branch} at {remote} whatever it has?", yes=yes)
    with _progress("pushing") as progress, refusals():
        result = repo.push(
            remote, branch, force=force, storage_options=_options(options), dry_run=dry_run, progress=progress
        )
    facts = {**result.to_dict(), "dry_run": dry_run}
    if result.created and not as_json:
        say(
            f"{'Would create' if dry_run else 'Created'} a repository at {invocation.redact(repo.remotes[remote].url)}."
        )
    _say_sent(invocation, as_json, facts, progress, "Would push: " if dry_run else "Pushed: ")
    if as_json:
        return
    place = f"{remote}/{result.branch}"
    if result.old == result.new:
        say(f"{place} is at {short(result.new)} already.")
    else:
        was = f" (was {short(result.old)})" if result.old else ""
        say(f"{place} {'would move' if dry_run else 'moved'} to {short(result.new)}{was}.")


def fetch_data(
    ctx: typer.Context,
    rev: Rev = None,
    remote: Annotated[str, typer.Option("--remote", help="Where to take it from.")] = "origin",
    column: Annotated[
        list[str] | None,
        typer.Option("--column", "-c", help="Only this column, array or group; repeatable.", show_default=False),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", "-k", help="Only this sample; repeatable. " + KEY_HELP, show_default=False),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option("--max-bytes", min=0, help="Stop before more bytes than this are fetched.", show_default=False),
    ] = None,
    options: RemoteOptions = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Fetch the data of a part of a commit: only the chunks that it needs."""
    invocation = invocation_of(ctx)
    repo = invocation.open()
    keys = _keys(repo, rev, column, key) if key else None
    with _progress("fetching data") as progress:
        result = repo.fetch_data(
            rev,
            remote=remote,
            nodes=column,
            keys=keys,
            max_bytes=max_bytes,
            storage_options=_options(options),
            dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        print_json({**result.to_dict(), "dry_run": dry_run})
        return
    said = f"{text_of(result.values, 'value')} in {text_of(result.chunks, 'chunk')}, {size(result.bytes)}"
    say(("Would fetch " if dry_run else "Fetched ") + said + ".")


def _keys(repo: Repository, rev: str | None, names: list[str] | None, texts: list[str]) -> list[Any]:
    """Return the keys that are meant: a number may be text in one column and an integer in another."""
    with repo.checkout(rev) as view:
        columns = [column for name, column in view.columns.items() if names is None or name in names]
        found: list[Any] = []
        for text in texts:
            keys = [(find_key(column, text), column) for column in columns]
            # One that no column has is for the library to report.
            found += [key for key, column in keys if key in column] or [parse_key(text)]
    return list(dict.fromkeys(found))


def _options(pairs: list[str] | None) -> dict[str, Any] | None:
    return parse_options(pairs) if pairs else None


def _say_sent(invocation: Invocation, as_json: bool, facts: dict[str, Any], progress: Progress, what: str) -> None:
    """Say what travelled."""
    if as_json:
        print_json({**facts, "objects": progress.objects, "bytes": progress.bytes})
    else:
        say(invocation.redact(f"{what}{text_of(progress.objects, 'object')}, {size(progress.bytes)}"))


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """Count what travels; show objects, bytes and rate on standard error, if that is a terminal."""
    from hangarlake import Progress

    if not sys.stderr.isatty():
        yield Progress()
        return
    with bytes_bar("{task.description}", "{task.fields[objects]:,} objects") as bar:
        task = bar.add_task(what, total=None, objects=0)
        counted = Progress(lambda count: bar.update(task, advance=count, objects=counted.objects))
        yield counted
