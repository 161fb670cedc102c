"""Branches, tags, revisions and the log of a branch, as a person meets them."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from hangarlake import (
    AmbiguousRevisionError,
    BranchExistsError,
    CommitConflictError,
    NothingToCommitError,
    ReadOnlyError,
    Repository,
    RepositoryExistsError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StorageError,
)
from hangarlake.storage import LocalStore, MemoryStore
from tests.columns.values import AUTHOR, create, reopen
from tests.records.histories import make_commit


@pytest.fixture
def repo(local_store: LocalStore, tmp_path: Path) -> Repository:
    """A repository whose default branch has the commits 1, 2 and 3 after the first one."""
    made = create(local_store, tmp_path / "cache")
    with made.checkout(write=True) as w:
        doc = w.add_json_column("doc")
        for number in (1, 2, 3):
            doc["number"] = number
            w.commit(str(number))
    return made


def number(repo: Repository, rev: Any = None) -> Any:
    return repo.checkout(rev)["doc"]["number"]


# ---- creating and opening --------------------------------------------------------------------------------------------


def test_a_new_repository_has_one_empty_commit(tmp_path: Path) -> None:
    repo = Repository.create(tmp_path / "repo", author=AUTHOR, cache_dir=tmp_path / "cache", default_branch="trunk")
    (commit,) = repo.log()
    assert repo.branches == {"trunk": commit.id}
    assert repo.default_branch == "trunk"
    assert repo.tags == {}
    assert (commit.parents, str(commit.author)) == ((), AUTHOR)
    assert commit.time.utcoffset() == timedelta(0)
    assert len(repo.checkout()) == 0
    assert Repository.open(tmp_path / "repo", cache_dir=tmp_path / "other").id == repo.id


def test_creating_twice_and_opening_nothing_are_errors(tmp_path: Path) -> None:
    create(tmp_path / "repo", tmp_path / "cache")
    with pytest.raises(RepositoryExistsError, match="open"):
        create(tmp_path / "repo", tmp_path / "cache")
    with pytest.raises(FileExistsError):
        create(tmp_path / "repo", tmp_path / "other")
    with pytest.raises(RepositoryNotFoundError, match="create"):
        reopen(tmp_path / "nothing", tmp_path / "cache")
    with pytest.raises(FileNotFoundError):
        Repository.open(f"file://{tmp_path}/nothing")
    assert not (tmp_path / "nothing").exists()


def test_whoever_calls_the_class_is_told_how_repositories_are_opened() -> None:
    for args, options in (((), {}), (("conf",), {}), (("conf",), {"author": AUTHOR})):
        with pytest.raises(TypeError, match=r"use hl\.Repository\.open\(url\) or hl\.Repository\.create\(url\)"):
            Repository(*args, **options)  # type: ignore[arg-type, call-arg]  # the mistake is the test


@pytest.mark.parametrize("place", ["path", "str", "file", "memory", "fsspec", "pair", "store"])
def test_repositories_are_opened_by_whatever_names_a_place(tmp_path: Path, place: str) -> None:
    def where() -> Any:
        folder = tmp_path / "repo"
        return {
            "path": folder,
            "str": str(folder),
            "file": f"file://{folder}",
            "memory": f"memory://{tmp_path.name}-{place}",
            "fsspec": fsspec.filesystem("dir", path=str(folder), fs=fsspec.filesystem("file")),
            "pair": (fsspec.filesystem("file"), str(folder)),
            "store": LocalStore(folder),
        }[place]

    with create(where(), tmp_path / "cache").checkout(write=True) as w:
        w.add_str_column("text")["a"] = "b"
        w.commit("text")
    repo = reopen(where(), tmp_path / "other")
    assert repo.checkout()["text"]["a"] == "b"
    assert pickle.loads(pickle.dumps(repo)).resolve().message == "text"


def test_secrets_are_in_no_repr_and_no_object(tmp_path: Path) -> None:
    store = MemoryStore(f"{tmp_path.name}-secrets")
    options = {"token": "very-secret"}
    repo = Repository.create(store, storage_options=options, author=AUTHOR, cache_dir=tmp_path / "cache")
    with repo.checkout(write=True) as w:
        w.add_str_column("text")["a"] = "b"
        w.commit("text")
        shown = [repr(repo), repo._repr_html_(), repr(w), w._repr_html_(), repr(repo.checkout()), repo.url]
    assert not any("secret" in each.replace(store.url, "") for each in shown)
    assert not any(b"very-secret" in store.get(info.key) for info in store.list(""))
    assert not any(b"very-secret" in path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())


# ---- read-only checkouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("staged", [False, True])
def test_what_only_a_write_checkout_does_is_refused_with_the_remedy(repo: Repository, staged: bool) -> None:
    remedy = r"read-only; open a write checkout with repo\.checkout\(branch, write=True\)"
    with repo.staged() if staged else repo.checkout() as co:
        view: Any = co
        with pytest.raises(ReadOnlyError, match=remedy):
            view["doc", "number"] = 4
        with pytest.raises(ReadOnlyError, match=remedy):
            view["doc"] = {}
        with pytest.raises(ReadOnlyError, match=remedy):
            del view["doc", "number"]
        with pytest.raises(ReadOnlyError, match=remedy):
            del view["doc"]
        for name in ("add_ndarray_column", "create_array", "remove", "reset", "flush", "fork"):
            assert not hasattr(view, name)
            with pytest.raises(AttributeError, match=f"has no '{name}': .*{remedy}"):
                getattr(view, name)
        with pytest.raises(AttributeError, match=r"has no attribute 'colums'"):
            view.colums  # noqa: B018 - asking is the test
        assert number(repo) == 3
    with pytest.raises(ValueError, match="is closed"):
        view["doc", "number"] = 4


# ---- revisions -------------------------------------------------------------------------------------------------------


def test_revisions_mean_what_they_mean_in_git(repo: Repository) -> None:
    log = [commit.id for commit in repo.log()]
    assert [
        number(repo, rev)
        for rev in ("main", "HEAD", "@", None, "main~1", "main~2", "main^", "main^^", "HEAD~1^1", "main~0")
    ] == [3, 3, 3, 3, 2, 1, 2, 1, 1, 3]
    assert repo.resolve(log[1]).message == "2"
    assert repo.resolve(log[1][:12]).message == "2"
    assert repo.resolve(log[1].upper()[:20]).message == "2"
    assert repo.resolve(repo.resolve("main~2")).message == "1"
    for rev in (
        "nothing",
        "main~9",
        "main^2",
        "main~1^2",
        log[0][:3],
        "0" * 64,
        "main@{99}",
        "main@{yesterday}",
        "main@{",
        "a b",
        "~",
        "main~x",
        "refs/heads/main",
        "x" * 5000,
    ):
        with pytest.raises(RevisionNotFoundError):
            repo.resolve("" if rev == "~" else rev) if rev != "~" else repo.resolve("nothing~")
    with pytest.raises(TypeError):
        repo.resolve(5)  # type: ignore[arg-type]


def test_a_prefix_of_several_commits_is_ambiguous_and_lists_them(repo: Repository, local_store: LocalStore) -> None:
    alike: dict[str, list[tuple[str, bytes]]] = {}
    for turn in range(10_000):
        commit, record = make_commit(message=f"turn {turn}")
        twins = alike.setdefault(commit[:4], [])
        twins.append((commit, record))
        if len(twins) == 2:
            break
    for each, data in twins:
        local_store.put(f"commits/{each[:2]}/{each}.json", data)
    with pytest.raises(AmbiguousRevisionError, match=f"turn {turn}") as caught:
        repo.resolve(commit[:4])
    assert all(each[:16] in str(caught.value) for each, _ in twins)
    assert repo.resolve(commit[:20]).id == commit


def test_a_branch_is_looked_at_as_it_stood(repo: Repository) -> None:
    entries = list(repo.reflog("main"))
    for entry, following in zip(entries[1:], entries, strict=False):
        at = entry.time + (following.time - entry.time) / 2
        assert repo.resolve(f"main@{{{at.isoformat()}}}").id == entry.commit
    assert number(repo, f"main@{{{entries[0].time.isoformat()}}}") == 3
    assert number(repo, "main@{1}") == 2
    assert number(repo, "@{0}") == 3
    assert number(repo, "main@{0}~2") == 1
    assert number(repo, "main@{2999-01-01}") == 3
    with pytest.raises(RevisionNotFoundError, match="did not exist yet"):
        repo.resolve("main@{2001-01-01T12:00}")


# ---- branches --------------------------------------------------------------------------------------------------------


def test_branches_go_their_own_ways(repo: Repository, local_store: LocalStore, tmp_path: Path) -> None:
    assert repo.create_branch("side", "main~1") == repo.resolve("main~1").id
    with repo.checkout("side", write=True) as w:
        w["doc"]["number"] = "side"
        side = w.commit("side")
    assert (number(repo), number(repo, "side")) == (3, "side")
    assert repo.branches == {"main": repo.resolve("main").id, "side": side.id}
    assert reopen(local_store, tmp_path / "other").branches == repo.branches
    assert [commit.message for commit in repo.log("side")] == ["side", "2", "1", "Create the repository"]
    assert [commit.message for commit in repo.log("side", limit=2)] == ["side", "2"]
    with pytest.raises(BranchExistsError):
        repo.create_branch("side")
    with pytest.raises(RevisionNotFoundError):
        repo.create_branch("other", "nothing")
    with pytest.raises(RevisionNotFoundError, match="not a branch"):
        repo.checkout("main~1", write=True)


@pytest.mark.parametrize("name", ["größe", "a/b/c", "a.b", "1234", "with%percent", "日本/語", "UPPER", "x" * 200])
def test_branches_and_tags_may_be_called_as_git_allows(
    repo: Repository, local_store: LocalStore, tmp_path: Path, name: str
) -> None:
    repo.create_branch(name, "main~1")
    repo.create_tag(name, "main~2")
    other = reopen(local_store, tmp_path / "other")
    assert name in other.branches
    assert name in other.tags
    assert number(other, name) == 2  # a branch comes before a tag
    with other.checkout(name, write=True) as w:
        w["doc"]["number"] = name
        w.commit("named")
    assert number(repo, name) == name
    repo.delete_branch(name, force=True)
    assert number(repo, name) == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b",
        "/a",
        "a/",
        "a//b",
        "a.lock",
        "a b",
        "a~b",
        "a^b",
        "a:b",
        "-a",
        "HEAD",
        "a@{b",
        "@",
        "a\\b",
        "\0",
        "x" * 300,
        "\ud800",
        "f" * 64,
    ],
)
def test_other_names_are_refused(repo: Repository, name: str) -> None:
    before = repo.branches
    for call in (repo.create_branch, repo.create_tag):
        with pytest.raises(ValueError):
            call(name)
    for change in (repo.delete_branch, repo.delete_tag, lambda name: repo.reset_branch(name, "main")):
        with pytest.raises((ValueError, RevisionNotFoundError)):
            change(name)
    assert repo.branches == before
    assert repo.tags == {}


def test_resetting_a_branch_keeps_where_it_stood(repo: Repository) -> None:
    third = repo.resolve("main").id
    assert repo.reset_branch("main", "main~2") == repo.resolve("main").id
    assert number(repo) == 1
    assert number(repo, "main@{1}") == 3
    assert repo.reset_branch("main", repo.resolve("main")) == repo.resolve("main").id
    assert [entry.operation for entry in repo.reflog("main")] == ["reset", "commit", "commit", "commit", "create"]
    repo.reset_branch("main", third)
    assert number(repo) == 3
    repo.create_branch("side", repo.resolve("main"))
    messages = [next(repo.reflog(name)).message for name in ("main", "side")]
    assert messages == [f"reset to {third[:12]}", f"from {third[:12]}"]
    for branch, to in (("nothing", "main"), ("main", "nothing")):
        with pytest.raises(RevisionNotFoundError):
            repo.reset_branch(branch, to)


def test_a_branch_that_hides_a_tag_is_logged(repo: Repository, caplog: pytest.LogCaptureFixture) -> None:
    repo.create_tag("v1")
    assert not caplog.records
    repo.create_branch("v1")
    assert "the tag 'v1' is hidden by the branch of that name" in caplog.text
    caplog.clear()
    repo.create_branch("work")
    assert not caplog.records
    repo.create_tag("work")
    assert "the tag 'work' is hidden" in caplog.text


def test_deleting_a_branch_that_would_lose_commits_needs_force(repo: Repository) -> None:
    repo.create_branch("side")
    with repo.checkout("side", write=True) as w:
        w["doc"]["number"] = 4
        w.commit("4")
    with pytest.raises(ValueError, match="force"):
        repo.delete_branch("side")
    repo.delete_branch("side", force=True)
    assert list(repo.branches) == ["main"]
    for call in (
        lambda: repo.resolve("side"),
        lambda: repo.delete_branch("side"),
        lambda: repo.checkout("side", write=True),
    ):
        with pytest.raises(RevisionNotFoundError):
            call()
    assert [entry.operation for entry in repo.reflog("side")] == ["delete", "commit", "create"]
    repo.create_branch("side", "side@{1}")
    assert number(repo, "side") == 4
    repo.create_tag("kept", "side")
    repo.delete_branch("side")
    with pytest.raises(ValueError, match="last branch"):
        repo.delete_branch("main")
    repo.delete_branch("main", force=True)
    assert repo.branches == {}
    repo.create_branch("main", "kept~1")
    assert number(repo) == 3
    with pytest.raises(RevisionNotFoundError):
        repo.reflog("never")


def test_tags_never_move(repo: Repository, local_store: LocalStore, tmp_path: Path) -> None:
    second = repo.resolve("main~1")
    assert repo.create_tag("v1", second, message="the second") == second.id
    with pytest.raises(BranchExistsError):
        repo.create_tag("v1")
    with repo.checkout(write=True) as w:
        w["doc"]["number"] = 5
        w.commit("5")
    assert number(repo, "v1") == 2
    assert number(reopen(local_store, tmp_path / "other"), "v1~1") == 1
    assert repo.tags == {"v1": second.id}
    with pytest.raises(RevisionNotFoundError, match="not a branch"):
        repo.checkout("v1", write=True)
    repo.delete_tag("v1")
    assert repo.tags == {}
    for call in (lambda: repo.delete_tag("v1"), lambda: repo.resolve("v1")):
        with pytest.raises(RevisionNotFoundError):
            call()
    repo.create_tag("v1", "main")
    assert number(repo, "v1") == 5


def test_the_log_of_a_branch_says_who_moved_it_and_how(repo: Repository) -> None:
    repo.reset_branch("main", "main~1")
    entries = list(repo.reflog("main"))
    assert [entry.seq for entry in entries] == [5, 4, 3, 2, 1]
    assert [entry.message for entry in entries][1:4] == ["3", "2", "1"]
    assert all(entry.branch == "main" for entry in entries)
    assert {str(entry.author) for entry in entries} == {AUTHOR}
    assert [entry.previous for entry in entries[:-1]] == [entry.commit for entry in entries[1:]]
    assert entries[-1].previous is None
    assert entries[0].to_dict()["operation"] == "reset"


# ---- commits ---------------------------------------------------------------------------------------------------------


def test_a_checkout_stays_where_it_was_opened(repo: Repository) -> None:
    checkout = repo.checkout()
    with repo.checkout(write=True) as w:
        w["doc"]["number"] = 4
        commit = w.commit("4", author="Grace <grace@example.org>")
        w.remove("doc")
        w.commit("none")
    assert checkout["doc"]["number"] == 3
    assert checkout.branch == "main"
    assert (commit.message, commit.author.name, commit.author.email) == ("4", "Grace", "grace@example.org")
    assert repo.resolve("main~1") == commit
    assert hash(repo.resolve("main~1")) == hash(commit)
    assert str(commit) == commit.id
    assert commit.to_dict()["message"] == "4"


@pytest.mark.parametrize("resumed", [False, True])
def test_a_change_that_somebody_else_has_committed_meanwhile_is_nothing_to_commit(
    repo: Repository, local_store: LocalStore, tmp_path: Path, resumed: bool
) -> None:
    def change(writer: Any, *more: int) -> None:
        writer["doc"].update({"number": 4, **{f"more {each}": each for each in more}})

    slow = repo.checkout(write=True)
    change(slow)
    with reopen(local_store, tmp_path / "other").checkout(write=True) as fast:
        change(fast, 1)
        commit = fast.commit("first")
    if resumed:
        slow.close()
        slow = repo.checkout(write=True)
    with slow:
        with pytest.raises(NothingToCommitError, match=f"committed to it already, as {commit.id[:12]} shows"):
            slow.commit("second")
        assert not slow.status()
        assert slow.commit_base == repo.resolve() == commit
        change(slow, 2)
        assert slow.commit("third").parents == (commit.id,)
    assert sorted(repo.checkout()["doc"]) == ["more 1", "more 2", "number"]


def test_nothing_to_commit_is_an_error_unless_asked_for(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        with pytest.raises(NothingToCommitError):
            w.commit("nothing")
        commit = w.commit("empty", allow_empty=True)
        assert commit.catalog == repo.resolve("main~1").catalog
        w["doc"]["number"] = 3
        w.add_str_column("text")
        w.remove("text")
        w.attrs["a"] = 1
        del w.attrs["a"]
        with pytest.raises(NothingToCommitError):
            w.commit("changed and changed back")
        for wrong in (None, 5, b"bytes"):
            with pytest.raises(TypeError):
                w.commit(wrong)
        with pytest.raises(ValueError):
            w.commit("5", author="nobody", allow_empty=True)
    assert repo.resolve("main").id == commit.id


def test_the_encoding_of_a_column_is_no_part_of_a_commits_content(tmp_path: Path) -> None:
    catalogs = set()
    for compressor in ("zstd", "gzip", None):
        with create(MemoryStore(), tmp_path / str(compressor)).checkout(write=True) as w:
            w.add_bytes_column("raw", encoding={"compressor": compressor, "chunk_bytes": 10}).extend(
                range(3), [b"abc" * 9] * 3
            )
            catalogs.add(w.commit("raw").catalog)
    assert len(catalogs) == 1


def test_the_same_change_by_two_writers_is_no_conflict(
    repo: Repository, local_store: LocalStore, tmp_path: Path
) -> None:
    first, second = repo.checkout(write=True), reopen(local_store, tmp_path / "other").checkout(write=True)
    for w in (first, second):
        w["doc"]["same"] = {"a": 1}
        w.attrs["b"] = 2
    second["doc"]["own"] = 1
    first.commit("first")
    second.commit("second")
    for w in (first, second):
        w.close()
    assert dict(repo.checkout()["doc"].items()) == {"number": 3, "same": {"a": 1}, "own": 1}


def test_a_column_removed_by_one_and_written_by_another_is_a_conflict(
    repo: Repository, local_store: LocalStore, tmp_path: Path
) -> None:
    w, other = repo.checkout(write=True), reopen(local_store, tmp_path / "other").checkout(write=True)
    w["doc"]["a"] = 1
    other.remove("doc")
    other.commit("removed")
    with pytest.raises(CommitConflictError) as caught:
        w.commit("written")
    assert [(conflict.node, conflict.kind) for conflict in caught.value.conflicts] == [("doc", "node-removed")]
    assert w["doc"]["a"] == 1
    for each in (w, other):
        each.close()


def test_a_rename_by_one_and_a_sample_by_another_both_stand(
    repo: Repository, local_store: LocalStore, tmp_path: Path
) -> None:
    w, other = repo.checkout(write=True), reopen(local_store, tmp_path / "other").checkout(write=True)
    w["doc"]["a"] = 1
    other.rename("doc", "papers")
    other.commit("renamed")
    w.commit("written")
    for each in (w, other):
        each.close()
    checkout = repo.checkout()
    assert list(checkout) == ["papers"]
    assert dict(checkout["papers"].items()) == {"number": 3, "a": 1}


def test_stats_count_what_there_is(repo: Repository) -> None:
    stats = repo.stats()
    assert (stats.commits, stats.nodes, stats.samples) == (4, 1, 1)
    assert stats.stored_bytes > 0
    assert stats.to_dict()["commits"] == 4


def test_stats_leave_out_nodes_that_no_view_shows(repo: Repository) -> None:
    before = repo.stats()
    with repo.checkout(write=True) as w:
        w.add_loose_keys()["a key of the store"] = b"value"
        w.commit("a key that belongs to no node")
    after = repo.stats()
    assert (after.commits, after.nodes, after.samples) == (before.commits + 1, before.nodes, before.samples)
    assert after.logical_bytes == before.logical_bytes + len(b"value")


def test_an_author_in_the_environment_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGARLAKE_AUTHOR", "Ada without a mail")
    with pytest.raises(ValueError, match=r"HANGARLAKE_AUTHOR: 'Ada without a mail' is not an author"):
        Repository.create(tmp_path / "other", cache_dir=tmp_path / "cache")


def test_a_part_that_cannot_be_closed_keeps_no_other_open(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise StorageError("the hint was refused")

    closed = []
    session = repo._session
    monkeypatch.setattr(session.refs, "close", fail)
    monkeypatch.setattr(session.index, "close", lambda: closed.append("index"))
    monkeypatch.setattr(session.store, "close", lambda: closed.append("store"))
    with pytest.raises(StorageError, match="hint"):
        repo.close()
    assert closed == ["index", "store"]
