"""What holds for every command: help, exit statuses, one line for an error, pipes, Ctrl-C."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import hangarlake
from hangarlake.cli.app import app, main
from hangarlake.cli.invocation import Invocation
from tests.cli.conftest import Run, one_line


def commands() -> dict[str, Any]:
    """Return every command by what is typed, those of groups included."""
    found: dict[str, Any] = {}
    group: Any = get_command(app)
    for name, command in group.commands.items():
        found[name] = command
        for sub, inner in getattr(command, "commands", {}).items():
            found[f"{name} {sub}"] = inner
    return found


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_each_of_its_options_has_help(run: Run, name: str) -> None:
    command = commands()[name]
    assert (getattr(command, "help", None) or "").strip()
    for parameter in command.params:
        assert (getattr(parameter, "help", None) or "").strip(), parameter.name
    done = run(*name.split(), "--help")
    assert done.status == 0
    assert "Usage: hangarlake" in done.out


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_documented(name: str) -> None:
    root = Path(__file__).parents[2]
    pages = [path for path in (root / "README.md", root / "docs" / "cli.md") if path.is_file()]
    assert any(f"hangarlake {name}" in page.read_text("utf-8") for page in pages)


@pytest.mark.parametrize(
    "name", ["info", "status", "log", "show", "branch", "tag", "column ls", "column info", "stats", "reflog"]
)
def test_every_reading_command_prints_json(name: str) -> None:
    options = {option for parameter in commands()[name].params for option in parameter.opts}
    assert "--json" in options


@pytest.mark.parametrize("name", ["branch", "tag", "reset", "column remove"])
def test_every_destructive_command_can_be_tried_and_told_not_to_ask(name: str) -> None:
    options = {option for parameter in commands()[name].params for option in parameter.opts}
    assert {"--dry-run", "--yes"} <= options


@pytest.mark.parametrize("args", [["--help"], ["import", "--help"], ["--version"]], ids=" ".join)
def test_help_needs_none_of_the_heavy_libraries(args: list[str]) -> None:
    script = (
        "import sys\nfrom hangarlake.cli import main\nstatus = main(sys.argv[1:])\n"
        # (Not pydantic: some releases of typer use it for the arguments of a command.)
        "heavy = {'numpy', 'zarr', 'numcodecs', 'obstore', 'fsspec', 'sqlite_utils'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"


def test_the_version_is_that_of_the_package(run: Run) -> None:
    from importlib.metadata import version

    assert run("--version").out == f"hangarlake {version('hangarlake')}\n"


@pytest.mark.parametrize(
    "args",
    [
        ["bogus"],
        ["log", "--bogus"],
        ["commit"],
        ["log", "-n", "many"],
        ["branch", "a", "-d", "b"],
        ["log", "--key", "x"],
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(run: Run, args: list[str]) -> None:
    one_line(run("-r", "x", *args), 2)


@pytest.mark.parametrize(
    "args",
    [
        ["branch", "bad name"],
        ["branch", "bad name", "--dry-run"],
        ["tag", "bad..name"],
        ["init", "other", "--default-branch", "bad name"],
        ["commit", "--allow-empty", "-m", "x", "--author", "nobody <"],
        ["remote", "add", "bad name", "elsewhere"],
    ],
    ids=" ".join,
)
def test_names_that_the_library_refuses_are_wrong_usage_and_no_fault(run: Run, repo: Path, args: list[str]) -> None:
    line = one_line(run(*args), 2)
    assert "ValueError" not in line
    assert "fault of hangarlake" not in line


@pytest.mark.parametrize(
    ("args", "remedy"),
    [
        (["commit", "-m", "x"], "--allow-empty"),
        (["init", "repo"], "commands in this folder use it"),
        (["init", "other"], "use it with -r other"),
        (["log", "nosuch"], "`hangarlake branch` and `hangarlake tag`"),
        (["tag", "v1"], "`hangarlake tag --delete`"),
        (["column", "add", "images", "--kind", "str"], "`hangarlake column remove images`"),
        (["branch", "-d", "main", "--yes"], "--force"),
        (["push"], "`hangarlake remote add origin URL`"),
        (["-r", "nosuch", "log"], "`hangarlake init`"),
        (["branch", "main"], "`hangarlake reset`"),
        (["status", "--branch", "main~1"], "`hangarlake branch NAME main~1`"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_a_message_names_the_remedy_as_a_command(run: Run, committed: str, args: list[str], remedy: str) -> None:
    run("tag", "v1")
    run("init", "other")
    done = run(*args)
    assert done.status in (1, 3)
    assert "there are: none" not in done.err
    assert remedy in done.err
    assert "=True" not in done.err
    assert "repo." not in done.err


def test_flags_show_no_kind_of_value_in_the_help(run: Run) -> None:
    for args in (["--help"], ["merge", "--help"], ["column", "--help"]):
        assert "bool" not in run(*args).out.lower()


def test_a_global_option_behind_the_command_is_explained(run: Run) -> None:
    assert "before the command" in one_line(run("log", "-r", "x"), 2)


def test_without_arguments_there_is_help(run: Run) -> None:
    done = run()
    assert done.status == 2
    assert "Usage: hangarlake" in done.out + done.err


@pytest.mark.parametrize(
    "args",
    [
        ["log", "nosuch"],
        ["show", "feedfacefeed"],
        ["stats", "nosuch"],
        ["reflog", "nosuch"],
        ["branch", "new", "nosuch"],
        ["branch", "-d", "nosuch", "--yes"],
        ["tag", "-d", "nosuch", "--yes"],
        ["reset", "nosuch", "--yes"],
        ["column", "info", "nosuch"],
        ["column", "remove", "nosuch", "--yes"],
        ["column", "rename", "nosuch", "new"],
        ["show", "--column", "images", "--key", "nosuch"],
        ["show", "--column", "nosuch", "--key", "00"],
        ["export", "out", "--column", "nosuch"],
        ["export", "out", "--column", "images", "--key", "nosuch"],
        ["commit", "-m", "x", "--branch", "nosuch"],
        ["status", "--branch", "nosuch"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_ends_with_3_and_a_line_that_names_it(run: Run, committed: str, args: list[str]) -> None:
    line = one_line(run(*args), 3)
    assert any(word in line for word in ("nosuch", "feedface"))
    assert "fault of hangarlake" not in line


def test_debug_shows_a_traceback_and_the_line(run: Run, repo: Path) -> None:
    done = run("--debug", "log", "nosuch")
    assert done.status == 3
    assert "Traceback (most recent call last)" in done.err
    assert done.err.splitlines()[-1].startswith("hangarlake: ")


def test_an_unexpected_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Invocation, **_: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(Invocation, "open", fail)
    line = one_line(run("log"), 3)
    assert line.startswith("ZeroDivisionError: by zero")
    assert "--debug" in line


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_with_130_and_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Invocation, "open", _interrupt)
    assert one_line(run("log"), 130) == "Interrupted."


def test_ctrl_c_while_the_program_is_being_imported_is_one_line_too() -> None:
    script = (
        "import sys\nfrom hangarlake.cli import main\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\nsys.exit(main(['log']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "hangarlake: Interrupted.\n")


def test_ctrl_c_tells_what_became_of_the_work(
    run: Run, repo: Path, images: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(np, "load", _interrupt)
        done = run("import", "images", "--column", "images", "--create")
    assert one_line(done, 130) == "Interrupted; nothing was staged."
    assert run("status").out.endswith("Nothing is staged.\n")
    run("import", "images", "--column", "images", "--create")
    with monkeypatch.context() as patch:
        patch.setattr(hangarlake.WriteCheckout, "commit", _interrupt)
        done = run("commit", "-m", "x")
    assert one_line(done, 130).startswith("Interrupted; `hangarlake status` tells")


@pytest.mark.parametrize("name", ["switch", "checkout", "add", "stash", "rebase", "rm", "mv", "restore"])
def test_commands_of_git_are_answered_with_what_there_is(run: Run, name: str) -> None:
    line = one_line(run(name, "x"), 2)
    assert line.endswith("; see docs/from/git.md")
    assert "checkout" not in line
    assert "No such command" not in line
    assert "No such command" in one_line(run("column", name, "x"), 2) or name == "add"


def test_log_has_no_patch_and_says_so(run: Run, committed: str) -> None:
    assert "`hangarlake show REV`" in one_line(run("log", "-p"), 2)


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_help_swallows_nothing_in_angle_brackets(run: Run, name: str) -> None:
    bracketed = {
        found for p in commands()[name].params for found in re.findall(r"<[\w ]+>", getattr(p, "help", None) or "")
    }
    shown = "".join(run(*name.split(), "--help").out.replace("│", " ").split())
    assert not [each for each in bracketed if each.replace(" ", "") not in shown]
    assert "<mail>" in shown or not any(p.name == "author" for p in commands()[name].params)


@pytest.mark.parametrize("args", [["log"], ["--version"], ["log", "--help"]], ids=" ".join)
def test_a_closed_pipe_is_quiet(committed: str, args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "hangarlake.cli", *args], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == b""


def test_without_standard_output_a_command_still_runs(run: Run, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python makes of `>&-`.
    with monkeypatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, None)
        assert main(["branch", "new"]) == 0
        assert main(["log", "--json"]) == 0
        assert main(["log", "nosuch"]) == 3
    assert "new" in hangarlake.Repository.open(repo).branches


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_below_standard_output_is_one_line(committed: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hangarlake.cli", "log"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert done.stderr == "hangarlake: No space left on device\n"


@pytest.mark.parametrize("variable", ["NO_COLOR", None])
def test_there_are_no_escape_sequences_in_a_pipe(process: Run, committed: str, variable: str | None) -> None:
    done = process("log", **({variable: "1"} if variable else {}))
    assert done.status == 0
    assert "\x1b" not in done.out


def test_control_characters_of_others_do_not_reach_the_terminal(run: Run, repo: Path) -> None:
    run("commit", "--allow-empty", "-m", "clear \x1b[2Jscreen", "--author", "E\x1bve <e@example.org>")
    for command in (["log"], ["log", "--oneline"], ["show"], ["reflog"], ["status"]):
        done = run(*command)
        assert done.status == 0
        assert "\x1b" not in done.out


@pytest.mark.parametrize(
    "args", [["reset"], ["reset", "main"], ["column", "remove", "images"], ["tag", "-d", "v1"]], ids=" ".join
)
def test_without_a_terminal_destructive_commands_need_yes(
    run: Run, committed: str, args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("tag", "v1")
    run("column", "add", "new", "--kind", "str")
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: PTH123, SIM115  # closed with the process
    assert "--yes" in one_line(run(*args), 2)
