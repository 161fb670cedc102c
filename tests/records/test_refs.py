from __future__ import annotations

import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.errors import (
    AccessDeniedError,
    BranchExistsError,
    CorruptionError,
    RevisionNotFoundError,
    StorageError,
    UnsafeStoreError,
)
from hangarlake.records.movements import hint_key, movement_key, tag_key
from hangarlake.records.refs import RefMovedError, Refs
from hangarlake.storage.memory import MemoryStore
from tests.records.histories import AUTHOR, T0, CountingStore, FaultyStore, make_commit

COMMIT, RECORD = make_commit(message="first")
OTHER, OTHER_RECORD = make_commit(message="other")


def move(refs, expected, branch="main", commit=COMMIT, record=RECORD, operation="commit", **kwargs):
    return refs.move(
        branch,
        expected,
        commit=commit,
        record=record if commit else None,
        operation=operation,
        author=AUTHOR,
        message=kwargs.pop("message", "moved"),
        **kwargs,
    )


def delete(refs, expected, branch="main"):
    return move(refs, expected, branch, commit=None, operation="delete")


def grow(refs, length, branch="main"):
    movement = None
    for _ in range(length):
        movement = move(refs, movement, branch)
    refs.flush_hints()
    return movement


def tag(refs, name="v1", commit=COMMIT, record=RECORD):
    return refs.create_tag(name, commit=commit, author=AUTHOR, message="", record=record)


# ---- moving and reading ----------------------------------------------------------------------------------------------


def test_a_branch_that_never_was_has_no_head_and_an_empty_log():
    refs = Refs(MemoryStore())
    assert refs.head("main") is None
    assert list(refs.log("main")) == []
    assert refs.branches() == {}


def test_a_movement_is_the_head_for_everybody():
    store = MemoryStore()
    moved = move(Refs(store), None, operation="create", time=T0)
    assert Refs(store).head("main") == moved
    assert (moved.seq, moved.commit, moved.previous, moved.operation, moved.time) == (1, COMMIT, None, "create", T0)
    assert Refs(store).branches() == {"main": COMMIT}


def test_a_movement_carries_what_readers_need_next():
    store = MemoryStore()
    nodes = {"packs": [], "index": [], "data": ""}
    move(Refs(store), None, physical={"roots": {}, "encodings": {}}, nodes=nodes)
    head = Refs(store).head("main")
    assert (head.physical, head.nodes, head.record) == ({"roots": {}, "encodings": {}}, nodes, RECORD.decode())


def test_previous_is_where_the_branch_stood():
    refs = Refs(MemoryStore())
    second = move(refs, move(refs, None), commit=OTHER, record=OTHER_RECORD)
    assert (second.seq, second.previous) == (2, COMMIT)


def test_the_log_is_newest_first_and_complete():
    refs = Refs(MemoryStore())
    grow(refs, 150)
    assert [movement.seq for movement in refs.log("main")] == list(range(150, 0, -1))


def test_a_deleted_branch_goes_on_counting_when_it_is_created_again():
    store = MemoryStore()
    refs = Refs(store)
    gone = delete(refs, move(refs, None))
    assert gone.deleted
    assert refs.branches() == {}
    assert refs.names() == ["main"]
    again = move(refs, refs.head("main"), operation="create")
    assert (again.seq, again.previous) == (3, None)
    assert Refs(store).branches() == {"main": COMMIT}
    assert [movement.operation for movement in refs.log("main")] == ["create", "delete", "commit"]


def test_branches_of_odd_names_live_side_by_side():
    store = MemoryStore()
    refs = Refs(store)
    names = sorted(["main", "origin/main", "größe", "a", "a/b", "a.b", "日本"])
    for number, name in enumerate(names, 1):
        grow(refs, number, name)
    store.put("refs/branches/%2e%2e/0000000000000001.json", b"")
    assert list(Refs(store).branches()) == names
    assert [movement.seq for movement in Refs(store).heads().values()] == list(range(1, len(names) + 1))


def test_a_branch_cannot_be_moved_on_from_another_branchs_movement():
    refs = Refs(MemoryStore())
    with pytest.raises(ValueError, match="cannot move 'b'"):
        move(refs, move(refs, None, "a"), "b")


@pytest.mark.parametrize("name", ["", "a b", "../x", "HEAD", None])
def test_every_method_checks_the_name(name):
    refs = Refs(MemoryStore())
    calls = [
        lambda: refs.head(name),
        lambda: list(refs.log(name)),
        lambda: move(refs, None, name),
        lambda: refs.movement(name, 1),
        lambda: tag(refs, name),
        lambda: refs.read_tag(name),
        lambda: refs.delete_tag(name),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="cannot be the name"):
            call()


def test_the_movement_in_force_is_the_newest_that_is_not_later():
    refs = Refs(MemoryStore())
    movement = None
    # The clock of the third writer is an hour slow.
    for hours in (0, 10, 9, 20):
        movement = move(refs, movement, time=T0 + timedelta(hours=hours))
    in_force = [refs.at("main", T0 + timedelta(hours=hours)) for hours in (-1, 0, 5, 9.5, 15, 20, 99)]
    assert [movement and movement.seq for movement in in_force] == [None, 1, 1, 3, 3, 4, 4]
    with pytest.raises(ValueError, match="time zone"):
        refs.at("main", T0.replace(tzinfo=None))


def test_a_damaged_head_is_noticed_and_a_damaged_older_movement_in_the_log():
    store = MemoryStore()
    grow(Refs(store), 3)
    data = bytearray(store.get(movement_key("main", 2)))
    data[40] ^= 1
    store.put(movement_key("main", 2), bytes(data))
    assert Refs(store).head("main").seq == 3
    with pytest.raises(CorruptionError, match="0000000000000002"):
        list(Refs(store).log("main"))
    store.put(movement_key("main", 3), bytes(data))
    with pytest.raises(CorruptionError, match="0000000000000003"):
        Refs(store).head("main")


def test_a_gap_in_a_log_is_noticed():
    store = MemoryStore()
    grow(Refs(store), 9)
    store.delete([movement_key("main", 2)])
    with pytest.raises(CorruptionError, match="gap"):
        list(Refs(store).log("main"))


# ---- hints -----------------------------------------------------------------------------------------------------------

HINTS = st.one_of(
    st.none(),
    st.binary(max_size=30),
    st.integers(-3, 60).map(lambda seq: b'{"commit":null,"seq":%d}' % seq),
    st.sampled_from([b'{"seq":9999999999999998}', b'{"seq":1e300}', b'{"seq":true}', b"{}", b"[]", b"null"]),
)
LONG = MemoryStore()
grow(Refs(LONG), 40)


@settings(deadline=None)
@given(HINTS)
def test_no_hint_changes_what_is_read(hint):
    assert Refs(LONG).head("main", hint=hint).seq == 40
    assert Refs(LONG).head("absent", hint=hint) is None


@settings(deadline=None)
@given(HINTS)
def test_no_stored_hint_changes_what_is_read(hint):
    if hint is None:
        LONG.delete([hint_key("main")])
    else:
        LONG.put(hint_key("main"), hint)
    assert Refs(LONG).heads()["main"].seq == 40


def test_a_head_is_read_in_two_steps_and_in_one_when_it_was_seen_before():
    store = CountingStore()
    grow(Refs(store), 20)
    refs = Refs(store)
    store.reads.clear()
    refs.head("main")
    assert store.reads[0] == hint_key("main")
    assert sorted(store.reads[1:]) == [movement_key("main", 20), movement_key("main", 21)]
    store.reads.clear()
    refs.head("main")
    assert sorted(store.reads) == [movement_key("main", 20), movement_key("main", 21)]


def test_a_prefetched_hint_is_not_fetched_again():
    store = CountingStore()
    grow(Refs(store), 5)
    hint = store.get(hint_key("main"))
    store.reads.clear()
    assert Refs(store).head("main", hint=hint).seq == 5
    assert sorted(store.reads) == [movement_key("main", 5), movement_key("main", 6)]


def test_the_hint_names_the_newest_movement_when_it_is_flushed():
    store = MemoryStore()
    refs = Refs(store)
    grow(refs, 30)
    refs.close()
    assert store.get(hint_key("main")) == b'{"commit":"%s","seq":30}' % COMMIT.encode()


def test_a_slower_thread_does_not_turn_the_hint_back():
    class Overtaking(MemoryStore):
        def put_new(self, key, data):
            created = super().put_new(key, data)
            if key == movement_key("main", 1):
                # Before the first movement returns, the second is made and its hint written.
                move(refs, Refs(self).head("main"))
                refs.flush_hints()
            return created

    store = Overtaking()
    refs = Refs(store)
    move(refs, None)
    refs.flush_hints()
    assert b'"seq":2' in store.get(hint_key("main"))


def test_a_hint_that_cannot_be_written_is_no_error():
    class NoHints(MemoryStore):
        def put(self, key, data):
            raise StorageError("read-only")

    refs = Refs(NoHints())
    grow(refs, 3)
    assert refs.head("main").seq == 3


def test_refs_pickle_to_their_store():
    refs = Refs(MemoryStore())
    grow(refs, 3)
    assert pickle.loads(pickle.dumps(refs)).head("main").seq == 3


# ---- conflicts and lost answers --------------------------------------------------------------------------------------


def test_a_branch_that_was_moved_first_is_told_with_the_movement_that_won():
    store = MemoryStore()
    ours, theirs = Refs(store), Refs(store)
    base = move(ours, None)
    won = move(theirs, base, commit=OTHER, record=OTHER_RECORD)
    with pytest.raises(RefMovedError, match="movement 2") as caught:
        move(ours, base)
    assert caught.value.movement == won
    assert ours.head("main") == won
    assert pickle.loads(pickle.dumps(caught.value)).movement == won


def test_creating_a_branch_that_is_there_is_told_as_well():
    refs = Refs(MemoryStore())
    move(refs, None)
    with pytest.raises(RefMovedError):
        move(refs, None)


@pytest.mark.parametrize("fate", ["lost", "retried", "dropped"])
def test_a_lost_answer_is_a_success(fate):
    fates = iter([fate])
    store = FaultyStore(lambda key: next(fates, "ok"))
    moved = move(Refs(store), None)
    assert Refs(store).head("main") == moved
    assert moved.seq == 1


@pytest.mark.parametrize("fate", ["lost", "retried", "dropped"])
def test_a_lost_answer_is_a_conflict_where_somebody_else_won(fate):
    store = FaultyStore(lambda key: fate if armed else "ok")
    armed = False
    won = move(Refs(store), None)
    armed = True
    with pytest.raises(RefMovedError) as caught:
        move(Refs(store), None, commit=OTHER, record=OTHER_RECORD)
    assert caught.value.movement == won


def test_an_unknown_outcome_is_neither_and_the_repeated_call_recognises_itself():
    store = FaultyStore(lambda key: "lost")
    refs = Refs(store)
    store.fail_reads = 10
    with pytest.raises(StorageError, match="not known") as caught:
        move(refs, None)
    assert not isinstance(caught.value, RefMovedError)
    store.fail_reads = 0
    repeated = move(refs, None)
    assert (repeated.seq, repeated.commit) == (1, COMMIT)
    assert Refs(store).head("main") == repeated


def test_a_store_that_drops_everything_is_a_storage_error_and_nothing_moved():
    store = FaultyStore(lambda key: "dropped")
    with pytest.raises(StorageError, match="not known"):
        move(Refs(store), None)
    assert Refs(store).head("main") is None


def test_an_unsafe_store_is_not_tried_again():
    class Unsafe(MemoryStore):
        def put_new(self, key, data):
            raise UnsafeStoreError("ignores the condition")

    with pytest.raises(UnsafeStoreError):
        move(Refs(Unsafe()), None)


@pytest.mark.parametrize("first", [[], [StorageError("lost")]])
def test_a_refusal_is_definite_unless_an_earlier_attempt_may_have_got_through(first, caplog):
    failures = [*first, *[AccessDeniedError("access denied")] * 9]
    reads = []

    class Refusing(MemoryStore):
        def put_new(self, key, data):
            raise failures.pop(0)

        def get(self, key):
            reads.append(key)
            return super().get(key)

    expected = pytest.raises(StorageError, match="not known") if first else pytest.raises(AccessDeniedError)
    with caplog.at_level("INFO"), expected as caught:
        move(Refs(Refusing()), None)
    assert isinstance(caught.value, AccessDeniedError) is not bool(first)
    assert (len(failures), len(reads)) == ((6, 4) if first else (8, 0))
    assert caplog.records == []


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_acknowledged_movement_of_many_writers_is_in_the_log_once(random_source):
    writers, each = 6, 12
    choice = random.Random(random_source.random())
    store = FaultyStore(lambda key: choice.choice(["ok", "ok", "lost", "retried", "dropped"]))
    shared = Refs(store)
    ready = threading.Barrier(writers)
    lost_to = []

    def work(number):
        refs = shared if number % 2 else Refs(store)
        done = []
        ready.wait()
        while len(done) < each:
            head = refs.head("main")
            for attempt in range(200):
                try:
                    moved = move(refs, head, message=f"{number}/{len(done)}/{attempt}")
                except RefMovedError as conflict:
                    head = conflict.movement
                    lost_to.append((str(number), head.message.split("/")[0]))
                except StorageError:
                    head = refs.head("main")
                else:
                    done.append(moved)
                    break
        refs.close()
        return done

    with ThreadPoolExecutor(writers) as pool:
        acknowledged = [moved for done in pool.map(work, range(writers)) for moved in done]
    log = list(Refs(store).log("main"))
    assert [movement.seq for movement in log] == list(range(len(log), 0, -1))
    assert len({movement.write_id for movement in acknowledged}) == len(acknowledged) == writers * each
    assert {movement.write_id for movement in acknowledged} <= {movement.write_id for movement in log}
    assert not [pair for pair in lost_to if pair[0] == pair[1]]


# ---- tags ------------------------------------------------------------------------------------------------------------


def test_tags_are_created_read_listed_and_deleted():
    store = MemoryStore()
    refs = Refs(store)
    made = tag(refs, "v1.0")
    tag(refs, "release/2", OTHER, OTHER_RECORD)
    assert Refs(store).read_tag("v1.0") == made
    assert Refs(store).tags() == {"release/2": OTHER, "v1.0": COMMIT}
    assert refs.tag_names() == ["release/2", "v1.0"]
    refs.delete_tag("v1.0")
    assert refs.read_tag("v1.0") is None
    assert refs.tags() == {"release/2": OTHER}
    with pytest.raises(RevisionNotFoundError, match=r"no tag 'v1\.0'"):
        refs.delete_tag("v1.0")


def test_a_tag_is_never_replaced():
    refs = Refs(MemoryStore())
    tag(refs)
    with pytest.raises(BranchExistsError, match="'v1' already"):
        tag(refs, "v1", OTHER, OTHER_RECORD)
    assert refs.tags() == {"v1": COMMIT}


@pytest.mark.parametrize("fate", ["lost", "retried", "dropped"])
def test_a_lost_answer_to_a_tag_is_a_success(fate):
    fates = iter([fate])
    store = FaultyStore(lambda key: next(fates, "ok"))
    assert tag(Refs(store)) == Refs(store).read_tag("v1")


def test_a_damaged_tag_is_noticed_and_odd_keys_are_ignored():
    store = MemoryStore()
    refs = Refs(store)
    tag(refs)
    store.put("refs/tags/%zz.json", b"x")
    store.put("refs/tags/readme.txt", b"x")
    assert refs.tags() == {"v1": COMMIT}
    store.put(tag_key("v1"), store.get(tag_key("v1"))[:-1])
    with pytest.raises(CorruptionError, match="refs/tags/v1"):
        refs.tags()


def test_fields_that_a_movement_or_tag_does_not_have_are_refused():
    store = MemoryStore()
    refs = Refs(store)
    for call in (
        lambda: refs.move("main", None, commit=COMMIT, operation="create", author=AUTHOR, message="", recrod=RECORD),
        lambda: refs.create_tag("v1", commit=COMMIT, author=AUTHOR, message="", record=RECORD, seq=3),
        lambda: refs.create_tag("v1", commit=COMMIT, record=RECORD),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ValueError, match="record"):
        refs.create_tag("v1", commit=COMMIT, author=AUTHOR, message="")
    assert list(store.list("")) == []
