"""Run the code of one page in this process: ``python -m tests.docs.runner [--show] PAGE``, in an empty folder.

``--show`` prints what everything printed, for whoever writes a page.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.docs.pages import EXECUTED, Block, blocks_of, matches

_STATUS = "echo $?"
_SHELL = re.compile(r"[|<>;&$`*]")


class PageError(Exception):
    """The page says something that is not so."""


class Runner:
    """Executes the blocks of a page one after the other."""

    def __init__(self, page: Path, *, show: bool = False) -> None:
        self._page = page
        self._show = show
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._status = 0

    def run(self) -> None:
        """Execute everything."""
        blocks = blocks_of(self._page.read_text("utf-8"))
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if block.language not in EXECUTED or block.skipped is not None:
                continue
            if block.language == "console":
                self._console(block)
                continue
            output = following if following and following.language == "text" and following.follows else None
            self._python(block, output)

    def _python(self, block: Block, output: Block | None) -> None:
        code = compile("\n" * (block.line - 1) + block.text, str(self._page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self._names)
        self._check(block.line, output.text if output else None, printed.getvalue())

    def _console(self, block: Block) -> None:
        commands: list[tuple[int, str, list[str]]] = []
        for number, line in enumerate(block.text.splitlines(), block.line):
            if line.startswith("$ "):
                commands.append((number, line[2:], []))
            elif commands and commands[-1][1].endswith("\\"):
                commands[-1] = (commands[-1][0], commands[-1][1][:-1] + line.strip(), [])
            elif commands:
                commands[-1][2].append(line)
        for (number, command, expected), after in zip(commands, [*commands[1:], None], strict=True):
            printed = self._execute(command)
            if self._status != 0 and (after is None or after[1] != _STATUS):
                raise PageError(f"{self._page}:{number}: status {self._status}: {command}\n{printed}")
            self._check(number, "\n".join(expected) if "".join(expected).strip() else None, printed)

    def _execute(self, command: str) -> str:
        if command == _STATUS:
            status, self._status = self._status, 0
            return f"{status}\n"
        if command.startswith("export "):
            for assignment in shlex.split(command)[1:]:
                name, _, value = assignment.partition("=")
                os.environ[name] = os.path.expandvars(value)
            return ""
        command = command.partition("  #")[0].rstrip()
        if command.startswith("hangarlake ") and not _SHELL.search(command):
            from hangarlake.cli import main

            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                self._status = main(shlex.split(command)[1:])
            return printed.getvalue()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
        )
        self._status = done.returncode
        return done.stdout + done.stderr

    def _check(self, line: int, expected: str | None, printed: str) -> None:
        if self._show:
            sys.stdout.write(f"--- {self._page.name}:{line}\n{printed}")
        elif expected is not None and not matches(expected, printed):
            raise PageError(f"{self._page}:{line}: the page shows\n{expected}\nbut this was printed\n{printed}")


if __name__ == "__main__":
    *flags, name = sys.argv[1:]
    try:
        Runner(Path(name).resolve(), show="--show" in flags).run()
    except PageError as error:
        sys.exit(str(error))
