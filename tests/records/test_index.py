from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from unittest import mock

import pytest

from hangarlake.records.index import Index

ROWS = [(f"{number:064x}", number, f'{{"n":{number}}}') for number in range(2000)]


def test_commits_come_back_from_another_session(tmp_path):
    path = tmp_path / "deep" / "folder" / "index.sqlite"
    first = Index(path)
    first.add_commits(ROWS)
    first.close()
    second = Index(path)
    wanted = [ROWS[number][0] for number in (0, 7, 1999)]
    assert second.get_commits([*wanted, "f" * 64]) == {ROWS[number][0]: ROWS[number][2] for number in (0, 7, 1999)}
    assert second.get_commits([]) == {}
    assert len(second.get_commits(row[0] for row in ROWS)) == 2000
    assert second.persistent


def test_commits_are_found_by_generation_up_to_a_limit():
    index = Index()
    index.add_commits(ROWS)
    assert sorted(index.get_generations(10, 12).values()) == ['{"n":10}', '{"n":11}', '{"n":12}']
    assert len(index.get_generations(0, 1999, limit=5)) == 5
    assert index.get_generations(5000, 6000) == {}


def test_a_commit_that_is_known_is_kept_as_it_is():
    index = Index()
    index.add_commits([("a", 0, "first"), ("a", 0, "second")])
    assert index.get_commits(["a"]) == {"a": "first"}


def test_refs_are_replaced_below_their_prefix_alone(tmp_path):
    index = Index(tmp_path / "index.sqlite")
    index.replace_refs("origin/", {"main": (5, "five"), "dev": (1, "one")})
    index.replace_refs("other/", {"main": (2, "two")})
    index.replace_refs("origin/", {"main": (3, None)})
    expected = {"origin/dev": (1, "one"), "origin/main": (3, None), "other/main": (2, "two")}
    assert Index(tmp_path / "index.sqlite").refs() == expected
    index.replace_refs("origin/", {"new": (1, "new")}, prune=True)
    assert index.refs() == {"origin/new": (1, "new"), "other/main": (2, "two")}


def test_a_ref_without_a_number_is_passed_over(tmp_path):
    index = Index(tmp_path / "index.sqlite")
    index.replace_refs("", {"main": (5, "five")})
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute("insert into refs values ('dev', 'x', 'one')")
    assert index.refs() == {"main": (5, "five")}


def test_facts_are_kept(tmp_path):
    index = Index(tmp_path / "index.sqlite")
    index.set("probed", True)
    index.set_many({"probed": {"safe": True}, "seen": [1, 2]})
    again = Index(tmp_path / "index.sqlite")
    assert (again.get("probed"), again.get("seen"), again.get("absent"), again.get("absent", 0)) == (
        {"safe": True},
        [1, 2],
        None,
        0,
    )


def test_without_a_path_nothing_is_kept():
    index = Index(None)
    index.set("fact", 1)
    assert index.get("fact") == 1
    assert not index.persistent
    assert index.path is None


def test_opening_touches_nothing_until_the_first_use(tmp_path):
    index = Index(tmp_path / "folder" / "index.sqlite")
    assert not (tmp_path / "folder").exists()
    index.get("fact")
    assert (tmp_path / "folder" / "index.sqlite").exists()


def test_importing_the_module_does_not_import_what_is_slow():
    code = "import sys, hangarlake.records.index; sys.exit('sqlite_utils' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_file_can_be_looked_into_with_sqlite_utils(tmp_path):
    index = Index(tmp_path / "index.sqlite")
    index.add_commits(ROWS[:3])
    assert index.database()["commits"].count == 3
    assert Index(None).database().table_names() == []


def spoil_with_garbage(path):
    path.write_bytes(b"this is not a database, though it is long enough to look at" * 100)


def spoil_by_cutting(path):
    Index(path).add_commits(ROWS)
    for other in path.parent.glob("*-*"):
        other.unlink()
    path.write_bytes(path.read_bytes()[:5000])


def spoil_with_a_folder(path):
    path.mkdir()


def spoil_with_another_version(path):
    with sqlite3.connect(path) as connection:
        connection.execute("pragma user_version = 99")


@pytest.mark.parametrize(
    "spoil", [spoil_with_garbage, spoil_by_cutting, spoil_with_a_folder, spoil_with_another_version]
)
def test_a_file_that_cannot_be_used_costs_a_line_in_the_log_and_nothing_else(tmp_path, caplog, spoil):
    path = tmp_path / "index.sqlite"
    spoil(path)
    index = Index(path)
    with caplog.at_level(logging.WARNING):
        index.add_commits(ROWS[:10])
        index.set("fact", 1)
        assert len(index.get_commits(row[0] for row in ROWS[:10])) == 10
        assert index.get("fact") == 1
    assert not index.persistent
    assert len([record for record in caplog.records if "cannot be used" in record.message]) == 1
    index.close()


def test_a_folder_that_cannot_be_made_costs_a_line_in_the_log(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    index = Index(tmp_path / "file" / "index.sqlite")
    index.set("fact", 1)
    assert index.get("fact") == 1
    assert "cannot be used" in caplog.text


def test_a_file_that_somebody_locks_is_done_without(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("hangarlake.records.index._BUSY_SECONDS", 0.0)
    path = tmp_path / "index.sqlite"
    Index(path).set("fact", 1)
    other = sqlite3.connect(path)
    other.execute("begin exclusive")
    index = Index(path)
    index.set("fact", 2)
    assert index.get("fact") == 2
    assert not index.persistent
    other.rollback()
    other.close()
    assert Index(path).get("fact") == 1


def test_many_threads_share_one_index(tmp_path):
    index = Index(tmp_path / "index.sqlite")

    def work(number):
        rows = ROWS[number * 100 : number * 100 + 100]
        for row in rows:
            index.add_commits([row])
        return len(index.get_commits(row[0] for row in rows))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(20))) == [100] * 20
    assert index.persistent


def _add(arguments):
    path, number = arguments
    index = Index(path)
    for row in ROWS[number * 50 : number * 50 + 50]:
        index.add_commits([row])
    return index.persistent


def test_several_processes_share_one_file(tmp_path):
    path = tmp_path / "index.sqlite"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_add, [(path, number) for number in range(6)], chunksize=1) == [True] * 6
    assert len(Index(path).get_commits(row[0] for row in ROWS[:300])) == 300


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_opens_the_file_for_itself(tmp_path):
    index = Index(tmp_path / "index.sqlite")
    index.set("fact", 1)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=lambda: answers.put(index.get("fact")))
    child.start()
    assert answers.get(timeout=30) == 1
    child.join()
    assert index.get("fact") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["use", "close"])
def test_a_forked_child_does_not_close_what_its_parent_opened(tmp_path, how):
    opened = []

    class Noted(sqlite3.Connection):
        def __del__(self):
            opened.append("closed")

    index = Index(tmp_path / "index.sqlite")
    with mock.patch.object(sqlite3, "connect", partial(sqlite3.connect, factory=Noted)):
        index.set("fact", 1)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child():
        if how == "use":
            index.get("fact")
        else:
            index.close()
        gc.collect()
        answers.put(list(opened))

    process = context.Process(target=child)
    process.start()
    assert answers.get(timeout=30) == []
    process.join()
    index.close()


def test_an_index_pickles_to_its_path(tmp_path):
    index = Index(tmp_path / "index.sqlite")
    index.set("fact", 1)
    assert pickle.loads(pickle.dumps(index)).get("fact") == 1
