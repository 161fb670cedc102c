"""clone, remote, fetch, pull, push and fetch-data, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hangarlake as hl
from tests.cli.conftest import Run, one_line


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGARLAKE_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def clone(run: Run, committed: str) -> str:
    assert run("clone", "repo", "copy").status == 0
    return "copy"


def test_a_clone_is_made_where_it_is_told_or_named_like_its_source(run: Run, committed: str) -> None:
    said = run("clone", "repo", "copy")
    assert said.status == 0
    assert "Cloned to copy" in said.out
    made = run("-r", "copy", "info", "--json").json
    assert made["branches"] == {"main": committed, "origin/main": committed}
    Path("elsewhere").mkdir()
    assert run("clone", str(Path("repo").absolute()), "elsewhere/again", "--json").json["id"] == made["id"]


def test_what_a_clone_would_bring_is_said_and_not_done(run: Run, committed: str) -> None:
    planned = run("clone", "repo", "copy", "--dry-run", "--json").json
    assert not Path("copy").exists()
    assert planned["objects"] > 0
    done = run("clone", "repo", "copy", "--json").json
    assert (planned["objects"], planned["bytes"]) == (done["objects"], done["bytes"])
    whole = run("clone", "repo", "full", "--data", "--dry-run", "--json").json
    assert whole["bytes"] > planned["bytes"]


def test_remotes_are_added_listed_and_removed(run: Run, repo: Path) -> None:
    assert run("remote", "add", "lab", "s3://lab/data", "--remote-option", "secret=hush").status == 0
    assert run("remote", "list", "--json").json == [
        {"name": "lab", "url": "s3://lab/data", "profile": None, "data": False}
    ]
    assert "lab" in run("remote", "list").out
    assert "Would remove" in run("remote", "remove", "lab", "--dry-run").out
    assert run("remote", "remove", "lab", "--yes").status == 0
    assert run("remote", "list", "--json").json == []
    assert "lab" in one_line(run("remote", "remove", "lab", "--yes"), 3)
    assert "a/b" in one_line(run("remote", "add", "a/b", "x"), 2)


def test_changes_go_there_and_back(run: Run, clone: str) -> None:
    with hl.Repository.open(clone).checkout("main", write=True) as w:
        w["images", "00"] = w["images", "01"]
        commit = w.commit("In the clone")
    planned = run("-r", clone, "push", "--dry-run")
    assert "Would push" in planned.out
    pushed = run("-r", clone, "push", "--json").json
    assert (pushed["branch"], pushed["new"]) == ("main", commit.id)
    assert run("log", "--json").json[0]["id"] == commit.id
    assert "already" in run("-r", clone, "push").out
    with hl.Repository.open("repo").checkout("main", write=True) as w:
        w["images", "02"] = w["images", "01"]
        theirs = w.commit("At the origin")
    fetched = run("-r", clone, "fetch")
    assert "origin/main" in fetched.out
    assert theirs.id[:12] in fetched.out
    assert run("-r", clone, "pull", "--dry-run").status == 0
    assert run("-r", clone, "pull", "--json").json["commit"] == theirs.id


def test_a_rejected_push_says_what_to_do(run: Run, clone: str) -> None:
    for place, key in (("repo", "00"), (clone, "01")):
        with hl.Repository.open(place).checkout("main", write=True) as w:
            del w["images", key]
            w.commit(place)
    assert "pull" in one_line(run("-r", clone, "push"), 1)
    assert "--yes" in one_line(run("-r", clone, "push", "--force"), 2)
    assert run("-r", clone, "push", "--force", "--yes").status == 0


def test_one_sample_is_fetched(run: Run, clone: str) -> None:
    assert run("-r", clone, "fetch-data", "--column", "images", "--key", "00", "--dry-run").status == 0
    assert run("-r", clone, "fetch-data", "--max-bytes", "0", "--json").json["values"] == 0
    assert run("-r", clone, "fetch-data", "-c", "images", "-k", "00", "--json").json["values"] == 1
    assert "Fetched 0 values" in run("-r", clone, "fetch-data", "-c", "images", "-k", "00").out
    assert hl.Repository.open(clone).checkout()["images"].is_local("00")
    assert "nope" in one_line(run("-r", clone, "fetch-data", "-k", "nope"), 3)


def test_push_says_that_it_created_a_repository(run: Run, committed: str) -> None:
    run("remote", "add", "lab", "elsewhere")
    assert "Would create a repository at" in run("push", "lab", "--dry-run").out
    assert "Created a repository at" in run("push", "lab").out
    run("remote", "add", "attic", "another")
    assert run("push", "attic", "--json").json["created"] is True
    again = run("push", "attic", "--json").json
    assert again["created"] is False
    assert "Created" not in run("push", "lab").out


def put(url: str, value: int) -> None:
    with hl.Repository.open(url).checkout("main", write=True, staging="memory") as w:
        if "labels" not in w.columns:
            w.add_ndarray_column("labels", shape=(), dtype="int64")
        w["labels", "a"] = np.int64(value)
        w.commit(f"Say {value}")


@pytest.fixture
def parted(run: Run, repo: Path) -> None:
    """Clones, `copy` with data and `thin` without, of which both sides changed one label."""
    put("repo", 1)
    assert run("clone", "repo", "copy", "--data").status == 0
    assert run("clone", "repo", "thin").status == 0
    for url, value in (("repo", 2), ("copy", 3), ("thin", 3)):
        put(url, value)


def test_pull_with_conflicts_lists_them_and_says_what_to_run(run: Run, parted: None) -> None:
    done = run("-r", "copy", "pull")
    assert done.status == 1
    assert [line.split() for line in done.out.splitlines()][1] == ["changed-both", "labels", "'a'", "1", "3", "2"]
    assert "`hangarlake merge origin/main --ours` (or `--theirs`)" in done.err
    found = run("-r", "copy", "pull", "--json")
    assert found.status == 1
    assert json.loads(found.out)["conflicts"][0]["key"] == "a"


@pytest.mark.parametrize(("side", "value"), [("--ours", 3), ("--theirs", 2)])
def test_pull_may_take_one_side(run: Run, parted: None, side: str, value: int) -> None:
    assert run("-r", "copy", "pull", side).status == 0
    assert int(hl.Repository.open("copy").checkout()["labels", "a"]) == value
    one_line(run("-r", "copy", "pull", "--ours", "--theirs"), 2)


def test_values_that_are_not_here_are_shown_by_digest(run: Run, parted: None) -> None:
    *_, base, ours, theirs = run("-r", "thin", "pull").out.split()
    assert ours == "3"
    with hl.Repository.open("repo") as repo:
        assert repo.checkout("main~1")["labels"].digest("a").startswith(base)
        assert repo.checkout()["labels"].digest("a").startswith(theirs)


def test_fetch_data_takes_a_number_for_the_integer_where_there_is_only_that(run: Run, repo: Path) -> None:
    with hl.Repository.open("repo").checkout("main", write=True, staging="memory") as w:
        w.add_ndarray_column("numbers", shape=(), dtype="int64").extend(range(20), np.arange(20))
        w.add_str_column("texts").extend(map(str, range(10)), map(str, range(10)))
        w.commit("Begin")
    run("clone", "repo", "copy")
    assert run("-r", "copy", "fetch-data", "--key", "17", "--json").json["values"] > 0
    assert run("-r", "copy", "fetch-data", "--key", "5").status == 0
    assert "'99'" in one_line(run("-r", "copy", "fetch-data", "--key", "99"), 3)
