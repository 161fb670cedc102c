"""Arguments and options that several commands take, each with one name, one meaning and one text in the help."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = [
    "Author",
    "Branch",
    "DryRun",
    "Json",
    "Ours",
    "Rev",
    "RevOption",
    "Staged",
    "SubKey",
    "Theirs",
    "UnsafeStore",
    "Yes",
]

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]

Branch: TypeAlias = Annotated[
    str | None, typer.Option("--branch", "-b", help="Which branch; the default branch if left out.", show_default=False)
]
Rev: TypeAlias = Annotated[
    str | None, typer.Argument(help="Branch, tag or commit; the default branch if left out.", show_default=False)
]
RevOption: TypeAlias = Annotated[
    str | None, typer.Option("--rev", help="Branch, tag or commit; the default branch if left out.", show_default=False)
]
Staged: TypeAlias = Annotated[bool, typer.Option("--staged", help="Include what is staged on the branch.")]
SubKey: TypeAlias = Annotated[
    str | None, typer.Option("--sub", help="Key within the sample, in a nested column.", show_default=False)
]
Ours: TypeAlias = Annotated[bool, typer.Option("--ours", help="Resolve every conflict by what the branch has.")]
Theirs: TypeAlias = Annotated[bool, typer.Option("--theirs", help="Resolve every conflict by what comes in.")]
Author: TypeAlias = Annotated[
    str | None, typer.Option(help="`Name <mail>`; else $HANGARLAKE_AUTHOR, else what git says.", show_default=False)
]
UnsafeStore: TypeAlias = Annotated[
    bool,
    typer.Option("--allow-unsafe-store", help="Accept a store without “create if absent”; for a single writer only."),
]
