"""Whatever was written rightly verifies: columns of every kind, arrays, any history, clones, repositories of earlier versions."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hangarlake as hl
from hangarlake.chunks.packs import pack_key
from hangarlake.records.tree import iter_leaves
from hangarlake.storage import MemoryStore, ObjectStore
from hangarlake.testing import CountingStore
from hangarlake.testing.faults import Fault, FaultyStore
from hangarlake.testing.wrapping import WrappingStore
from hangarlake.upkeep.ledger import Ledger
from tests.upkeep.worlds import COMMITS, copy_of, everything, noise

LEVELS = ("refs", "records", "full")


@pytest.mark.parametrize("level", LEVELS)
def test_a_repository_with_something_of_every_kind_is_sound(level: Any) -> None:
    repo = hl.Repository.open(everything())
    report = repo.verify(level=level)
    assert report.problems == ()
    assert bool(report) is report.ok is True
    assert (report.absent, report.commit, report.level) == (0, None, level)
    checked = report.checked
    logs = [repo.reflog(branch) for branch in ("main", "side", "gone")]
    assert checked["movements"] == sum(len(list(log)) for log in logs)
    assert checked["tags"] == 1
    if level == "refs":
        assert checked["nodes"] == checked["chunks"] == checked["samples"] == 0
        return
    assert checked["commits"] == len({commit.id for rev in ("main", "side") for commit in repo.log(rev)})
    assert checked["segments"] == 1
    if level == "full":
        # Every value that is or was in a column or array, once.
        assert checked["samples"] >= 700 + 10 + 40 + 5 + 3 * COMMITS
        packs = {info.key: info.size for info in everything().list("packs/")}
        assert checked["bytes"] >= sum(packs.values())


def test_every_object_is_read_once_and_as_a_whole() -> None:
    store = CountingStore(everything())
    repo = hl.Repository.open(store)
    store.reset()
    assert repo.verify()
    read = [request.key for request in store.requests if request.op in ("get", "get_ranges")]
    of_content = [key for key in read if key.startswith(("packs/", "trees/", "catalogs/", "commits/", "refs/"))]
    twice = {key for key in of_content if of_content.count(key) > 1}
    # Where large samples and small ones share a pack, it is read for either.
    with repo.checkout() as co:
        entries = next(iter_leaves(co.column_node("large").root, repo._session.nodes)).entries
    assert twice == {pack_key(pack) for pack in entries.table.pack_ids}
    assert all(of_content.count(key) == 2 for key in twice)
    assert {info.key for info in everything().list("packs/")} == {key for key in read if key.startswith("packs/")}
    assert {info.key for info in everything().list("trees/")} == {key for key in read if key.startswith("trees/")}
    assert not [request for request in store.requests if request.op in ("put", "put_new", "delete")]


def test_a_revision_is_verified_with_its_ancestors_and_nothing_else() -> None:
    store = CountingStore(everything())
    repo = hl.Repository.open(store)
    wanted = repo.resolve("v1")
    for level in LEVELS:
        store.reset()
        report = repo.verify("v1", level=level)
        assert report.ok
        assert report.commit == wanted.id
    history = {f"commits/{commit.id[:2]}/{commit.id}.json" for commit in repo.log(wanted)}
    read = {request.key for request in store.requests if request.op == "get"}
    assert {key for key in read if key.startswith("commits/")} == history
    assert repo.verify(wanted, level="records").checked["commits"] == len(history)
    with pytest.raises(hl.RevisionNotFoundError):
        repo.verify("nowhere")


def test_a_sample_is_a_share_or_a_number_of_chunks_and_a_seed_chooses_it() -> None:
    repo = hl.Repository.open(everything())
    chunks = repo.verify().checked["chunks"]
    some = repo.verify(sample=0.25)
    assert 0 < some.checked["chunks"] < chunks / 2
    assert repo.verify(sample=0.25) == some
    assert repo.verify(sample=0.25, seed=1).checked != some.checked
    assert some.sample == 0.25
    for sample in (0.25, 1.0, 7, 0):
        assert repo.verify(sample=sample).checked["chunks_total"] == chunks
    for seed in range(5):
        tiny = repo.verify(sample=1e-9, seed=seed)
        # A large sample that is cut into chunks is taken as a whole.
        assert 1 <= tiny.checked["chunks"] <= 9
    few = repo.verify(sample=7)
    # A large sample that is cut into chunks counts once.
    assert 7 <= few.checked["chunks"] <= 7 + 5 * 9
    assert few.checked["bytes"] < some.checked["bytes"]
    assert repo.verify(sample=1.0).checked["samples"] == repo.verify().checked["samples"]
    assert repo.verify(sample=0).checked["chunks"] == 0
    for wrong in (-1, 1.5, True, "many"):
        with pytest.raises(ValueError, match="sample"):
            repo.verify(sample=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="full"):
        repo.verify(level="records", sample=1)
    with pytest.raises(ValueError, match="level"):
        repo.verify(level="some")  # type: ignore[arg-type]


def test_a_report_is_small_plain_and_readable() -> None:
    report = hl.Repository.open(everything()).verify(level="records")
    assert "records" in repr(report)
    assert "all well" in repr(report)
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    assert pickle.loads(pickle.dumps(report)) == report
    problem = hl.Problem("packs/<x>", "missing", "it is not there", ("a['b']",))
    bad = dataclasses.replace(report, problems=(problem,), absent=1)
    assert not bad
    assert "&lt;x&gt;" in bad._repr_html_()
    assert "1 problem; 1 chunk is not in this clone" in bad.summary
    assert bad.to_dict()["problems"] == [problem.to_dict()]
    with pytest.raises(dataclasses.FrozenInstanceError):
        bad.absent = 2  # type: ignore[misc]


def test_progress_tells_what_is_read() -> None:
    told: dict[str, int] = {}
    report = hl.Repository.open(everything()).verify(
        progress=lambda stage, size: told.update({stage: told.get(stage, 0) + size})
    )
    assert set(told) == {"refs", "commits", "trees", "data"}
    assert sum(told.values()) == report.checked["bytes"]


def test_repositories_of_version_1_are_sound(tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(Path(__file__).parents[1] / "golden/v1/repository", folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert hl.Repository.open(folder).verify().problems == ()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_repository_in_any_store_is_sound(any_store: ObjectStore) -> None:
    repo = hl.Repository.create(any_store)
    with repo.checkout("main", write=True, staging="memory") as w:
        w.add_ndarray_column("x", (9,), "u1").extend(range(50), noise(0, 50, 9))
        w.add_ndarray_column("big", (1100, 1000), "u1")["x"] = noise(3, 1100, 1000)
        w.commit("Add")
    assert repo.verify().problems == ()


class _Unlisted(WrappingStore):
    """A store as plain HTTP is one: what is there is read by name."""

    can_list = False

    def list(self, prefix: str) -> Any:
        raise hl.StorageError(f"{self.url} has no listings")

    list_prefixes = list


def test_a_revision_is_verified_without_listings_and_everything_is_not() -> None:
    repo = hl.Repository.open(_Unlisted(everything()))
    expected = hl.Repository.open(everything()).verify("main")
    report = repo.verify("main")
    assert report.problems == ()
    assert report.checked["samples"] == expected.checked["samples"]
    with pytest.raises(hl.StorageError, match="no listings"):
        repo.verify()


def test_what_is_new_in_an_empty_repository_and_what_is_staged_do_not_matter() -> None:
    repo = hl.Repository.create(MemoryStore())
    assert repo.verify().checked["samples"] == 0
    with repo.checkout("main", write=True) as w:
        w.add_ndarray_column("x", (), "u1")[0] = np.uint8(1)
        assert repo.verify()


def test_criss_cross_histories_read_shared_nodes_once() -> None:
    store = CountingStore(MemoryStore())
    repo = hl.Repository.create(store)
    with repo.checkout("main", write=True, staging="memory") as w:
        w.add_ndarray_column("x", (20,), "u1").extend(range(3000), noise(0, 3000, 20))
        w.commit("Add")
    repo.create_branch("other")
    for turn in range(4):
        for branch in ("main", "other"):
            with repo.checkout(branch, write=True, staging="memory") as w:
                w["x", 100 * turn + (branch == "main")] = noise(1000 + 7 * turn + (branch == "main"), 20)
                w.commit(f"{branch} {turn}")
        ours, theirs = repo.resolve("main").id, repo.resolve("other").id
        repo.merge(theirs, into="main", message="cross")
        repo.merge(ours, into="other", message="criss")
    fresh = hl.Repository.open(store)
    store.reset()
    report = fresh.verify()
    assert report.problems == ()
    trees = [request.key for request in store.requests if request.key.startswith("trees/") and request.op != "list"]
    assert sorted(trees) == sorted(set(trees))
    # Far fewer than commits times leaves: one root and one leaf for each change.
    assert report.checked["nodes"] <= 3000 // 128 + 4 * report.checked["commits"]


def test_facts_on_disk_are_checked_as_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = hl.Repository.open(everything()).verify()
    spilled = []
    original = Ledger._spill
    monkeypatch.setattr(Ledger, "_spill", lambda self: (spilled.append(1), original(self))[1])
    monkeypatch.setattr("hangarlake.upkeep.data.Ledger", lambda: Ledger(memory=20_000))
    assert hl.Repository.open(everything()).verify() == expected
    assert len(spilled) > 2


@pytest.mark.parametrize(
    ("op", "key"),
    [
        ("get", "hangarlake.json"),
        ("list", "refs/*"),
        ("get", "refs/*"),
        ("get", "commits/*"),
        ("get", "history/*"),
        ("get", "catalogs/*"),
        ("get", "trees/*"),
        ("list", "packs/*"),
        ("get", "packs/*"),
    ],
)
def test_a_store_that_fails_is_no_damage(op: str, key: str) -> None:
    store = FaultyStore(copy_of(everything()))
    repo = hl.Repository.open(store)
    store.plan.append(Fault("error", op, key))
    with pytest.raises(hl.StorageError, match="injected"):
        repo.verify()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_edits_leave_a_sound_repository(data: st.DataObject) -> None:
    repo = hl.Repository.create(MemoryStore())
    with repo.checkout("main", write=True, staging="memory") as w:
        w.add_ndarray_column("x", (None,), "u1", variable_shape=True)
        w.add_str_column("s")
        w.commit("Add columns")
    keys = st.one_of(
        st.integers(-300, 300), st.text("ab\xff", min_size=1, max_size=3).map(lambda s: s.replace("\xff", "z"))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        with repo.checkout("main", write=True, staging="memory") as w:
            for key in data.draw(st.lists(keys, max_size=40)):
                w["x", key] = noise(hash(key) % 1000, hash(key) % 4)
                w["s", key] = str(key)
            for key in data.draw(st.lists(keys, max_size=10)):
                if key in w["x"]:
                    del w["x"][key]
            if data.draw(st.booleans()):
                start = data.draw(st.integers(0, 2000))
                w["x"].extend(range(start, start + 400), [noise(i, 2) for i in range(400)])
            w.commit("Edit", allow_empty=True)
    assert repo.verify().problems == ()
