"""Commands that keep a repository sound: verify."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hangarlake.cli.commands import add_commands
from hangarlake.cli.failures import CONFLICT, UsageFailure, refusals
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.options import Json
from hangarlake.cli.output import bytes_bar, print_json, say, size, text_of

if TYPE_CHECKING:
    from hangarlake import Problem, VerifyReport

__all__ = ["register"]


class _Level(StrEnum):
    refs = "refs"
    records = "records"
    full = "full"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    add_commands(app, "Repositories", verify)


def verify(
    ctx: typer.Context,
    rev: Annotated[
        str | None,
        typer.Argument(
            help="Check what this branch, tag or commit and its ancestors hold; everything if left out.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[
        _Level,
        typer.Option(
            "--level",
            help="How deep: refs alone; records, which is commits, catalogs and trees as well; full, which is all data as well.",
        ),
    ] = _Level.full,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            metavar="N",
            help="Check so many chunks only (`1000`), or such a share of them (`5%`, `0.05`), at random.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Which chunks a sample takes; the same seed takes the same.")] = 0,
    as_json: Json = False,
) -> None:
    """Check that the repository holds what it promises, and say what suffers where it does not. Nothing is changed.

    Every object is compared with its name or its seal, and every sample with its digest. The exit status is 1 if something is wrong.
    """
    repo = invocation_of(ctx).open()
    chosen = None if sample is None else _parse_sample(sample)
    with refusals(), _progress() as told:
        report = repo.verify(rev, level=level.value, sample=chosen, seed=seed, progress=told)
    if as_json:
        print_json(report.to_dict())
    else:
        for problem in report.problems:
            _say_problem(problem)
        say(_line(report), style="" if report else "bold")
    if not report:
        raise typer.Exit(CONFLICT)


def _parse_sample(text: str) -> int | float:
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise UsageFailure(f"--sample is a number of chunks, or a share like 5% or 0.05, not {text!r}") from None


def _say_problem(problem: Problem) -> None:
    say(f"{problem.kind:<11}  {problem.object}")
    say(f"{'':<11}  {problem.detail}")
    for line in problem.affects:
        say(f"{'':<11}  affects {line}")
    if not problem.affects and problem.object.startswith("packs/"):
        say(f"{'':<11}  affects nothing that a commit names")


def _line(report: VerifyReport) -> str:
    seen = report.checked
    parts = [text_of(seen["objects"], "object"), text_of(seen["commits"], "commit")]
    if report.level != "refs":
        parts.append(text_of(seen["nodes"], "node"))
    if report.level == "full":
        total = seen.get("chunks_total")
        chunks = text_of(seen["chunks"] if total is None else total, "chunk")
        parts += [chunks if total is None else f"{seen['chunks']:,} of {chunks}", text_of(seen["samples"], "sample")]
    found = text_of(len(report.problems), "problem") + "." if report.problems else "All well."
    absent = ""
    if report.absent:
        absent = f" Not in this clone, and not checked: {text_of(report.absent, 'chunk')}."
    return f"Checked {', '.join(parts)}, {size(seen['bytes'])}. {found}{absent}"


@contextmanager
def _progress() -> Iterator[Callable[[str, int], object] | None]:
    """Show on standard error what is read and how much, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with bytes_bar("verifying {task.description}") as bar:
        task = bar.add_task("refs", total=None)
        yield lambda stage, count: bar.update(task, advance=count, description=stage)
