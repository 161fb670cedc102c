"""diff, merge, revert, cherry-pick, and history as a drawing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import hangarlake as hl
from hangarlake.cli.graph import draw
from hangarlake.records.models import Author, Commit
from tests.cli.conftest import Run, one_line
from tests.records.histories import T0


def put(branch: str, message: str, **values: int) -> str:
    with hl.Repository.open("repo").checkout(branch, write=True, staging="memory") as w:
        if "labels" not in w.columns:
            w.add_ndarray_column("labels", shape=(), dtype="int64")
        for key, value in values.items():
            w["labels", key] = np.int64(value)
        return w.commit(message).id


@pytest.fixture
def parted(repo: Path) -> None:
    """Two branches that changed other samples, and one in common."""
    put("main", "Begin", a=1, b=2)
    hl.Repository.open("repo").create_branch("work")
    put("main", "Ours", a=10, c=3)
    put("work", "Theirs", a=20, d=4)


def test_diff_shows_how_much_differs_and_on_request_what(run: Run, parted: None) -> None:
    shown = run("diff", "main", "work")
    assert (shown.status, shown.err) == (0, "")
    assert shown.out == " labels | 3 +~-\n 1 column changed, 1 sample added, 1 sample removed, 1 sample modified\n"
    assert run("diff", "work").out == run("diff", "work", "main").out == run("diff", "work..main").out
    assert run("diff", "main", "work", "--keys").out == "labels  (modified)\n  ~ 'a'\n  - 'c'\n  + 'd'\n"
    found = run("diff", "main", "work", "--json").json
    assert found["columns"]["labels"] == {"state": "modified", "added": 1, "removed": 1, "modified": 1}
    keys = run("diff", "main", "work", "--json", "--keys").json["columns"]["labels"]["keys"]
    assert keys == {"added": ["d"], "removed": ["c"], "modified": ["a"]}


def test_diff_with_three_dots_shows_what_one_side_did(run: Run, parted: None) -> None:
    keys = run("diff", "main...work", "--json", "--keys").json["columns"]["labels"]["keys"]
    assert keys == {"added": ["d"], "removed": [], "modified": ["a"]}


def test_diff_shows_what_is_staged(run: Run, committed: str) -> None:
    assert run("diff").out == "No differences.\n"
    np.save("03.npy", np.zeros((4, 4), np.uint8))
    run("import", "03.npy", "--column", "images")
    assert run("diff", "--json", "--keys").json["columns"]["images"]["keys"]["added"] == ["03"]
    assert run("diff", "main~1", "--staged", "--json").json["columns"]["images"]["state"] == "added"
    assert run("diff", "main~1", "--json").json["columns"]["images"]["added"] == 3


def test_diff_tells_a_program_by_its_exit_status(run: Run, parted: None) -> None:
    assert run("diff", "main", "work", "--exit-code").status == 1
    assert run("diff", "main", "main", "--exit-code").status == 0
    assert run("diff", "main", "work", "--staged").status == 2
    assert run("diff", "main", "--branch", "work").status == 2
    assert run("diff", "main..work", "main").status == 2
    one_line(run("diff", "main", "nothing"), 3)


def test_merge_lists_conflicts_and_ends_with_1(run: Run, parted: None) -> None:
    before = run("branch", "--json").json
    done = run("merge", "work")
    assert "changed-both" in done.out
    assert "'a'" in done.out
    assert "1 conflict" in one_line(done, 1)
    failed = run("merge", "work", "--json")
    conflict = json.loads(failed.out)["conflicts"][0]
    assert (failed.status, conflict["node"], conflict["key"], conflict["kind"]) == (1, "labels", "a", "changed-both")
    assert run("branch", "--json").json == before


@pytest.mark.parametrize(("side", "value"), [("--ours", 10), ("--theirs", 20)])
def test_merge_takes_a_side(run: Run, parted: None, side: str, value: int) -> None:
    done = run("merge", "work", side)
    assert (done.status, done.err) == (0, "")
    assert "Merged main" in done.out
    labels = hl.Repository.open("repo").checkout()["labels"]
    assert {key: int(x) for key, x in labels.items()} == {"a": value, "b": 2, "c": 3, "d": 4}
    assert run("merge", "work").out == "Already up to date.\n"


def test_merge_moves_forward_and_into_another_branch(run: Run, parted: None) -> None:
    run("branch", "old", "main~1")
    assert "Fast-forwarded old" in run("merge", "main", "--into", "old").out
    assert run("branch", "--json").json["old"] == run("branch", "--json").json["main"]
    assert run("merge", "main", "--into", "old", "--json").json["branch"] == "old"
    run("branch", "older", "main~1")
    assert len(run("merge", "main", "--into", "older", "-m", "On record", "--json").json["parents"]) == 2


def test_merge_takes_one_source_and_one_side(run: Run, parted: None) -> None:
    assert run("merge", "work", "main").status == 2
    assert run("merge", "work", "--ours", "--theirs").status == 2


def test_revert_undoes_a_commit(run: Run, parted: None) -> None:
    done = run("revert", "main")
    assert (done.status, 'Revert "Ours"' in done.out) == (0, True)
    assert run("diff", "main~2", "main").out == "No differences.\n"
    assert run("revert", "main~1").status == 1  # it is undone already
    put("main", "Later", a=30)
    assert "'a'" in run("revert", "main~1").out
    assert run("revert", "main~1", "--theirs", "--json").json["message"].startswith("Revert")


def test_revert_of_a_merge_needs_a_parent(run: Run, parted: None) -> None:
    run("merge", "work", "--ours")
    assert "--mainline" in one_line(run("revert", "main"), 2)
    assert run("revert", "main", "--mainline", "3").status == 2
    assert run("revert", "main", "--mainline", "1").status == 0
    assert run("diff", "main~2", "main").out == "No differences.\n"


def test_cherry_pick_repeats_a_commit(run: Run, parted: None) -> None:
    one_line(run("cherry-pick", "work"), 1)
    assert run("cherry-pick", "work", "--theirs", "-m", "Picked").status == 0
    assert run("log", "--json", "-n", "1").json[0]["message"] == "Picked"
    assert run("cherry-pick", "main", "--branch", "work", "--json").status == 1


def test_log_of_a_column_and_of_a_sample(run: Run, parted: None) -> None:
    def subjects(*options: str) -> list[str]:
        return [each["message"] for each in run("log", "--json", *options).json]

    assert subjects("--node", "labels") == ["Ours", "Begin"]
    assert subjects("-c", "labels", "--key", "b") == ["Begin"]
    assert subjects("--column", "labels", "--key", "a", "-n", "1") == ["Ours"]
    assert run("log", "--key", "a").status == 2
    assert run("log", "--graph", "--node", "labels").status == 2


def test_log_draws_lines_of_history(run: Run, parted: None) -> None:
    run("merge", "work", "--ours")
    run("tag", "v1")
    lines = run("log", "--graph").out.splitlines()
    assert lines[1] == "|\\"
    assert "(main, tag: v1) Merge branch 'work'" in lines[0]
    assert sum("*" in line for line in lines) == 5


@pytest.mark.parametrize(
    ("parents", "rows"),
    [
        ({3: [2], 2: [1], 1: []}, ["*", "*", "*"]),
        ({4: [3, 2], 3: [1], 2: [1], 1: []}, ["*", "|\\", "* |", "| *", "|/", "*"]),
        ({5: [4, 3], 4: [2], 3: [2, 1], 2: [1], 1: []}, ["*", "|\\", "* |", "| *", "| |\\", "|/ /", "* |", "|/", "*"]),
        ({4: [3, 1], 3: [2], 2: [1], 1: []}, ["*", "|\\", "* |", "* |", "|/", "*"]),
        ({3: [2, 1], 2: [], 1: []}, ["*", "|\\", "* |", " /", "*"]),
    ],
)
def test_lines_part_and_meet(parents: dict[int, list[int]], rows: list[str]) -> None:
    def commit(n: int) -> Commit:
        return Commit(str(n), tuple(map(str, parents[n])), "", Author("A", "a"), T0, "", n)

    drawn = list(draw(commit(n) for n in parents))
    assert [row for row, _ in drawn] == rows
    assert [c.id for _, c in drawn if c is not None] == [str(n) for n in parents]


def test_a_drawing_is_coloured_on_a_terminal_only(run: Run, parted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in run("log", "--graph").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run("log", "--graph").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in run("log", "--graph").out


def test_conflicts_show_small_values(run: Run, parted: None) -> None:
    rows = run("merge", "work").out.splitlines()
    assert rows[1].split() == ["changed-both", "labels", "'a'", "1", "10", "20"]


def test_diff_shows_small_values_on_request(run: Run, parted: None) -> None:
    with hl.Repository.open("repo").checkout("work", write=True, staging="memory") as w:
        w.add_str_column("notes").update({"short": "a cat", "long": "long " * 20})
        w.add_ndarray_column("images", shape=(9, 9), dtype="uint8")["a"] = np.zeros((9, 9), np.uint8)
        w.add_json_column("boxes")["a"] = [1, 2]
        w.commit("Add small and large")
    lines = run("diff", "main", "work", "--values").out.splitlines()
    assert "  ~ 'a': 10 → 20" in lines
    assert "  + 'd': 4" in lines
    assert "  + 'short': \"a cat\"" in lines
    assert "  + 'a': [1, 2]" in lines
    digests = [line for line in lines if "'long'" in line or line.startswith("  + 'a'")]
    assert sum(re.fullmatch(r"  \+ '(long|a)': [0-9a-f]{12}", line) is not None for line in digests) == 2
    values = run("diff", "main", "work", "--values", "--json").json["values"]
    assert {"column": "labels", "key": "a", "old": "10", "new": "20"} in values
    assert not [each for each in values if each["key"] == "long" or each["column"] == "images"]


def test_diff_counts_by_default(run: Run, parted: None) -> None:
    assert run("diff", "main", "work", "--stat").out == run("diff", "main", "work").out
    one_line(run("diff", "main", "work", "--stat", "--keys"), 2)
