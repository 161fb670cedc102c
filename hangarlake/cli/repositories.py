"""Commands about a repository as a whole: init, info, stats, demo."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from hangarlake.cli.commands import add_commands
from hangarlake.cli.failures import Failure, refusals
from hangarlake.cli.invocation import CONFIG_NAME, found_url, invocation_of
from hangarlake.cli.options import Author, Json, Rev, UnsafeStore
from hangarlake.cli.output import print_json, print_table, say, size, text_of

__all__ = ["register"]

_HIDDEN_FOLDER = ".hangarlake"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    add_commands(app, "Repositories", demo, init, info, stats)


def init(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(
            help="Where to create it: a folder, s3://bucket/path, gs://…, az://…, any fsspec URL.", show_default=False
        ),
    ] = None,
    branch: Annotated[str, typer.Option("--default-branch", help="Name of the first branch.")] = "main",
    author: Author = None,
    config: Annotated[
        bool,
        typer.Option(
            "--config/--no-config",
            help=f"Write {CONFIG_NAME} here, so that commands in this folder find the repository.",
        ),
    ] = True,
    unsafe: UnsafeStore = False,
    as_json: Json = False,
) -> None:
    """Create a repository.

    Without a URL it is created where -r or $HANGARLAKE_REPO says, else in the folder .hangarlake here.
    """
    from hangarlake import Repository, RepositoryExistsError

    invocation = invocation_of(ctx)
    place = url or invocation.given_url or _HIDDEN_FOLDER
    try:
        with refusals():
            repo = Repository.create(
                place,
                storage_options=invocation.storage_options(),
                author=author,
                default_branch=branch,
                allow_unsafe_store=unsafe or invocation.allow_unsafe_store,
            )
    except RepositoryExistsError as error:
        raise Failure(f"there is a repository at {place} already, and it stays as it is; {_way_to(place)}") from error
    # With -r or the variable the user has a way to name the repository already.
    wanted = config and (url is not None or invocation.given_url is None)
    problem = _write_config(place) if wanted else None
    written = wanted and problem is None
    if as_json:
        print_json(
            {
                "url": invocation.redact(repo.url),
                "id": repo.id,
                "default_branch": repo.default_branch,
                "config": written,
            }
        )
        return
    say(f"Created a repository at {invocation.redact(repo.url)}, with the branch {repo.default_branch}.")
    if written:
        said = f"Wrote {CONFIG_NAME}: commands in this folder and below mean this repository"
        first = os.environ.get("HANGARLAKE_REPO")
        say(
            f"{said} once HANGARLAKE_REPO, which is set to {invocation.redact(first)} and goes first, is unset."
            if first
            else f"{said}."
        )
    elif problem:
        say(problem)


def info(ctx: typer.Context, as_json: Json = False) -> None:
    """Show the repository's address, its branches and tags, and the columns and arrays on the default branch."""
    invocation = invocation_of(ctx)
    repo = invocation.open()
    branches, tags = dict(repo.branches), dict(repo.tags)
    columns = []
    arrays: list[str] = []
    if repo.default_branch in branches:
        with repo.checkout(repo.default_branch) as view:
            columns = [
                {"name": name, "kind": column.kind, "samples": len(column)} for name, column in view.columns.items()
            ]
            arrays = list(view.arrays)
    url = invocation.redact(repo.url)
    if as_json:
        print_json(
            {
                "url": url,
                "id": repo.id,
                "default_branch": repo.default_branch,
                "branches": branches,
                "tags": tags,
                "columns": columns,
                "arrays": arrays,
            }
        )
        return
    say(url, style="bold")
    say(f"id             {repo.id}")
    say(f"you commit as  {repo.author}")
    say(
        f"branches       {', '.join(name + ' (default)' if name == repo.default_branch else name for name in branches) or 'none'}"
    )
    say(f"tags           {', '.join(tags) or 'none'}")
    held = [f"{column['name']} ({text_of(int(str(column['samples'])), 'sample')})" for column in columns]
    say(f"columns        {', '.join(held) or 'none'}")
    say(f"arrays         {', '.join(arrays) or 'none'}")


def stats(
    ctx: typer.Context,
    rev: Rev = None,
    as_json: Json = False,
) -> None:
    """Count commits, nodes and samples, and compare what they hold with what is stored."""
    result = invocation_of(ctx).open().stats(rev)
    if as_json:
        print_json(result.to_dict())
        return
    rows = [
        ("commits", f"{result.commits:,}"),
        ("columns and arrays", f"{result.nodes:,}"),
        ("samples", f"{result.samples:,}"),
        ("held", size(result.logical_bytes)),
        ("stored", size(result.stored_bytes)),
        ("packs", f"{result.packs:,}"),
    ]
    print_table(("", "count"), rows, right=("count",))


def demo(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(help="Where to create the repository; in a temporary folder if left out.", show_default=False),
    ] = None,
) -> None:
    """Show how it works, from end to end, on 1,797 real images: commit, branch, merge, read, clone."""
    from hangarlake.cli.demo import run

    invocation = invocation_of(ctx)
    run(url or invocation.explicit_url, invocation.storage_options(), invocation.redact)


def _way_to(place: str) -> str:
    """Return how a repository at a place is named by commands."""
    found = found_url(Path.cwd())
    if found is not None and (found == place or Path(found).resolve() == Path(place).resolve()):
        return "commands in this folder use it"
    return f"use it with -r {shlex.quote(place)}"


def _write_config(url: str) -> str | None:
    """Write the file that names the repository; one that is there already stays. Return why it was not written, if so."""
    from hangarlake.storage import redact_url

    path = Path(CONFIG_NAME)
    if redact_url(url) != url:
        return f"{CONFIG_NAME} was not written, because this URL carries credentials; set HANGARLAKE_REPO instead."
    text = f"# Which repository the commands in this folder mean; read by hangarlake.\nurl = {json.dumps(url, ensure_ascii=False)}\n"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return f"{CONFIG_NAME} is here already and stays as it is; name the new repository with -r {url}."
    except OSError as error:
        return f"{CONFIG_NAME} could not be written ({error.strerror}); name the repository with -r {url}."
    return None
