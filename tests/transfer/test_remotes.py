"""Remotes: kept for the working copy they belong to, without a credential in any file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hangarlake as hl
from hangarlake.transfer.config import harmless_options
from tests.transfer.places import contents, new_repository, put


@pytest.fixture
def repo(tmp_path: Path) -> hl.Repository:
    return new_repository(tmp_path / "repo", 5)


def config(tmp_path: Path) -> str:
    return (tmp_path / "config" / "config.json").read_text()


def test_remotes_are_a_mapping_that_the_next_session_finds(repo: hl.Repository, tmp_path: Path) -> None:
    repo.remotes.add("backup", tmp_path / "backup")
    repo.remotes.add("lab", "s3://lab/data")
    again = hl.Repository.open(tmp_path / "repo").remotes
    assert list(again) == ["backup", "lab"]
    assert again["lab"] == hl.Remote("lab", "s3://lab/data")
    assert again["backup"].url == str(tmp_path / "backup")
    repo.remotes.remove("lab")
    assert list(again) == ["backup"]
    with pytest.raises(hl.RevisionNotFoundError, match="backup"):
        repo.remotes.remove("lab")
    with pytest.raises(KeyError):
        again["lab"]


def test_each_working_copy_has_its_own(repo: hl.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = hl.Repository.clone(tmp_path / "repo", tmp_path / "clone")
    assert list(clone.remotes) == ["origin"]
    assert list(repo.remotes) == []
    # A folder is the same place however it is typed.
    monkeypatch.chdir(tmp_path)
    assert list(hl.Repository.open("clone").remotes) == ["origin"]
    assert hl.Repository.open("clone").branches == clone.branches


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-x"])
def test_names_that_no_remote_can_have(name: str, repo: hl.Repository, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        repo.remotes.add(name, tmp_path / "other")


def test_a_repository_is_no_remote_of_itself(repo: hl.Repository, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="itself"):
        repo.remotes.add("origin", tmp_path / "repo")


@pytest.mark.parametrize(
    "options",
    [
        {"key": "AKIA-hidden", "secret": "s3cr3t-hidden", "endpoint_url": "https://minio.lab", "anon": False},
        {"token": "hidden-token", "client_kwargs": {"region_name": "eu-1", "aws_session_token": "hidden"}},
        {"endpoint_url": "https://user:hidden@minio.lab?sig=hidden"},
    ],
)
def test_no_credential_gets_into_a_file_or_a_repr(options: dict[str, Any], repo: hl.Repository, tmp_path: Path) -> None:
    remote = repo.remotes.add("lab", "s3://lab/data", storage_options=options)
    repo.remotes.add("typed", "s3://user:hidden@lab/data")
    assert "hidden" not in config(tmp_path)
    assert "hidden" not in repr(remote) + repr(repo.remotes) + repr(repo) + json.dumps(remote.to_dict())


def test_addresses_and_switches_are_remembered() -> None:
    given = {
        "anon": True,
        "endpoint_url": "http://x",
        "key": "k",
        "client_kwargs": {"region_name": "r", "verify": False},
    }
    assert harmless_options(given) == {
        "anon": True,
        "endpoint_url": "http://x",
        "client_kwargs": {"region_name": "r"},
    }


def test_options_come_from_the_call_the_environment_or_a_profile(
    s3_url: str, s3_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = new_repository(s3_url, 5, storage_options=s3_options)
    clone = hl.Repository.clone(s3_url, tmp_path / "clone", source_options=s3_options)
    head = put(origin, 1, 1)

    def later() -> hl.Repository:
        return hl.Repository.open(tmp_path / "clone")

    with pytest.raises(OSError):
        later().fetch()
    assert later().fetch(storage_options=s3_options) == {"origin/main": head.id}
    monkeypatch.setenv("HANGARLAKE_OPTIONS_ORIGIN", json.dumps(s3_options))
    assert later().fetch() == {"origin/main": head.id}
    assert contents(later(), "origin/main") == contents(origin)
    monkeypatch.delenv("HANGARLAKE_OPTIONS_ORIGIN")
    path = tmp_path / "config" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "profiles": {"test": s3_options}}))
    clone.remotes.add("origin", s3_url, profile="test")
    assert later().fetch() == {"origin/main": head.id}
    with pytest.raises(hl.StorageError, match="no profile"):
        clone.remotes.add("other", s3_url, profile="none")


def test_a_damaged_configuration_is_named(repo: hl.Repository, tmp_path: Path) -> None:
    repo.remotes.add("backup", tmp_path / "backup")
    (tmp_path / "config" / "config.json").write_text("{")
    with pytest.raises(hl.StorageError, match=r"config\.json"):
        list(repo.remotes)


def test_a_remote_that_is_not_there_is_told(repo: hl.Repository, tmp_path: Path) -> None:
    with pytest.raises(hl.RevisionNotFoundError, match="origin"):
        repo.fetch()
    repo.remotes.add("origin", tmp_path / "nothing")
    with pytest.raises(hl.RepositoryNotFoundError):
        repo.fetch()


def test_another_url_under_the_same_name_forgets_the_branches_of_the_first(tmp_path: Path) -> None:
    new_repository(tmp_path / "a", 5)
    clone = hl.Repository.clone(tmp_path / "a", tmp_path / "clone")
    clone.remotes.add("origin", tmp_path / "b")
    assert set(clone.branches) == {"main"}
