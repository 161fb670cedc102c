"""status, commit, log, show, reflog, branch, tag, reset."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import hangarlake as hl
from tests.cli.conftest import Run, one_line


def test_what_is_staged_persists_until_a_commit_in_another_process(process: Run, repo: Path, images: object) -> None:
    assert process("import", "images", "--column", "images", "--create").status == 0
    assert process("status", "--json").json["staged"] != {}
    assert process("column", "ls", "--json").json == []
    commit = process("commit", "-m", "Add images", "--json").json
    assert commit["message"] == "Add images"
    with hl.Repository.open(repo).checkout() as view:
        assert view.commit.id == commit["id"]
        assert list(view["images"]) == ["00", "01", "02"]


def test_nothing_to_commit_ends_with_1(run: Run, committed: str) -> None:
    one_line(run("commit", "-m", "again"), 1)
    assert run("commit", "-m", "again", "--allow-empty").status == 0


def test_status_says_what_is_staged_and_where(run: Run, committed: str) -> None:
    clean = run("status")
    assert (clean.status, "Nothing is staged" in clean.out) == (0, True)
    np.save("03.npy", np.zeros((4, 4), np.uint8))
    run("import", "03.npy", "--column", "images")
    staged = run("status")
    assert staged.status == 0
    assert "images" in staged.out
    assert run("status", "--json").json["commit"] == committed


def test_what_only_looks_works_while_another_process_writes_and_says_so(
    process: Run, run: Run, committed: str, repo: Path
) -> None:
    with hl.Repository.open(repo).checkout(write=True) as writer:
        writer["images"]["03"] = np.zeros((4, 4), np.uint8)
        writer.flush()
        writer["images"]["04"] = np.zeros((4, 4), np.uint8)
        note = f"{os.getpid()} is writing"
        status = process("status")
        assert (status.status, note in status.out) == (0, True), status.err
        assert "1 sample added" in status.out
        described = process("status", "--json").json
        assert described["writer"] == os.getpid()
        assert described["staged"]["columns"]["images"]["added"] == 1
        for command in (["diff"], ["diff", "main~1", "--staged"], ["column", "ls", "--staged"]):
            shown = process(*command)
            assert (shown.status, note in shown.err, "images" in shown.out) == (0, True, True), shown
        assert process("column", "ls", "--staged", "--json").json[0]["samples"] == 4
        assert process("commit", "-m", "x").status == 3
    assert run("status", "--json").json["writer"] is None
    assert "writing" not in run("status").out


def test_commit_takes_an_author(run: Run, repo: Path) -> None:
    assert run("commit", "-m", "x", "--allow-empty", "--author", "Bob <bob@example.org>").status == 0
    author = hl.Repository.open(repo).resolve().author
    assert (author.name, author.email) == ("Bob", "bob@example.org")


def test_log_lists_commits_newest_first(run: Run, committed: str) -> None:
    commits = run("log", "--json").json
    assert commits[0]["id"] == committed
    assert len(commits) == 2
    assert run("log", "--json", "-n", "1").json == commits[:1]
    text = run("log").out
    assert text.startswith(f"commit {committed}\n")
    assert "Ada Lovelace <ada@example.org>" in text
    assert run("log", "--oneline").out.splitlines()[0] == f"{committed[:12]} Add images"


def test_log_of_a_column_and_of_a_sample(run: Run, committed: str) -> None:
    np.save("01.npy", np.full((4, 4), 9, np.uint8))
    run("import", "01.npy", "--column", "images")
    changed = run("commit", "-m", "Change one", "--json").json["id"]
    run("commit", "--allow-empty", "-m", "Nothing")
    assert [c["id"] for c in run("log", "--column", "images", "--json").json] == [changed, committed]
    assert [c["id"] for c in run("log", "--column", "images", "--key", "00", "--json").json] == [committed]
    assert [c["id"] for c in run("log", "--column", "images", "--key", "01", "--json").json] == [changed, committed]
    one_line(run("log", "--key", "01"), 2)


def test_show_tells_a_commit_and_what_it_changed(run: Run, committed: str) -> None:
    text = run("show").out
    assert f"commit {committed}" in text
    assert "    Add images" in text
    assert "3 samples" in text.partition("Add images")[2]
    assert run("show", committed[:8], "--json").json["id"] == committed


def test_show_takes_its_revision_as_an_option_as_well(run: Run, committed: str) -> None:
    assert run("show", "--rev", "main").out == run("show", "main").out != ""
    assert run("show", committed, "--rev", committed).status == 0
    assert "two revisions" in one_line(run("show", committed, "--rev", "main"), 2)
    assert run("show", "--rev", "nowhere").status == 3


def test_a_sample_that_is_not_there_is_answered_with_what_keys_look_like(run: Run, committed: str) -> None:
    Path("labels.csv").write_text("file,label\n0000,3\n0001,4\n0002,5\n")
    run("import", "labels.csv", "--key-column", "file", "--value-column", "label", "--column", "labels", "--create")
    run("commit", "-m", "Label")
    line = one_line(run("show", "--column", "labels", "--key", "5"), 3)
    assert line == "column 'labels' has no sample '5'; its keys look like '0000', '0001', …"


def test_show_prints_a_sample(run: Run, committed: str) -> None:
    shown = run("show", "--column", "images", "--key", "02", "--json").json
    assert shown["value"] == [[2] * 4] * 4
    assert (shown["dtype"], shown["shape"], shown["key"]) == ("uint8", [4, 4], "02")
    assert "uint8 (4, 4)" in run("show", "--column", "images", "--key", "02").out


def test_reflog_tells_every_movement(run: Run, committed: str) -> None:
    entries = run("reflog", "--json").json
    assert [entry["operation"] for entry in entries] == ["commit", "create"]
    assert entries[0]["commit"] == committed
    assert run("reflog", "-n", "1", "--json").json == entries[:1]
    assert committed[:12] in run("reflog").out


def test_branches_are_created_listed_and_deleted(run: Run, committed: str) -> None:
    first = run("log", "--json").json[-1]["id"]
    assert run("branch", "old", "main~1", "--json").json == {
        "branch": "old",
        "commit": first,
        "operation": "create",
        "dry_run": False,
    }
    assert run("branch", "new").status == 0
    assert run("branch", "--json").json == {"main": committed, "new": committed, "old": first}
    assert "* " in run("branch").out
    assert run("branch", "-d", "old", "--dry-run").status == 0
    assert "old" in run("branch", "--json").json
    assert run("branch", "-d", "old", "--yes").status == 0
    assert "old" not in run("branch", "--json").json
    one_line(run("branch", "new"), 3)


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_what_is_created_and_deleted_is_told_as_json_dry_runs_included(run: Run, committed: str, kind: str) -> None:
    for args, operation in ((["x"], "create"), (["--delete", "x", "--yes"], "delete")):
        before = run(kind, "--json").json
        expected = {kind: "x", "commit": committed, "operation": operation}
        assert run(kind, *args, "--dry-run", "--json").json == {**expected, "dry_run": True}
        assert run(kind, "--json").json == before
        assert run(kind, *args, "--json").json == {**expected, "dry_run": False}
    run(kind, "x")
    assert "already" in one_line(run(kind, "x", "--dry-run"), 3)


def test_a_branch_with_commits_of_its_own_is_deleted_only_with_force(run: Run, committed: str) -> None:
    run("branch", "work")
    run("commit", "--allow-empty", "-m", "only here", "--branch", "work")
    one_line(run("branch", "-d", "work", "--yes"), 3)
    assert run("branch", "-d", "work", "--yes", "--force").status == 0


def test_tags_are_created_listed_and_deleted(run: Run, committed: str) -> None:
    assert run("tag", "v1", "-m", "First").status == 0
    assert run("tag", "--json").json == {"v1": committed}
    assert "v1" in run("tag").out
    assert run("tag", "-d", "v1", "--dry-run").status == 0
    assert run("tag", "-d", "v1", "--yes").status == 0
    assert run("tag", "--json").json == {}


def test_reset_moves_a_branch_and_the_reflog_remembers(run: Run, committed: str) -> None:
    assert run("reset", "main~1", "--dry-run").status == 0
    assert run("branch", "--json").json["main"] == committed
    assert run("reset", "main~1", "--yes").status == 0
    assert run("log", "--json").json[0]["id"] != committed
    assert run("reflog", "--json").json[0]["previous"] == committed
    assert run("reset", committed, "--yes").status == 0
    assert run("log", "--json").json[0]["id"] == committed


@pytest.mark.parametrize("which", [[], ["--column", "images"]])
def test_reset_drops_what_is_staged(run: Run, committed: str, which: list[str]) -> None:
    np.save("03.npy", np.zeros((4, 4), np.uint8))
    run("import", "03.npy", "--column", "images")
    assert run("reset", "--dry-run", *which).status == 0
    assert "Nothing is staged" not in run("status").out
    assert run("reset", "--yes", *which).status == 0
    assert "Nothing is staged" in run("status").out


def test_commit_and_status_point_to_what_is_staged_on_another_branch(run: Run, committed: str) -> None:
    run("branch", "fix/labels")
    run("column", "add", "notes", "--kind", "str", "--branch", "fix/labels")
    said = one_line(run("commit", "-m", "x"), 1)
    assert said == "nothing is staged on 'main'; staged: 'fix/labels' (use --branch fix/labels)"
    assert "Nothing is staged on main; staged: 'fix/labels' (use --branch fix/labels)." in run("status").out
    assert run("status", "--json").json["staged_on"] == ["fix/labels"]
    run("reset", "--yes", "--branch", "fix/labels")
    assert run("status", "--json").json["staged_on"] == []
    assert "--allow-empty" in one_line(run("commit", "-m", "x"), 1)


def test_reset_says_when_nothing_was_staged(run: Run, committed: str) -> None:
    assert run("reset", "--yes").out == "Nothing was staged on main.\n"
    run("column", "add", "notes", "--kind", "str")
    assert run("reset", "--yes", "--column", "images").out == "Nothing was staged for images on main.\n"
    assert run("reset", "--yes").out == "Dropped what is staged on main.\n"


def test_a_branch_that_is_merged_is_deleted_without_a_question(
    run: Run, committed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: PTH123, SIM115  # closed with the process
    run("branch", "merged")
    assert run("branch", "-d", "merged").status == 0
    run("branch", "work")
    run("commit", "--allow-empty", "-m", "x", "--branch", "work")
    for dry_run in ([], ["--dry-run"]):
        assert "--force" in one_line(run("branch", "-d", "work", *dry_run), 3)
    assert "Would delete" in run("branch", "-D", "work", "--dry-run").out
    assert run("branch", "-D", "work").status == 0
    assert set(run("branch", "--json").json) == {"main"}


def test_the_default_branch_is_not_deleted_unasked(run: Run, committed: str) -> None:
    run("branch", "work")
    assert run("branch", "-D", "main").status != 0
    assert "main" in run("branch").out
    assert run("branch", "-D", "main", "--yes").status == 0
    gone = run("log", "main")
    assert gone.status == 3
    assert "`hangarlake branch main 'main@{1}'`" in gone.err
    assert run("branch", "main", "main@{1}").status == 0
