"""hangarlake log of a range, and messages and log lines that a shell is spared."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run, one_line


def test_log_takes_a_range(run: Run, committed: str) -> None:
    run("column", "add", "notes", "--kind", "str")
    run("commit", "-m", "Add notes")
    assert run("log", "--oneline", "main~1..main").out.split(maxsplit=1)[1] == "Add notes\n"
    assert run("log", "--graph", "main~1..").out.count("*") == 1
    assert run("log", "main..main~1").out == ""
    said = [each["message"] for each in run("log", "main~2..main~1", "--node", "images", "--key", "01", "--json").json]
    assert len(said) == 1
    assert "two dots" in one_line(run("log", "main~1...main"), 3)


@pytest.mark.parametrize("message", ["", "  ", "\n\t"])
def test_a_blank_message_is_refused(run: Run, committed: str, message: str) -> None:
    run("column", "add", "notes", "--kind", "str")
    assert "blank" in one_line(run("commit", "-m", message), 2)
    assert run("status", "--json").json["staged"]["columns"].keys() == {"notes"}


def test_going_on_from_what_an_earlier_command_staged_is_not_worth_a_word(process: Run, committed: str) -> None:
    assert process("column", "add", "notes", "--kind", "str").err == ""
    done = process("column", "add", "more", "--kind", "str")
    assert (done.status, done.err) == (0, "")
