"""Commands about commits: status, commit, log, show, reflog."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hangarlake.cli.commands import add_commands
from hangarlake.cli.failures import CONFLICT, Failure, UsageFailure, interruptible
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.keys import KEY_HELP, find_key, find_sub_key, parse_key
from hangarlake.cli.options import Author, Branch, Json, Rev, RevOption, SubKey
from hangarlake.cli.output import moment, plain, print_json, print_table, say, short, subject

if TYPE_CHECKING:
    from hangarlake import Commit, Repository
    from hangarlake.columns.column import Column

__all__ = ["register"]

# Colours of the lines of a drawing, from left to right.
_LANES = ("red", "green", "yellow", "blue", "magenta", "cyan")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    add_commands(app, "Changes and history", status, commit, log, show, reflog)


def status(
    ctx: typer.Context,
    branch: Branch = None,
    as_json: Json = False,
) -> None:
    """Show what is staged and not committed."""
    from hangarlake.cli.changes import print_changes

    repo = invocation_of(ctx).open()
    name = branch or repo.default_branch
    with repo.staged(name) as view:
        head, staged = repo.resolve(name), view.status()
        if as_json:
            elsewhere = _staged_elsewhere(repo, name)
            facts = {"branch": name, "commit": head.id, "writer": view.writer, "staged": staged.to_dict()}
            print_json({**facts, "staged_on": [*([name] if staged else []), *elsewhere]})
            return
        say(f"On branch {name}, at {short(head.id)} ({subject(head)})")
        if view.writer is not None:
            say(f"Process {view.writer} is writing to it; what it has not flushed is not shown.")
        if not staged:
            elsewhere = _staged_elsewhere(repo, name) if branch is None else []
            say(f"Nothing is staged on {name}; {_pointer(elsewhere)}." if elsewhere else "Nothing is staged.")
            return
        say("Staged:")
        print_changes(staged)


def commit(
    ctx: typer.Context,
    message: Annotated[str, typer.Option("--message", "-m", help="What changed, and why.")],
    branch: Branch = None,
    author: Author = None,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Commit even if nothing is staged.")] = False,
    rebase: Annotated[
        bool, typer.Option("--rebase/--no-rebase", help="If the branch has moved on, put the changes on top of it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Make a commit of what is staged. Exit status 1 if nothing is, or if the branch moved and changed the same samples."""
    from hangarlake.errors import NothingToCommitError

    if not message.strip():
        raise UsageFailure("the message is blank; say with -m what changed, and why")
    repo = invocation_of(ctx).open(author=author)
    name = branch or repo.default_branch
    with repo.checkout(name, write=True) as writer:
        try:
            with interruptible("Interrupted; `hangarlake status` tells whether anything is left to commit."):
                made = writer.commit(message, author=author, rebase=rebase, allow_empty=allow_empty)
        except NothingToCommitError as error:
            elsewhere = _staged_elsewhere(repo, name) if branch is None else []
            if not elsewhere:
                raise
            raise Failure(f"nothing is staged on {name!r}; {_pointer(elsewhere)}", CONFLICT) from error
    if as_json:
        print_json(made.to_dict())
    else:
        say(f"[{name} {short(made.id)}] {subject(made)}")


def _staged_elsewhere(repo: Repository, branch: str) -> list[str]:
    """Return the other branches of this working copy on which something is staged."""
    from hangarlake.errors import StorageError

    try:
        return [each for each in repo.staged_branches() if each != branch]
    except StorageError:
        return []  # a damaged file is reported to whoever works on its branch


def _pointer(branches: list[str]) -> str:
    return f"staged: {', '.join(map(repr, branches))} (use --branch {shlex.quote(branches[0])})"


def log(
    ctx: typer.Context,
    rev: Annotated[
        str | None,
        typer.Argument(
            help="Where to begin; the default branch if left out. A..B is what B has and A has not.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="At most so many commits.", show_default=False)
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            "--node",
            "--column",
            "-c",
            help="Only commits that changed this column or array, by its present name.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Only commits that changed this sample of it. " + KEY_HELP, show_default=False)
    ] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Draw how lines of history part and meet.")] = False,
    oneline: Annotated[bool, typer.Option("--oneline", help="One line for each commit.")] = False,
    patch: Annotated[bool, typer.Option("-p", hidden=True, help="As git has it; there is none here.")] = False,
    as_json: Json = False,
) -> None:
    """Show the history of a revision, newest first: of everything, of a column or array, or of one sample."""
    if patch:
        raise UsageFailure(
            "log shows no changes: `hangarlake show REV` has those of one commit, and `hangarlake diff A B --keys` those between two"
        )
    if key is not None and node is None:
        raise UsageFailure("--key needs --node")
    if graph and (node is not None or as_json):
        raise UsageFailure("--graph draws all commits, for people: it goes without --node and --json")
    repo = invocation_of(ctx).open()
    if graph:
        _print_graph(repo, rev, limit)
        return
    commits = repo.log(rev, limit=limit, node=node, key=None if key is None else _key_of(repo, rev, str(node), key))
    if as_json:
        print_json([each.to_dict() for each in commits])
        return
    for number, each in enumerate(commits):
        if oneline:
            # Flushed line by line, so that `| head` ends a long walk early.
            print(f"{short(each.id)} {plain(subject(each))}", flush=True)
        else:
            if number:
                print()
            _print_commit(each)


def _print_graph(repo: Repository, rev: str | None, limit: int | None) -> None:
    from rich.text import Text

    from hangarlake.cli.graph import draw
    from hangarlake.cli.output import console

    names: dict[str, list[str]] = {}
    for name, commit_id in repo.branches.items():
        names.setdefault(commit_id, []).append(name)
    for name, commit_id in repo.tags.items():
        names.setdefault(commit_id, []).append(f"tag: {name}")
    out = console()
    for row, each in draw(repo.log(rev, limit=limit)):
        line = Text()
        for place, mark in enumerate(row):
            line.append(mark, "bold" if mark == "*" else _LANES[place // 2 % len(_LANES)])
        if each is not None:
            line.append(f" {short(each.id)}", "yellow")
            if each.id in names:
                line.append(plain(f" ({', '.join(names[each.id])})"), "green")
            line.append(plain(f" {subject(each)}"))
        out.print(line)


def show(
    ctx: typer.Context,
    rev: Rev = None,
    rev_option: RevOption = None,
    column: Annotated[
        str | None, typer.Option("--column", "-c", help="Show a sample of this column instead.", show_default=False)
    ] = None,
    key: Annotated[str | None, typer.Option(help="Which sample. " + KEY_HELP, show_default=False)] = None,
    sub: SubKey = None,
    as_json: Json = False,
) -> None:
    """Show a commit and what it changed, or one sample."""
    from hangarlake.cli.changes import print_changes
    from hangarlake.cli.hierarchy import hierarchy_lines

    if (column is None) != (key is None) or (sub is not None and key is None):
        raise UsageFailure("to see a sample give --column and --key (and --sub in a nested column)")
    if rev is not None and rev_option is not None and rev != rev_option:
        raise UsageFailure(f"two revisions are given, {rev!r} and --rev {rev_option!r}: one is enough")
    rev = rev if rev is not None else rev_option
    repo = invocation_of(ctx).open()
    if column is not None and key is not None:
        _show_sample(repo, rev, column, key, sub, as_json)
        return
    chosen = repo.resolve(rev)
    changes = repo.diff(chosen.parents[0], chosen) if chosen.parents else None
    if as_json:
        print_json({**chosen.to_dict(), "changes": None if changes is None else changes.to_dict()})
        return
    _print_commit(chosen)
    if changes:
        print()
        print_changes(changes)
    with repo.checkout(chosen) as view:
        lines = hierarchy_lines(view)
    if lines:
        say("\n" + "\n".join(lines))


def reflog(
    ctx: typer.Context,
    branch: Annotated[
        str | None, typer.Argument(help="Which branch; the default branch if left out.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="At most so many movements.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every movement of a branch, newest first: who moved it, from where to where."""
    repo = invocation_of(ctx).open()
    name = branch or repo.default_branch
    entries = list(islice(repo.reflog(name), limit))
    if as_json:
        print_json([entry.to_dict() for entry in entries])
        return
    print_table(
        ("seq", "commit", "operation", "time", "author", "message"),
        [
            (
                entry.seq,
                "deleted" if entry.commit is None else short(entry.commit),
                entry.operation,
                moment(entry.time),
                entry.author,
                entry.message.partition("\n")[0],
            )
            for entry in entries
        ],
        right=("seq",),
    )


def _print_commit(commit: Commit) -> None:
    say(f"commit {commit.id}", style="yellow")
    if len(commit.parents) > 1:
        say(f"Merge: {' '.join(short(parent) for parent in commit.parents)}")
    say(f"Author: {commit.author}")
    say(f"Date:   {moment(commit.time)}")
    say("")
    for line in commit.message.splitlines():
        say(f"    {line}")


def _key_of(repo: Repository, rev: str | None, name: str, text: str) -> Any:
    from hangarlake.records.revisions import split_range

    with repo.checkout(split_range(rev)[0]) as view:
        if name in view.columns:
            return find_key(view.columns[name], text)
    parts = text.split(",")
    # What has gone since, and arrays, whose chunks are named by grid coordinates: 0,3
    return tuple(map(int, parts)) if len(parts) > 1 and all(part.isdecimal() for part in parts) else parse_key(text)


@contextmanager
def _keys_hinted(column: Column, sample: str | int) -> Iterator[None]:
    """Add to an error about a sample that is not there what the keys of the column look like."""
    from hangarlake.errors import SampleNotFoundError

    try:
        yield
    except SampleNotFoundError as error:
        first = list(islice(column, 3))
        if sample in column or not first:
            raise
        listed = ", ".join(map(repr, first[:2])) + (", …" if len(first) > 2 else "")
        raise SampleNotFoundError(f"{error}; its keys look like {listed}") from error


def _show_sample(repo: Repository, rev: str | None, column: str, key: str, sub: str | None, as_json: bool) -> None:
    from hangarlake.cli.values import describe_value, value_to_dict

    with repo.checkout(rev) as view:
        target = view.columns[column]
        sample: Any = find_key(target, key)
        if sub is not None and not target.nested:
            raise UsageFailure(f"the column {column} is not nested, so its samples have no --sub")
        with _keys_hinted(target, sample):
            if target.nested and sub is None:
                subs = list(target[sample])
                if as_json:
                    print_json({"column": column, "key": sample, "subs": subs})
                else:
                    say("\n".join(map(str, subs)))
                return
            if sub is not None:
                sample = find_sub_key(target, sample, sub)
            value, digest = target[sample], target.digest(sample)
    if as_json:
        print_json(
            {
                "column": column,
                "key": list(sample) if isinstance(sample, tuple) else sample,
                "digest": digest,
                **value_to_dict(value),
            }
        )
    else:
        say(f"digest {digest}")
        say(describe_value(value))
