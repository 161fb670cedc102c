"""Options on the command line, and what is taken out of messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from hangarlake.cli.failures import UsageFailure, one_line
from hangarlake.cli.invocation import Invocation, is_local, parse_options
from hangarlake.cli.keys import parse_key


def test_options_nest_at_dots_and_read_json_except_for_secrets() -> None:
    assert parse_options(
        ["anon=true", "client_kwargs.endpoint_url=http://localhost:9000", "retries=3", "secret=12345678", "key=true"]
    ) == {
        "anon": True,
        "client_kwargs": {"endpoint_url": "http://localhost:9000"},
        "retries": 3,
        "secret": "12345678",
        "key": "true",
    }


@pytest.mark.parametrize("pairs", [["secretvalue"], ["=x"], ["a..b=x"], ["a=1", "a.b=2"]])
def test_options_that_make_no_sense_are_refused_without_repeating_values(pairs: list[str]) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse_options(pairs)
    assert "secretvalue" not in str(caught.value)


def test_secrets_and_user_information_are_taken_out() -> None:
    invocation = Invocation()
    invocation.configure(
        None, ["secret=hunter22", "client_kwargs.aws_session_token=tok-tok", "endpoint_url=http://localhost"]
    )
    text = "hunter22 tok-tok http://localhost s3://me:pw@host/x"
    assert invocation.redact(text) == "*** *** http://localhost s3://host/x"


@pytest.mark.parametrize("url", ["s3://b/p", "memory://x", "file:///tmp/x", "simplecache::s3://b/p", "zip::file.zip"])
def test_urls_are_told_from_paths(url: str) -> None:
    assert not is_local(url)
    assert is_local("data/repo")
    assert is_local("./x")
    assert is_local("C:\\data")


@pytest.mark.parametrize(
    ("text", "key"), [("5", "5"), ("int:5", 5), ("int:-5", -5), ("str:5", "5"), ("str:int:5", "int:5"), ("a:b", "a:b")]
)
def test_keys_are_text_unless_said_otherwise(text: str, key: str | int) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["int:", "int:x", "int:05", "int:1.0"])
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(UsageFailure):
        parse_key(text)


def test_messages_become_one_line_without_control_characters() -> None:
    assert one_line("a\n  b\x1b[31mred") == "a b\\x1b[31mred"


def test_a_config_may_name_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(".hangarlake.toml").write_text('url = "~/data"\n', encoding="utf-8")
    assert Invocation().url() == str(tmp_path / "data")
