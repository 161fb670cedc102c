"""Three clones of one repository that commit, push, fetch, pull and fetch data at random: all converge, nothing is lost."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import hangarlake as hl
from hangarlake.storage import MemoryStore
from tests.transfer.places import SHAPE, check_place, contents, image

CLONES = 3
clones = st.integers(0, CLONES - 1)
keys = st.integers(0, 400)
values = st.integers(0, 8)


class Clones(RuleBasedStateMachine):
    """The model keeps, for every commit, what its images have to be, whoever looks at them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("HANGARLAKE_CONFIG_DIR", str(self.folder / "config"))
        self.model: dict[str, dict[int, bytes]] = {}
        self.made: set[str] = set()
        self.branches = 0

    @initialize(data=st.lists(st.booleans(), min_size=CLONES, max_size=CLONES))
    def begin(self, data: list[bool]) -> None:
        self.store = MemoryStore()
        self.origin = hl.Repository.create(self.store, author="O <o@example.org>", cache_dir=self.folder / "origin")
        with self.origin.checkout("main", write=True, staging="memory") as w:
            w.add_ndarray_column("images", shape=SHAPE, dtype="u1").extend(
                range(300), [image(1_000 + i) for i in range(300)]
            )
            first = w.commit("first")
        self.note(self.origin, first)
        self.repos = [
            hl.Repository.clone(
                self.store, MemoryStore(), author=f"C{i} <c@example.org>", cache_dir=self.folder / f"c{i}", data=data[i]
            )
            for i in range(CLONES)
        ]

    def note(self, repo: hl.Repository, commit: hl.Commit) -> None:
        self.model[commit.id] = contents(repo, commit.id)
        self.made.add(commit.id)

    @rule(i=clones, changes=st.dictionaries(keys, values | st.none(), min_size=1, max_size=4))
    def commit(self, i: int, changes: dict[int, int | None]) -> None:
        repo = self.repos[i]
        head = repo.resolve("main").id
        expected = dict(self.model[head])
        with repo.checkout("main", write=True, staging="memory") as w:
            for key, value in changes.items():
                if value is not None:
                    w["images", key] = image(value)
                    expected[key] = image(value).tobytes()
                elif key in expected:
                    del w["images", key]
                    del expected[key]
            if expected == self.model[head]:
                return
            commit = w.commit("random")
        self.model[commit.id] = expected
        self.made.add(commit.id)

    @rule(i=clones)
    def push(self, i: int) -> None:
        repo = self.repos[i]
        before, mine = self.origin.resolve("main").id, repo.resolve("main").id
        try:
            repo.push()
        except hl.PushRejectedError:
            # Right only if something would have been left behind.
            repo.fetch()
            assert repo.merge_base(before, mine) != self.origin.resolve(before)
            assert self.origin.resolve("main").id == before
        else:
            assert self.origin.resolve("main").id == mine

    @rule(i=clones)
    def fetch(self, i: int) -> None:
        repo = self.repos[i]
        before = repo.resolve("main").id
        assert repo.fetch()["origin/main"] == self.origin.resolve("main").id
        assert repo.resolve("main").id == before

    @rule(i=clones)
    def pull(self, i: int) -> None:
        repo = self.repos[i]
        ours, theirs = repo.resolve("main").id, self.origin.resolve("main").id
        try:
            commit = repo.pull()
        except hl.MergeConflictError:
            assert repo.resolve("main").id == ours
            commit = repo.merge("origin/main", "main", resolve="theirs")
        if commit.id in self.model:
            return
        assert set(commit.parents) == {ours, theirs}
        merged, sides = contents(repo, commit.id), (self.model[ours], self.model[theirs])
        for key in {*merged, *sides[0], *sides[1]}:
            assert merged.get(key) in (sides[0].get(key), sides[1].get(key))
        self.model[commit.id] = merged
        self.made.add(commit.id)

    @rule(i=clones, wanted=st.sets(keys, min_size=1, max_size=5))
    def fetch_data(self, i: int, wanted: set[int]) -> None:
        repo = self.repos[i]
        head = repo.resolve("origin/main").id
        there = [key for key in wanted if key in self.model[head]]
        repo.fetch_data("origin/main", nodes=["images"], keys=there)
        with repo.checkout("origin/main", read_through=False) as co:
            for key in there:
                assert co["images", key].tobytes() == self.model[head][key]

    @precondition(lambda self: self.branches < 3)
    @rule(i=clones)
    def share_a_branch(self, i: int) -> None:
        repo, name = self.repos[i], f"branch-{self.branches}"
        self.branches += 1
        repo.create_branch(name)
        repo.push(branch=name)
        assert self.origin.resolve(name).id == repo.resolve(name).id

    def teardown(self) -> None:
        try:
            if hasattr(self, "repos"):
                self.converge()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder, ignore_errors=True)

    def converge(self) -> None:
        for i in range(CLONES):
            self.pull(i)
            self.repos[i].push()
        for i in range(CLONES):
            self.pull(i)
        heads = {repo.resolve("main").id for repo in [self.origin, *self.repos]}
        assert len(heads) == 1
        head = heads.pop()
        log = {commit.id for commit in self.origin.log()}
        assert self.made <= log
        assert check_place(self.store, data=True) >= log
        for repo in self.repos:
            assert check_place(repo._session.store) >= log
            assert contents(repo, head) == self.model[head]
        for commit_id in sorted(self.made)[:4]:
            assert contents(self.origin, commit_id) == self.model[commit_id]


Clones.TestCase.settings = settings(
    max_examples=15, stateful_step_count=18, deadline=None, suppress_health_check=list(HealthCheck)
)
TestClones = Clones.TestCase
