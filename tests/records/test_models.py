from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from hangarlake.records.commits import parse_commit
from hangarlake.records.models import Author, RefEntry
from tests.records.histories import AUTHOR, T0, make_commit


def commit_of(**kwargs):
    return parse_commit(*make_commit(**kwargs))


def test_an_author_is_written_as_git_writes_it_and_read_back():
    assert str(AUTHOR) == "Ada Lovelace <ada@example.org>"
    assert Author.parse("  Ada Lovelace <ada@example.org> ") == AUTHOR
    assert Author.parse("Ada <>") == Author("Ada", "")


@pytest.mark.parametrize(
    "text", ["", "Ada", "<ada@example.org>", "Ada <a> b", "Ada <a@b", "A\nb <c>", "A <b\x00>", None, 7]
)
def test_what_is_not_an_author_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="Name <mail"):
        Author.parse(text)


def test_commits_are_equal_and_hashable_by_id():
    commit = commit_of(message="one")
    assert commit == replace(commit, message="other")
    assert commit != commit_of(message="two")
    assert commit != commit.id
    assert len({commit, replace(commit, message="other"), commit_of(message="two")}) == 2


def test_a_commit_shows_as_its_id_and_reads_well():
    commit = commit_of(message="Add images\n\nMore words")
    assert str(commit) == commit.id
    assert repr(commit) == f"<Commit {commit.id[:12]} 'Add images' by {AUTHOR}, 2026-11-01 12:00 UTC>"


def test_html_of_a_commit_is_escaped():
    shown = commit_of(message="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_commit_cannot_be_changed_and_pickles():
    commit = commit_of()
    with pytest.raises(FrozenInstanceError):
        commit.message = "other"
    copy = pickle.loads(pickle.dumps(commit))
    assert (copy, copy.to_dict()) == (commit, commit.to_dict())


def test_dicts_are_ready_for_json():
    commit = commit_of(message="m")
    assert json.loads(json.dumps(commit.to_dict()))["author"] == {"name": "Ada Lovelace", "email": "ada@example.org"}
    entry = RefEntry(3, "main", None, commit.id, "delete", AUTHOR, T0, "gone")
    assert json.loads(json.dumps(entry.to_dict()))["commit"] is None
    assert "main#3 (deleted) delete" in repr(entry)
    assert "(deleted)" in entry._repr_html_()
