"""Random operations on random branches, against a model of nested dicts: every commit reads back as the model says, ever after."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import hangarlake as hl
from hangarlake import Repository, WriteCheckout
from hangarlake.storage import LocalStore, MemoryStore, ObjectStore
from tests.history.worlds import World, add_column, commit, merged, read, value_of, world_at

COLUMNS = ("a", "b", "v", "n", "s")
keys = st.integers(0, 4)
numbers = st.integers(1, 4)


def copied(world: World) -> World:
    return {name: dict(samples) for name, samples in world.items()}


class HistoryMachine(RuleBasedStateMachine):
    """Commits, branches, merges, reverts, resets and reopenings of one repository."""

    def __init__(self, store: ObjectStore, cache: Path) -> None:
        super().__init__()
        self.store = store
        self.cache = cache
        self.repo = Repository.create(store, cache_dir=cache)
        root = self.repo.resolve()
        #: What every commit holds, and its parents; in the order in which they were made, for ids follow the clock.
        self.worlds: dict[str, World] = {root.id: {}}
        self.parents: dict[str, tuple[str, ...]] = {root.id: ()}
        self.branches: dict[str, str] = {"main": root.id}
        #: What is staged on main, if anything is: the world, and the commit that it began from.
        self.staged: tuple[World, str] | None = None

    def ancestors(self, commit_id: str) -> set[str]:
        found: set[str] = set()
        todo = [commit_id]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += self.parents[each]
        return found

    def bases(self, a: str, b: str) -> list[str]:
        common = self.ancestors(a) & self.ancestors(b)
        return [each for each in common if not any(each in self.ancestors(c) for c in common - {each})]

    def take(self, branch: str, made: hl.Commit, world: World) -> None:
        self.worlds[made.id], self.parents[made.id] = world, made.parents
        self.branches[branch] = made.id

    @initialize()
    def begin(self) -> None:
        world: World = {"a": {0: 1, 1: 1}, "s": {0: 1}}
        self.take("main", commit(self.repo, "main", world), world)

    # ---- changing ---------------------------------------------------------------------------------------------------

    def edit(self, w: WriteCheckout, world: World, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, 4))):
            name = data.draw(st.sampled_from(COLUMNS))
            if name not in world:
                add_column(w, name)
                world[name] = {}
            elif data.draw(st.integers(0, 7)) == 0:
                w.remove(name)
                del world[name]
                continue
            key: Any = data.draw(keys)
            if name == "n":
                key = (key % 2, key)
            if key in world[name] and data.draw(st.booleans()):
                del w[name][key]
                del world[name][key]
            else:
                number = data.draw(numbers)
                w[name][key] = value_of(name, number)
                world[name][key] = number

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        branch = data.draw(st.sampled_from(sorted(self.branches)))
        world = copied(self.worlds[self.branches[branch]])
        with self.repo.checkout(branch, write=True, staging="memory") as w:
            self.edit(w, world, data)
            assert read(w) == world
            self.take(branch, w.commit("change", allow_empty=True), world)

    @precondition(lambda self: self.staged is None)
    @rule(data=st.data())
    def stage_for_later(self, data: st.DataObject) -> None:
        world = copied(self.worlds[self.branches["main"]])
        with self.repo.checkout("main", write=True) as w:
            self.edit(w, world, data)
        self.staged = world, self.branches["main"]

    @precondition(lambda self: self.staged is not None)
    @rule()
    def commit_what_was_staged(self) -> None:
        assert self.staged is not None
        (world, base), head = self.staged, self.branches["main"]
        self.staged = None
        expected, conflicts = merged(self.worlds[base], self.worlds[head], world)
        outcome = None
        with self.repo.checkout("main", write=True) as w:
            try:
                self.take("main", w.commit("staged before"), expected)
            except (hl.NothingToCommitError, hl.CommitConflictError) as error:
                outcome = type(error)
                w.reset()
        assert (outcome is hl.CommitConflictError) == bool(conflicts)
        if outcome is hl.NothingToCommitError:
            assert expected == self.worlds[head]

    @rule(name=st.sampled_from(["x", "y", "z"]), data=st.data())
    def branch(self, name: str, data: st.DataObject) -> None:
        at = data.draw(st.sampled_from(list(self.worlds)))
        if name in self.branches:
            self.repo.reset_branch(name, at)
        else:
            self.repo.create_branch(name, at)
        self.branches[name] = at

    @rule(data=st.data(), resolve=st.sampled_from([None, "ours", "theirs"]), message=st.sampled_from([None, "m"]))
    def merge(self, data: st.DataObject, resolve: Any, message: str | None) -> None:
        into, source = (data.draw(st.sampled_from(sorted(self.branches))) for _ in range(2))
        ours, theirs = self.branches[into], self.branches[source]
        bases = self.bases(ours, theirs)
        assert set(self.repo._session.graph.merge_bases(ours, theirs)) == set(bases)
        expected, conflicts = merged(
            self.worlds[bases[0]], self.worlds[ours], self.worlds[theirs], lambda name, key: resolve or "ours"
        )
        found = None
        try:
            made = self.repo.merge(source, into, resolve=resolve, message=message)
        except hl.MergeConflictError as error:
            found = {(conflict.node, conflict.key) for conflict in error.conflicts}
        if found is not None:
            assert resolve is None
            assert len(bases) > 1 or found == conflicts
            return
        if theirs in self.ancestors(ours):
            assert made.id == ours
        elif ours in self.ancestors(theirs) and message is None:
            assert made.id == theirs
            self.branches[into] = theirs
        else:
            assert made.parents == (ours, theirs)
            if len(bases) == 1:
                assert resolve is not None or not conflicts
            else:
                # Several bases are merged first; whatever comes of it lies between the two sides.
                expected = world_at(self.repo, made)
                one, two = self.worlds[ours], self.worlds[theirs]
                for name, samples in expected.items():
                    for key, number in samples.items():
                        assert number in (one.get(name, {}).get(key), two.get(name, {}).get(key))
                assert all(expected.get(name) == one[name] for name in one if one[name] == two.get(name))
            self.take(into, made, expected)

    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        branch = data.draw(st.sampled_from(sorted(self.branches)))
        head = self.branches[branch]
        target = data.draw(st.sampled_from([each for each in self.worlds if len(self.parents[each]) == 1]))
        before = self.worlds[self.parents[target][0]]
        expected, _ = merged(self.worlds[target], self.worlds[head], before, lambda name, key: "theirs")
        try:
            made = self.repo.revert(target, branch=branch, resolve="theirs")
        except hl.NothingToCommitError:
            assert expected == self.worlds[head]
        else:
            self.take(branch, made, expected)

    @rule(data=st.data())
    def cherry_pick(self, data: st.DataObject) -> None:
        branch = data.draw(st.sampled_from(sorted(self.branches)))
        head = self.branches[branch]
        target = data.draw(st.sampled_from([each for each in self.worlds if len(self.parents[each]) == 1]))
        before = self.worlds[self.parents[target][0]]
        expected, _ = merged(before, self.worlds[head], self.worlds[target])
        try:
            made = self.repo.cherry_pick(target, branch=branch, resolve="ours")
        except hl.NothingToCommitError:
            assert expected == self.worlds[head]
        else:
            self.take(branch, made, expected)

    @rule(steps=st.integers(1, 3))
    def go_back_by_reflog(self, steps: int) -> None:
        entries = list(self.repo.reflog("main"))
        assert entries[0].commit == self.branches["main"]
        at = entries[min(steps, len(entries) - 1)].commit
        assert at is not None
        self.repo.reset_branch("main", at)
        self.branches["main"] = at

    @rule()
    def reopen(self) -> None:
        self.repo.close()
        self.repo = Repository.open(self.store, cache_dir=self.cache)

    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        old, new = (data.draw(st.sampled_from(list(self.worlds))) for _ in range(2))
        diff = self.repo.diff(old, new)
        one, two = self.worlds[old], self.worlds[new]
        assert diff.is_empty == (one == two)
        for name, change in diff.columns.items():
            a, b = one.get(name, {}), two.get(name, {})
            assert set(change.added) == set(b) - set(a)
            assert set(change.removed) == set(a) - set(b)
            assert set(change.modified) == {key for key in {*a} & {*b} if a[key] != b[key]}

    # ---- looking ----------------------------------------------------------------------------------------------------

    @invariant()
    def branches_stand_where_they_should(self) -> None:
        assert self.repo.branches == self.branches

    def teardown(self) -> None:
        fresh = Repository.open(self.store, cache_dir=self.cache / "fresh")
        for commit_id, world in self.worlds.items():
            assert world_at(fresh, commit_id) == world
        for branch, tip in self.branches.items():
            log = [each.id for each in fresh.log(branch)]
            assert len(log) == len(set(log))
            assert set(log) == self.ancestors(tip)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_history_is_that_of_the_model(kind: str, tmp_path: Path) -> None:
    def machine() -> HistoryMachine:
        place = Path(tempfile.mkdtemp(dir=tmp_path))
        store: ObjectStore = MemoryStore() if kind == "memory" else LocalStore(place / "repo")
        return HistoryMachine(store, place / "cache")

    examples = 25 if kind == "memory" else 12
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=18, deadline=None))
    shutil.rmtree(tmp_path, ignore_errors=True)
