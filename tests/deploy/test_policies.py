"""The policies that Terraform installs, enforced while the product works as reader, writer and maintainer.

What a role needs is what the product asks for, so a right that is missing fails here, not in somebody's account.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hangarlake as hl
from hangarlake.errors import StorageError
from hangarlake.storage import open_store
from tests.deploy.guarded import GuardedServer
from tests.deploy.policies import ROLES, Action, actions_of, is_allowed, policy

AUTHOR = "Ada <ada@example.org>"
ENGINES = ["obstore", "fsspec"]
# A writer tidies up after its test of the store if it may. It may not, and goes on.
TOLERATED = ("writer", "s3:DeleteObject", "probe/")
# Folders of what garbage collection removes and what it writes.
COLLECTED = ("commits", "catalogs", "trees", "packs", "history", "locations", "hints", "probe", "gc")


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Both clients: they ask for the same things in different words."""
    name: str = request.param
    return name


@pytest.fixture
def server() -> Iterator[GuardedServer]:
    with GuardedServer() as guarded:
        yield guarded


def fill(repo: hl.Repository) -> None:
    """Do what writers do: data of both kinds, branches, merges, tags, and enough commits for a history segment."""
    with repo.checkout("main", write=True, staging="memory") as w:
        images = w.add_ndarray_column("images", shape=(64, 64), dtype="uint8")
        images.extend(range(300), np.random.default_rng(0).integers(0, 255, (300, 64, 64), "uint8"))
        w.create_array("grid", shape=(600, 600), dtype="float32", chunks=(300, 600))[...] = np.ones((600, 600), "f4")
        w.commit("Add data")
    repo.create_branch("other")
    for branch, key in (("main", 0), ("other", 1)):
        with repo.checkout(branch, write=True, staging="memory") as w:
            w["images", key] = np.zeros((64, 64), "uint8")
            w.commit("Change one")
    repo.merge("other")
    for number in range(16):
        with repo.checkout("main", write=True, staging="memory") as w:
            w.commit(f"Nothing {number}", allow_empty=True)
    repo.create_tag("v1", message="First")
    repo.delete_branch("other", force=True)
    repo.reset_branch("main", "main~1")
    repo.close()


def read(repo: hl.Repository) -> None:
    """Do what readers do."""
    assert set(repo.branches) >= {"main"}
    assert set(repo.tags) == {"v1"}
    assert len(list(repo.log())) >= 18
    assert next(iter(repo.reflog("main"))).operation == "reset"
    with repo.checkout("v1") as view:
        assert view["images", 0].max() == 0
        assert view["images"].batch([3, 200, 299]).shape == (3, 64, 64)
        assert view.arrays["grid"][10, 10] == 1
        assert sum(1 for _ in view["images"].scan()) > 0
    assert not repo.diff("v1", "main")
    with pytest.raises(hl.RevisionNotFoundError):
        repo.resolve("nowhere")
    repo.stats()


@pytest.fixture
def filled(server: GuardedServer) -> GuardedServer:
    """A server with a repository in it, made by its owner, through the faster client."""
    fill(hl.Repository.create(server.url, storage_options=server.options("owner", "obstore"), author=AUTHOR))
    return server


def test_a_writer_may_do_all_that_writing_takes(server: GuardedServer, engine: str, tmp_path: Path) -> None:
    options = server.options("writer", engine)
    fill(hl.Repository.create(server.url, storage_options=options, author=AUTHOR))
    with hl.Repository.open(server.url, storage_options=options, author=AUTHOR) as repo:
        read(repo)
    clone = hl.Repository.clone(server.url, tmp_path / "clone", source_options=options, author=AUTHOR)
    with clone.checkout("main", write=True) as w:
        w.columns["images"].append(np.zeros((64, 64), "uint8"))
        w.commit("Add one")
    clone.remotes["origin"]
    clone.push()
    refused = {each for each in server.denied() if not (each[:2] == TOLERATED[:2] and each[2].startswith(TOLERATED[2]))}
    assert refused == set(), "the policy of writers lacks these"
    assert {each.action for each in server.asked if each.granted} == {"s3:GetObject", "s3:ListBucket", "s3:PutObject"}


def test_every_write_of_a_ref_and_of_the_marker_is_conditional(server: GuardedServer, engine: str) -> None:
    fill(hl.Repository.create(server.url, storage_options=server.options("writer", engine), author=AUTHOR))
    writes = [each for each in server.asked if each.action == "s3:PutObject"]
    refs = [each for each in writes if each.key.startswith("refs/") or each.key == "hangarlake.json"]
    assert len(refs) > 20
    assert all(each.conditional for each in refs)
    assert {each.key.partition("/")[0] for each in writes} >= {
        "commits",
        "catalogs",
        "trees",
        "packs",
        "hints",
        "history",
    }


def test_a_reader_may_do_all_that_reading_takes_and_nothing_else_is_asked(
    filled: GuardedServer, engine: str, tmp_path: Path
) -> None:
    options = filled.options("reader", engine)
    with hl.Repository.open(filled.url, storage_options=options) as repo:
        read(repo)
    clone = hl.Repository.clone(filled.url, tmp_path / "clone", source_options=options, author=AUTHOR)
    clone.fetch_data("v1", nodes=["images"], keys=[1, 2])
    assert filled.denied() == set(), "the policy of readers lacks these"
    assert {each.action for each in filled.asked} == {"s3:GetObject", "s3:ListBucket"}


def test_a_reader_cannot_write(filled: GuardedServer, engine: str) -> None:
    repo = hl.Repository.open(filled.url, storage_options=filled.options("reader", engine), author=AUTHOR)
    head = repo.resolve("main").id
    with repo.checkout("main", write=True, staging="memory") as w:
        w["images", 0] = np.ones((64, 64), "uint8")
        with pytest.raises(StorageError):
            w.commit("Change one")
    for call in (lambda: repo.create_branch("mine"), lambda: repo.create_tag("mine"), lambda: repo.delete_tag("v1")):
        with pytest.raises(StorageError):
            call()
    assert repo.resolve("main").id == head
    assert set(repo.tags) == {"v1"}
    assert {each.action for each in filled.asked if each.granted} == {"s3:GetObject", "s3:ListBucket"}


def test_a_writer_cannot_delete_nor_change_a_ref(filled: GuardedServer, engine: str) -> None:
    options = filled.options("writer", engine)
    with pytest.raises(StorageError):
        hl.Repository.open(filled.url, storage_options=options).delete_tag("v1")
    store = open_store(filled.url, options)
    one_of_each = {info.key.partition("/")[0]: info.key for info in store.list("")}
    assert one_of_each.keys() >= {"refs", "hints", "commits", "catalogs", "trees", "packs", "hangarlake.json"}
    for key in one_of_each.values():
        with pytest.raises(StorageError):
            store.delete([key])
        assert store.exists(key)
    for key in ("refs/branches/main/0000000000000001.json", "refs/tags/v1.json", "refs/new.json", "hangarlake.json"):
        with pytest.raises(StorageError):
            store.put(key, b"forged")
    assert not store.put_new("refs/tags/v1.json", b"forged")
    assert all(b"forged" not in store.get(info.key) for info in store.list("refs/"))


def test_a_maintainer_may_do_what_a_writer_may_and_collect_garbage(filled: GuardedServer, engine: str) -> None:
    options = filled.options("maintainer", engine)
    repo = hl.Repository.open(filled.url, storage_options=options, author=AUTHOR)
    with repo.checkout("main", write=True, staging="memory") as w:
        w["images", 5] = np.ones((64, 64), "uint8")
        w.commit("Change one")
    if hasattr(repo, "gc"):
        repo.gc()
    repo.delete_tag("v1")
    repo.close()
    store = open_store(filled.url, options)
    for folder in COLLECTED:
        store.put(f"{folder}/ab/garbage", b"x")
        store.delete([f"{folder}/ab/garbage"])
        assert not store.exists(f"{folder}/ab/garbage")
    assert filled.denied() == set(), "the policy of maintainers lacks these"


def test_not_even_a_maintainer_changes_or_deletes_the_log_of_a_branch(filled: GuardedServer, engine: str) -> None:
    store = open_store(filled.url, filled.options("maintainer", engine))
    log = [info.key for info in store.list("refs/branches/")]
    for key in (log[0], log[-1], "hangarlake.json"):
        with pytest.raises(StorageError):
            store.delete([key])
        with pytest.raises(StorageError):
            store.put(key, b"forged")
    assert [info.key for info in store.list("refs/branches/")] == log


@pytest.mark.parametrize("action", ["s3:GetObject", "s3:ListBucket"])
def test_a_right_that_readers_lack_is_found_out(action: str) -> None:
    with GuardedServer(lacking={"reader": action}) as server:
        repo = hl.Repository.create(server.url, storage_options=server.options("owner", "obstore"), author=AUTHOR)
        repo.create_tag("v1")
        repo.close()
        reader = server.options("reader", "obstore")
        with pytest.raises(OSError), hl.Repository.open(server.url, storage_options=reader) as seen:  # noqa: PT012 -- any step may be the one
            seen.resolve("main")
            list(seen.tags)


def test_a_right_that_writers_lack_is_found_out() -> None:
    with GuardedServer(lacking={"writer": "s3:PutObject"}) as server, pytest.raises(StorageError):
        hl.Repository.create(server.url, storage_options=server.options("writer", "obstore"), author=AUTHOR)


# ---- the documents by themselves ---------------------------------------------------------------------------------------


def asks(method: str, path: str, query: str = "", *, tls: bool = True, **headers: str) -> Action:
    renamed = {name.replace("_", "-"): value for name, value in headers.items()}
    (action,) = actions_of(method, path, query, renamed, b"", tls=tls)
    return action


def may(role: str, action: Action, folder: str = "") -> bool:
    return is_allowed(action, policy(role, "b", folder), policy("bucket", "b", folder))


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_allowed_without_tls(role: str) -> None:
    assert may(role, asks("GET", "/b/commits/x"))
    assert not may(role, asks("GET", "/b/commits/x", tls=False))
    assert not may(role, asks("GET", "/b", "list-type=2", tls=False))


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_allowed_outside_the_folder_but_listing(role: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert not may(role, asks(method, "/b/other/packs/x"), "mine/")
        assert not may(role, asks(method, "/other/mine/packs/x"), "mine/")
    assert not may(role, asks("GET", "/other", "list-type=2"), "mine/")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "request_of", ["PUT /b ", "DELETE /b ", "PUT /b policy", "PUT /b/packs/x acl", "PUT /b lifecycle"]
)
def test_nobody_may_touch_the_bucket_itself(role: str, request_of: str) -> None:
    method, path, query = request_of.split(" ")
    assert not may(role, asks(method, path, query))


@pytest.mark.parametrize("role", ["writer", "maintainer"])
def test_refs_are_written_with_if_none_match_or_not_at_all(role: str) -> None:
    for key in ("refs/branches/main/0000000000000002.json", "refs/tags/v1.json", "hangarlake.json"):
        assert may(role, asks("PUT", f"/b/{key}", if_none_match="*"))
        assert not may(role, asks("PUT", f"/b/{key}"))
        assert not may(role, asks("PUT", f"/b/{key}", "partNumber=1&uploadId=u"))
    assert may(role, asks("PUT", "/b/hints/branches/main.json"))


def test_only_maintainers_delete() -> None:
    for key in ("packs/ab/x", "refs/tags/v1.json", "gc/condemned.json"):
        assert [may(role, asks("DELETE", f"/b/{key}")) for role in ROLES] == [False, False, True]
    assert not any(may(role, asks("DELETE", "/b/refs/branches/main/0000000000000001.json")) for role in ROLES)


def test_no_policy_grants_by_wildcard_or_to_everybody() -> None:
    for role in ROLES:
        for statement in policy(role, "b")["Statement"]:
            actions = statement["Action"]
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in ([actions] if isinstance(actions, str) else actions))
    assert {statement["Effect"] for statement in policy("bucket", "b")["Statement"]} == {"Deny"}
