"""init, info, stats, and how commands find their repository."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest

import hangarlake as hl
from tests.cli.conftest import Run, one_line
from tests.storage.test_fsspec import LookingFileSystem


def test_init_creates_a_repository_and_writes_which_one_is_meant(run: Run) -> None:
    assert run("init", "data/repo").status == 0
    assert tomllib.loads(Path(".hangarlake.toml").read_text())["url"] == "data/repo"
    assert hl.Repository.open("data/repo").default_branch == "main"


def test_init_without_a_url_uses_a_folder_here(run: Run) -> None:
    assert run("init").status == 0
    assert run("info", "--json").json["default_branch"] == "main"
    assert Path(".hangarlake/hangarlake.json").is_file()


def test_init_takes_the_name_of_the_first_branch(run: Run) -> None:
    assert run("init", "repo", "--default-branch", "trunk").status == 0
    assert list(run("branch", "--json").json) == ["trunk"]


def test_init_on_a_repository_fails(run: Run, repo: Path) -> None:
    assert "repo" in one_line(run("init", "repo"), 3)


@pytest.mark.parametrize("how", ["option", "variable", "--no-config"])
def test_init_writes_no_file_where_the_repository_is_named_otherwise(
    run: Run, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "option":
        args = ["-r", "repo", "init"]
    elif how == "variable":
        monkeypatch.setenv("HANGARLAKE_REPO", "repo")
        args = ["init"]
    else:
        args = ["init", "repo", "--no-config"]
    assert run(*args).status == 0
    assert Path("repo/hangarlake.json").is_file()
    assert not Path(".hangarlake.toml").exists()


def test_init_leaves_a_file_that_is_there(run: Run, repo: Path) -> None:
    before = Path(".hangarlake.toml").read_text()
    done = run("init", "other")
    assert done.status == 0
    assert "-r other" in done.out
    assert Path(".hangarlake.toml").read_text() == before


def test_the_file_is_found_from_folders_below_and_its_path_is_meant_from_where_it_lies(
    run: Run, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = Path("a/b")
    below.mkdir(parents=True)
    expected = run("info", "--json").json["id"]
    monkeypatch.chdir(below)
    assert run("info", "--json").json["id"] == expected


def test_the_option_counts_before_the_variable_and_that_before_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {}
    for name in ("file", "variable", "option"):
        ids[name] = run("-r", name, "init", "--json").json["id"]
    Path(".hangarlake.toml").write_text('url = "file"\n')
    assert run("info", "--json").json["id"] == ids["file"]
    monkeypatch.setenv("HANGARLAKE_REPO", "variable")
    assert run("info", "--json").json["id"] == ids["variable"]
    assert run("-r", "option", "info", "--json").json["id"] == ids["option"]


def test_init_says_that_the_variable_goes_before_the_file_that_it_writes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANGARLAKE_REPO", "other")
    said = run("init", "new").out
    assert "once HANGARLAKE_REPO, which is set to other and goes first, is unset" in said
    monkeypatch.delenv("HANGARLAKE_REPO")
    assert run("info", "--json").json["url"].endswith("new")


def test_without_any_repository_the_error_says_how_to_name_one(run: Run) -> None:
    line = one_line(run("log"), 2)
    assert all(way in line for way in ("-r URL", "HANGARLAKE_REPO", ".hangarlake.toml"))


@pytest.mark.parametrize("text", ["url = ", "url = 5", "other = 'x'", "url = ''"])
def test_a_file_that_names_no_repository_is_reported(run: Run, text: str) -> None:
    Path(".hangarlake.toml").write_text(text)
    assert ".hangarlake.toml" in one_line(run("log"), 2)


def test_a_place_without_a_repository_is_reported(run: Run) -> None:
    assert "nowhere" in one_line(run("-r", "nowhere", "log"), 3)


def test_info_tells_branches_tags_and_columns(run: Run, committed: str) -> None:
    run("tag", "v1")
    info = run("info", "--json").json
    assert info["branches"] == {"main": committed}
    assert info["tags"] == {"v1": committed}
    assert info["columns"] == [{"name": "images", "kind": "ndarray", "samples": 3}]
    text = run("info").out
    assert all(word in text for word in ("main (default)", "v1", "images (3 samples)"))


def test_stats_counts(run: Run, committed: str) -> None:
    stats = run("stats", "--json").json
    assert stats["samples"] == 3
    assert stats["commits"] == 2
    assert "samples" in run("stats").out


def test_storage_options_reach_the_store_and_are_never_shown(run: Run) -> None:
    secret = "verysecretvalue"
    done = run("--option", f"secret={secret}", "--option", "auto_mkdir", "-r", "x", "info")
    assert secret not in done.out + done.err
    assert "KEY=VALUE" in one_line(done, 2)


def test_credentials_in_a_url_are_not_written_to_the_file_nor_shown(run: Run) -> None:
    done = run("-r", "ftp://ada:hunter2@127.0.0.1:1/x", "info")
    assert done.status == 3
    assert "hunter2" not in done.out + done.err


def test_options_from_the_environment_have_to_be_an_object(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGARLAKE_OPTIONS", "secret")
    line = one_line(run("-r", "x", "info"), 2)
    assert "HANGARLAKE_OPTIONS" in line
    assert "secret" not in line


class KeptFileSystem(LookingFileSystem):
    """Keeps its files from one command to the next."""

    kept: ClassVar[dict[str, bytes]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.files = self.kept


def test_a_store_without_create_if_absent_is_written_to_only_if_asked_for(run: Run) -> None:
    fsspec.register_implementation("looking", f"{__name__}.{KeptFileSystem.__name__}", clobber=True)
    at = ("-r", "looking://repo")
    assert "--allow-unsafe-store" in one_line(run(*at, "init"), 3)
    assert run(*at, "init", "--allow-unsafe-store").status == 0
    commit = ("commit", "--allow-empty", "-m", "Nothing")
    assert "--allow-unsafe-store" in one_line(run(*at, *commit), 3)
    assert run(*at, "--allow-unsafe-store", *commit).status == 0
    assert len(run(*at, "log", "--json").json) == 2
    assert "before the command" in one_line(run(*at, *commit, "--allow-unsafe-store"), 2)


def test_a_repository_is_found_from_its_own_folder_and_below(
    run: Run, committed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run("clone", "repo", "copy")
    assert "Use it with -r copy, or cd copy." in said.out
    monkeypatch.chdir("copy")
    assert Path(run("info", "--json").json["url"]).name == "copy"
    monkeypatch.chdir("commits")
    assert Path(run("info", "--json").json["url"]).name == "copy"
    monkeypatch.chdir("../..")
    assert Path(run("info", "--json").json["url"]).name == "repo"
