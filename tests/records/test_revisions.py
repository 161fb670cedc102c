from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.errors import AmbiguousRevisionError, RevisionNotFoundError
from hangarlake.records.commits import commit_key
from hangarlake.records.graph import Graph
from hangarlake.records.movements import Movement, Tag
from hangarlake.records.refs import Refs
from hangarlake.records.revisions import Resolver
from tests.records.histories import AUTHOR, T0, History


class Repository:
    """A diamond with a tail on main, every commit a movement an hour after the last; dev and a tag beside it."""

    def __init__(self):
        self.history = History()
        root = self.history.commit()
        left = self.history.commit(root)
        right = self.history.commit(root)
        merge = self.history.commit(left, right)
        self.tip = self.history.commit(merge)
        self.ids = self.history.ids
        self.refs = Refs(self.history.store)
        movement = None
        for hours, number in enumerate([root, left, merge, self.tip]):
            movement = self.move("main", movement, number, hours)
        self.move("dev", None, right)
        self.move("origin/main", None, left)
        self.refs.create_tag(
            "v1.0", commit=self.ids[left], author=AUTHOR, message="", record=self.history.records[left]
        )
        self.resolver = Resolver(self.refs, Graph(self.history.store), self.history.store)

    def move(self, branch, expected, number, hours=0):
        return self.refs.move(
            branch,
            expected,
            commit=None if number is None else self.ids[number],
            record=None if number is None else self.history.records[number],
            operation="commit",
            author=AUTHOR,
            message="",
            time=T0 + timedelta(hours=hours),
        )

    def number(self, rev, default="main"):
        return self.ids.index(self.resolver.locate(rev, default).commit)


REPOSITORY = Repository()


@pytest.mark.parametrize(
    ("rev", "number"),
    [
        ("main", 4),
        (None, 4),
        ("HEAD", 4),
        ("@", 4),
        ("", 4),
        ("dev", 2),
        ("origin/main", 1),
        ("v1.0", 1),
        ("main~", 3),
        ("main~1", 3),
        ("HEAD~0", 4),
        ("main^0", 4),
        ("main~2", 1),
        ("main~3", 0),
        ("main^", 3),
        ("main~1^2", 2),
        ("main~^2~1", 0),
        ("main^^", 1),
        ("main^^^", 0),
        ("~1", 3),
        ("v1.0^", 0),
        ("main@{0}", 4),
        ("main@{1}", 3),
        ("main@{3}", 0),
        ("@{1}", 3),
        ("@{1}~1", 1),
        ("main@{1}^2", 2),
        ("main@{2026-11-01T12:00}", 0),
        ("main@{2026-11-01T14:30}", 3),
        ("main@{2026-11-01 14:30:00}", 3),
        ("main@{2026-11-01T15:30+01:00}", 3),
        ("main@{2026-11-01T14:59:59.999999Z}", 3),
        ("main@{2026-11-02}", 4),
        ("main@{2026-11-01T13:00}^", 0),
    ],
)
def test_revisions_mean_what_git_means_by_them(rev, number):
    assert REPOSITORY.number(rev) == number


def test_head_means_the_default_branch():
    assert REPOSITORY.number("HEAD~1", "dev") == 0
    assert REPOSITORY.number(None, "dev") == 2


def test_ids_and_unambiguous_prefixes_and_commits_are_revisions():
    for number, commit_id in enumerate(REPOSITORY.ids):
        assert REPOSITORY.number(commit_id) == number
        assert REPOSITORY.number(commit_id[:12]) == number
        assert REPOSITORY.number(commit_id.upper()[:20]) == number
        assert REPOSITORY.number(REPOSITORY.resolver._graph.commit(commit_id)) == number
    assert REPOSITORY.number(REPOSITORY.ids[4][:10] + "~1^2") == 2


@pytest.mark.parametrize(
    ("rev", "told"),
    [
        ("absent", "no branch, tag or commit 'absent'; list them with repo.branches and repo.tags"),
        ("mian", "did you mean 'main'"),
        ("main~9", "'main' has fewer than 9 first-parent ancestors"),
        ("main~1~9", "'main~1' has fewer than 9"),
        ("~9", "'HEAD' has fewer than 9"),
        ("main~99999999999999999999999", "fewer than"),
        ("main^2", "has no parent 2"),
        ("main@{4}", "has moved 4 times only"),
        ("main@{99999999999999999999}", "has moved 4 times only"),
        ("main@{2020-01-01}", "did not exist yet"),
        ("main@{yesterday}", "neither a number of movements nor a time"),
        ("main@{}", "neither"),
        ("absent@{1}", "no branch 'absent'"),
        ("v1.0@{1}", "no branch"),
        ("abc", "at least 4 digits"),
        ("f" * 64, "there is no commit"),
        ("ffff0123", "no branch, tag or commit"),
        ("main@{1", "not a revision"),
        ("main~1x", "not a revision"),
        ("a b", "not a revision"),
        ("../../etc/passwd", "not a revision"),
        ("main@{1}@{2}", "not a revision"),
        ("\ud800", "not a revision"),
        ("~" * 100_000 + "x", "not a revision"),
        ("x" * 10_000, "not a revision"),
    ],
)
def test_what_is_not_there_is_told_with_what_to_do(rev, told):
    with pytest.raises(RevisionNotFoundError) as caught:
        REPOSITORY.resolver.locate(rev, "main")
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("rev", [7, 1.5, True, b"main", ["main"], {}])
def test_what_cannot_be_a_revision_is_a_type_error(rev):
    with pytest.raises(TypeError, match="a revision is a string"):
        REPOSITORY.resolver.locate(rev, "main")


@settings(deadline=None)
@given(st.text(max_size=12) | st.text(st.sampled_from("main~^@{}0129-:. "), max_size=12))
def test_any_text_is_a_commit_or_not_found(rev):
    with suppress(RevisionNotFoundError):
        assert REPOSITORY.resolver.locate(rev, "main").commit in REPOSITORY.ids


def test_a_prefix_of_several_commits_is_ambiguous_and_lists_them():
    repository = Repository()
    store = repository.history.store
    wanted = "abcd"
    for tail in "0123456789":
        store.put(commit_key(wanted + tail * 60), b"{}")
    with pytest.raises(AmbiguousRevisionError) as caught:
        repository.resolver.locate(wanted, "main")
    assert "10 commit ids" in str(caught.value)
    assert wanted + "0" * 12 in str(caught.value)
    assert "… and 2 more" in str(caught.value)


def test_a_prefix_is_checked_to_be_one_whatever_the_store_lists():
    class Sloppy(type(REPOSITORY.history.store)):
        def list(self, prefix):
            return super().list("commits/")

    sloppy = Sloppy()
    for info in list(REPOSITORY.history.store.list("")):
        sloppy.put(info.key, REPOSITORY.history.store.get(info.key))
    resolver = Resolver(Refs(sloppy), Graph(sloppy), sloppy)
    assert resolver.locate(REPOSITORY.ids[0][:8], "main").commit == REPOSITORY.ids[0]
    absent = next(
        f"{number:08x}" for number in range(100) if not any(x.startswith(f"{number:08x}") for x in REPOSITORY.ids)
    )
    with pytest.raises(RevisionNotFoundError):
        resolver.locate(absent, "main")


def test_a_branch_comes_before_a_tag_and_a_tag_before_a_prefix():
    repository = Repository()
    prefix = repository.ids[4][:6]
    record = repository.history.records
    repository.refs.create_tag(prefix, commit=repository.ids[1], author=AUTHOR, message="", record=record[1])
    assert repository.number(prefix) == 1
    repository.move(prefix, None, 2)
    assert repository.number(prefix) == 2


def test_a_deleted_branch_is_not_found_and_its_past_is():
    repository = Repository()
    repository.move("dev", repository.refs.head("dev"), None, 5)
    with pytest.raises(RevisionNotFoundError, match="was deleted"):
        repository.resolver.locate("dev", "main")
    with pytest.raises(RevisionNotFoundError, match="was deleted then"):
        repository.resolver.locate("dev@{2026-11-02}", "main")
    assert repository.number("dev@{1}") == 2
    assert repository.number("dev@{2026-11-01T13:00}") == 2


def test_locating_gives_the_movement_or_tag_that_stands_there():
    locate = REPOSITORY.resolver.locate
    main = locate("main", "main")
    assert isinstance(main.source, Movement)
    assert (main.branch, main.source.commit) == ("main", main.commit)
    assert isinstance(locate("v1.0", "main").source, Tag)
    assert locate("main~1", "main").source is None
    assert locate("main~0", "main").branch is None
    assert locate("main~0", "main").source == main.source
    assert locate(main.commit, "main").source is None
