"""The classes that every command and group of commands is made of, and how commands are added to a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from hangarlake.cli.failures import UsageFailure

__all__ = ["Command", "Group", "PipeClosedError", "add_commands", "add_group"]


_NO_CHECKOUT = "Hangarlake has no current branch: name the branch with --branch, or what to read with --rev"
# What a hand that is used to git types.
_OF_GIT = {
    "add": "files are staged by `hangarlake import`",
    "checkout": _NO_CHECKOUT,
    "mv": "columns are renamed by `hangarlake column rename`, arrays by `hangarlake array rename`",
    "rebase": "there is no rebase: `hangarlake commit` puts what is staged on top of a branch that has moved on, and "
    "`hangarlake cherry-pick` repeats a commit",
    "restore": "Hangarlake has no working files to restore: `hangarlake reset` drops what is staged",
    "rm": "columns are removed by `hangarlake column remove`, arrays by `hangarlake array remove`",
    "stash": "there is no stash: what is staged on a branch stays there while you work on another",
    "switch": _NO_CHECKOUT,
}


class PipeClosedError(Exception):
    """Whoever read our output has gone."""


class Command(TyperCommand):
    """A command."""

    def get_params(self, ctx: Any) -> Any:
        """Return the arguments and options."""
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands, in the order in which they were added."""

    def get_params(self, ctx: Any) -> Any:
        """Return the options that stand before the command."""
        return _without_types_of_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a closed pipe is reported before typer turns it into a failure of its own kind."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise PipeClosedError from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command; one that only git has is answered with what there is instead."""
        if args and ctx.parent is None and args[0] in _OF_GIT and args[0] not in self.commands:
            raise UsageFailure(f"{_OF_GIT[args[0]]}; see docs/from/git.md")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the signature is click's
        """Return the names in the order in which they were added."""
        return list(self.commands)


def add_commands(
    app: typer.Typer, panel: str | None, *commands: Callable[..., None], **named: Callable[..., None]
) -> None:
    """Add functions as commands, those of `named` under these names (``import_`` for ``import``); `panel` is their heading in the help."""
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(command)
    for name, command in named.items():
        app.command(name.rstrip("_").replace("_", "-"), cls=Command, rich_help_panel=panel)(command)


def add_group(app: typer.Typer, panel: str, name: str, about: str, **commands: Callable[..., None]) -> None:
    """Add a group of commands."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help=about)
    add_commands(group, None, **commands)
    app.add_typer(group, name=name, rich_help_panel=panel)


def _without_types_of_flags(parameters: Any) -> Any:
    """A flag takes no value, so none is to be named behind it in the help: some releases of typer write ``<bool>``."""
    for each in parameters:
        if getattr(each, "is_flag", False) and each.metavar is None:
            each.metavar = ""
    return parameters
