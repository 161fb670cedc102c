"""The program: global options, the list of commands, and what becomes of errors.

Exit status: 0 done, 1 differences, conflicts or a check that failed, 2 wrong usage, 3 anything else; 130 after Ctrl-C, 141
when whoever read the output has gone.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from typer.main import get_command

from hangarlake.cli import arrays, columns, diffing, exchange, history, merging, refs, repositories, transfers, upkeep
from hangarlake.cli.commands import Group, PipeClosedError
from hangarlake.cli.failures import INTERRUPTED, Failure, describe, status_of
from hangarlake.cli.invocation import Invocation

__all__ = ["app", "main"]

_PROGRAM = "hangarlake"
_PIPE_CLOSED = 141
# Options that stand before the command; people type them behind it.
_GLOBAL_OPTIONS = frozenset({"-r", "--repo", "--option", "--allow-unsafe-store", "--debug"})
# Each adds its commands; they appear in the help in this order.
_COMMAND_MODULES = (repositories, history, diffing, merging, refs, columns, arrays, exchange, transfers, upkeep)


app = typer.Typer(
    name=_PROGRAM,
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"{_PROGRAM} {version(_PROGRAM)}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    repo: Annotated[
        str | None,
        typer.Option(
            "--repo",
            "-r",
            metavar="URL",
            help="The repository. Else $HANGARLAKE_REPO, else the nearest .hangarlake.toml or repository, here or above.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A storage option, as fsspec takes it; repeatable. Else $HANGARLAKE_OPTIONS, as JSON.",
        ),
    ] = None,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--allow-unsafe-store", help="Write to a store without “create if absent”; for a single writer only."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
    version: Annotated[  # noqa: ARG001  # its callback does it
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Git for array data, on any bucket, with no server."""
    invocation: Invocation = ctx.obj
    invocation.debug = debug
    invocation.allow_unsafe_store = unsafe
    invocation.configure(repo, option or [])


for _module in _COMMAND_MODULES:
    _module.register(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.
    """
    invocation = Invocation()
    args = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        with warnings.catch_warnings(), _silent("hangarlake.staged"):
            # That one command goes on from what another has staged is no surprise, and needs no word of the log.
            # Warnings of libraries are for who writes programs; asking Python for them (-W, PYTHONWARNINGS) still shows them.
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            result = get_command(app).main(args=args, prog_name=_PROGRAM, standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except BaseException as error:
        if _is_closed_pipe(error):
            _discard_output()
            return _PIPE_CLOSED
        status = _report(error, invocation)
        try:
            sys.stdout.flush()
        except OSError:  # a full disk: what is left in the buffer does not fit either
            _discard_output()
        return status
    if result == INTERRUPTED:  # what typer makes of Ctrl-C
        return _report(KeyboardInterrupt(), invocation)
    return result if isinstance(result, int) else 0


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    log, nothing = logging.getLogger(logger), logging.Filter("nobody")
    log.addFilter(nothing)
    try:
        yield
    finally:
        log.removeFilter(nothing)


def _prepare_streams() -> None:
    """Make standard output and error take whatever is printed."""
    # A process may be started without them (`>&-`).
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        # Names and messages may hold characters that the terminal's encoding lacks; that must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_closed_pipe(error: BaseException | None) -> bool:
    """Tell whether the cause is that whoever read our output has gone."""
    while error is not None:
        if isinstance(error, PipeClosedError) or (isinstance(error, OSError) and error.errno == errno.EPIPE):
            return True
        # Where typer prints the help itself, it (or rich) turns a closed pipe into an exit with status 1.
        error = error.__context__ if isinstance(error, SystemExit) else None
    return False


def _report(error: BaseException, invocation: Invocation) -> int:
    """Say in one line what went wrong, and return the exit status."""
    status = status_of(error)
    if invocation.debug and not isinstance(error, SystemExit):
        sys.stderr.write(invocation.redact("".join(traceback.format_exception(error))))
    line = describe(error)
    if line:
        line += _hint(error, invocation)
        sys.stderr.write(f"{_PROGRAM}: {invocation.redact(line)}\n")
    return status


def _hint(error: BaseException, invocation: Invocation) -> str:
    """Return what to do next, where the error itself does not say."""
    option = getattr(error, "option_name", None)
    if option in _GLOBAL_OPTIONS:
        return f"; it goes before the command: {_PROGRAM} {option} … COMMAND"
    context = getattr(error, "ctx", None)
    if context is not None:
        return f" (see {context.command_path} --help)"
    if isinstance(error, Failure) or status_of(error) != 3 or invocation.debug:
        return ""
    from hangarlake.errors import HangarlakeError

    expected = isinstance(error, HangarlakeError | OSError | ImportError)
    return "" if expected else " (this looks like a fault of hangarlake itself; --debug shows where)"


def _discard_output() -> None:
    """Keep the interpreter from trying once more, when it ends, to write what could not be written."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError):
        pass
    finally:
        os.close(devnull)
