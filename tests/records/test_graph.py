from __future__ import annotations

import json
import logging
import pickle
import random
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.errors import CorruptionError, RevisionNotFoundError
from hangarlake.records.canonical import canonical_json, digest
from hangarlake.records.commits import commit_key
from hangarlake.records.graph import Graph, segment_due, write_segment
from hangarlake.records.history import segment_key
from hangarlake.records.index import Index
from tests.records.histories import (
    T0,
    CountingStore,
    History,
    backwards,
    build_history,
    forwards,
    standing_still,
)

CLOCKS = [forwards, backwards, standing_still, lambda number: T0 + timedelta(hours=(number * 7919) % 13)]


@st.composite
def shapes(draw):
    """Parents of each commit of a random history: several roots, octopus merges, long and short sides."""
    count = draw(st.integers(1, 16))
    return [sorted(draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else [] for number in range(count)]


def history_of(shape, clock=standing_still):
    return build_history(shape, clock)


# ---- against the model -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(shapes(), st.sampled_from(CLOCKS))
def test_merge_bases_and_ancestry_are_the_models_whatever_the_clocks_say(shape, clock):
    history = history_of(shape, clock)
    graph = Graph(history.store)
    for a in range(len(shape)):
        ancestors = history.ancestors(a)
        for b in range(len(shape)):
            expected = history.best_common_ancestors(a, b)
            assert graph.merge_bases(history.ids[a], history.ids[b]) == expected
            picked = graph.merge_base(history.ids[a], history.ids[b])
            assert picked == graph.merge_base(history.ids[b], history.ids[a])
            assert picked in expected if expected else picked is None
            assert graph.is_ancestor(history.ids[b], history.ids[a]) == (b in ancestors)


@settings(deadline=None)
@given(shapes(), st.sampled_from(CLOCKS), st.data())
def test_a_log_holds_every_ancestor_once_and_children_before_parents(shape, clock, data):
    history = history_of(shape, clock)
    tip = data.draw(st.integers(0, len(shape) - 1))
    log = list(Graph(history.store).log(history.ids[tip]))
    place = {commit.id: number for number, commit in enumerate(log)}
    assert len(place) == len(log)
    assert set(place) == {history.ids[number] for number in history.ancestors(tip)}
    assert all(place[commit.id] < place[parent] for commit in log for parent in commit.parents)
    assert [commit.generation for commit in log] == sorted((commit.generation for commit in log), reverse=True)


@settings(deadline=None)
@given(shapes(), st.data())
def test_a_walk_holds_what_the_tips_reach_and_the_excluded_do_not(shape, data):
    history = history_of(shape)
    numbers = st.lists(st.integers(0, len(shape) - 1), max_size=3)
    tips, exclude = data.draw(numbers), data.draw(numbers)
    walked = [
        commit.id
        for commit in Graph(history.store).walk(
            [history.ids[number] for number in tips], exclude=[history.ids[number] for number in exclude]
        )
    ]
    reach = set().union(*map(history.ancestors, tips)) - set().union(*map(history.ancestors, exclude))
    assert sorted(walked) == sorted(history.ids[number] for number in reach)


@settings(deadline=None)
@given(shapes())
def test_a_graph_reads_the_same_from_objects_from_the_index_and_from_memory(shape):
    history = history_of(shape)
    index = Index(None)
    first = Graph(history.store, index)
    tips = history.ids[-3:]
    walked = [commit.to_dict() for commit in first.walk(tips)]
    assert [commit.to_dict() for commit in first.walk(tips)] == walked
    empty = CountingStore()
    assert [commit.to_dict() for commit in Graph(empty, index).walk(tips)] == walked
    assert empty.reads == []


# ---- histories with names --------------------------------------------------------------------------------------------


def test_the_merge_base_of_a_diamond_is_where_it_parts():
    history = build_history([[], [0], [0], [1, 2]])
    graph = Graph(history.store)
    assert graph.merge_base(history.ids[1], history.ids[2]) == history.ids[0]
    assert graph.merge_bases(history.ids[3], history.ids[1]) == [history.ids[1]]


def test_a_criss_cross_has_two_merge_bases_and_everybody_picks_the_same():
    history = build_history([[], [0], [0], [1, 2], [1, 2], [3], [4]])
    graph = Graph(history.store)
    bases = sorted([history.ids[1], history.ids[2]])
    assert graph.merge_bases(history.ids[5], history.ids[6]) == bases
    assert (
        graph.merge_base(history.ids[5], history.ids[6]) == bases[0] == graph.merge_base(history.ids[6], history.ids[5])
    )


def test_unrelated_histories_have_no_merge_base():
    history = build_history([[], [0], [], [2]])
    graph = Graph(history.store)
    assert graph.merge_bases(history.ids[1], history.ids[3]) == []
    assert graph.merge_base(history.ids[1], history.ids[3]) is None


def test_a_long_side_branch_does_not_hide_the_better_base():
    # From the old base a long branch is merged late: by distance the root is near, by ancestry commit 5 is better.
    history = History()
    main = history.chain(6)
    side = history.chain(40, 0)
    left = history.commit(main, side)
    right = history.commit(main)
    assert Graph(history.store).merge_bases(history.ids[left], history.ids[right]) == [history.ids[main]]


def test_a_log_shows_both_parents_of_every_merge():
    history = build_history([[], [0], [0], [1, 2], [3], [3], [5, 4]])
    assert {commit.id for commit in Graph(history.store).log(history.ids[6])} == set(history.ids)


@pytest.mark.parametrize(("limit", "count"), [(None, 5), (0, 0), (-1, 0), (2, 2), (9, 5)])
def test_a_log_can_be_limited(limit, count):
    history = History()
    history.chain(5)
    assert len(list(Graph(history.store).log(history.ids[4], limit))) == count


def test_among_commits_of_one_generation_later_ones_are_shown_first():
    history = build_history([[], [0], [0], [0], [1, 2, 3]], forwards)
    assert [commit.message for commit in Graph(history.store).log(history.ids[4])] == [
        f"commit {number}" for number in (4, 3, 2, 1, 0)
    ]


def test_first_parents_are_followed_by_number():
    history = build_history([[], [0], [0], [1, 2]])
    graph = Graph(history.store)
    found = [graph.first_parent(history.ids[3], steps) for steps in range(4)]
    assert [commit and commit.id for commit in found] == [history.ids[3], history.ids[1], history.ids[0], None]


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_commits_come_in_the_order_asked_for_and_a_missing_one_is_named():
    history = History()
    history.chain(3)
    graph = Graph(history.store)
    assert [commit.id for commit in graph.commits(reversed(history.ids))] == history.ids[::-1]
    with pytest.raises(RevisionNotFoundError, match="f" * 64):
        graph.commits([history.ids[0], "f" * 64])
    with pytest.raises(ValueError, match="id of an object in commits/"):
        graph.commit("../secret")


def test_a_commit_that_came_with_a_ref_is_not_read_again():
    history = History(CountingStore())
    history.chain(1)
    graph = Graph(history.store)
    graph.add(history.ids[0], history.records[0].decode())
    assert graph.commit(history.ids[0]).id == history.ids[0]
    assert history.store.reads == []


def test_a_record_that_is_anothers_is_not_taken_in():
    history = History()
    history.chain(2)
    with pytest.raises(CorruptionError, match=history.ids[0]):
        Graph(history.store).add(history.ids[0], history.records[1])


def test_a_damaged_commit_is_noticed():
    history = History()
    history.chain(3)
    history.store.put(commit_key(history.ids[1]), history.records[1].replace(b"message", b"massage", 1))
    graph = Graph(history.store)
    with pytest.raises(CorruptionError, match=history.ids[1]):
        list(graph.log(history.ids[2]))


def test_a_missing_parent_is_corruption_that_names_both():
    history = History()
    history.chain(3)
    history.store.delete([commit_key(history.ids[1])])
    with pytest.raises(CorruptionError, match=f"{history.ids[1]} is missing.*{history.ids[2]}"):
        list(Graph(history.store).log(history.ids[2]))


def test_a_generation_that_does_not_follow_from_the_parents_is_corruption():
    history = History()
    history.chain(2)
    lie = canonical_json({**json.loads(history.records[1]), "generation": 9})
    history.store.put(commit_key(digest(lie)), lie)
    graph = Graph(history.store)
    for walk in (
        lambda: list(graph.log(digest(lie))),
        lambda: graph.is_ancestor(history.ids[0], digest(lie)),
        lambda: graph.merge_bases(history.ids[0], digest(lie)),
    ):
        with pytest.raises(CorruptionError, match="generation"):
            walk()


def test_what_is_excluded_and_not_here_is_ignored(caplog):
    history = History()
    history.chain(3)
    with caplog.at_level(logging.DEBUG):
        assert len(list(Graph(history.store).walk([history.ids[2]], exclude=["f" * 64]))) == 3


def test_a_spoiled_row_of_the_index_is_read_from_the_store_instead(tmp_path):
    history = History()
    history.chain(30)
    index = Index(tmp_path / "index.sqlite")
    list(Graph(history.store, index).log(history.ids[29]))
    with index.database().conn as connection:
        changed = connection.execute("update commits set record = replace(record, 'commit', 'tommic')").rowcount
    assert changed == 30
    assert [commit.message for commit in Graph(history.store, index).log(history.ids[29])] == [
        f"commit {number}" for number in reversed(range(30))
    ]


def test_records_come_as_stored(tmp_path):
    history = History()
    history.chain(5)
    for graph in (Graph(history.store), Graph(history.store, Index(tmp_path / "index.sqlite"))):
        assert graph.records(history.ids) == dict(zip(history.ids, history.records, strict=True))


# ---- segments --------------------------------------------------------------------------------------------------------


def long_history(length):
    history = History(CountingStore())
    builder = Graph(history.store)
    for number in range(length):
        history.commit(*([number - 1] if number else []))
        commit = builder.add(history.ids[number], history.records[number])
        if segment_due(commit):
            write_segment(history.store, builder, commit)
    history.store.reads.clear()
    return history


LONG = long_history(700)


def test_segments_spare_a_walk_most_of_its_requests():
    LONG.store.reads.clear()
    assert [commit.id for commit in Graph(LONG.store).log(LONG.ids[-1])] == LONG.ids[::-1]
    assert len(LONG.store.reads) < 80


@pytest.mark.parametrize("fault", ["missing", "garbage", "another's", "mixed"])
def test_faults_of_segments_cost_requests_and_nothing_else(fault):
    history = long_history(80)
    keys = [info.key for info in history.store.list("history/")]
    assert len(keys) == 4
    for key in keys:
        if fault == "missing":
            history.store.delete([key])
        elif fault == "garbage":
            history.store.put(key, b"garbage")
        else:
            lying = long_history(33) if fault == "mixed" else LONG
            history.store.put(key, lying.store.get(segment_key(lying.ids[32])))
    assert [commit.id for commit in Graph(history.store).log(history.ids[-1])] == history.ids[::-1]


def test_a_shallow_look_reads_few_objects():
    LONG.store.reads.clear()
    assert len(list(Graph(LONG.store).log(LONG.ids[-1], 5))) == 5
    assert len(LONG.store.reads) <= 6


def test_ancestry_does_not_walk_below_the_older_commit():
    LONG.store.reads.clear()
    assert Graph(LONG.store).is_ancestor(LONG.ids[-4], LONG.ids[-1])
    assert len(LONG.store.reads) <= 5


# ---- renames ---------------------------------------------------------------------------------------------------------


def renamed(*steps):
    """A chain whose commits rename as told; return (graph, ids)."""
    history = History()
    history.commit()
    for number, step in enumerate(steps):
        history.commit(number, renames=[step])
    return Graph(history.store), history.ids


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], {}),
        ([{"a": "b"}], {"a": "b"}),
        ([{"a": "b"}, {"b": "c"}], {"a": "c"}),
        ([{"a": "b"}, {}, {"b": "a"}], {}),
        ([{"a": "b", "b": "a"}], {"a": "b", "b": "a"}),
        ([{"a": "b", "b": "a"}, {"a": "b", "b": "a"}], {}),
        ([{"a": "b"}, {"x": "a"}], {"a": "b", "x": "a"}),
        # After a → b another node is made under the name a; its renaming is not that of the first.
        ([{"a": "b"}, {"a": "c"}], {"a": "b"}),
        ([{"a": "b"}, {"a": "c"}, {"b": "d"}], {"a": "d"}),
    ],
)
def test_renames_compose_along_the_path(steps, expected):
    graph, ids = renamed(*steps)
    assert graph.renames_between(ids[0], ids[-1]) == expected


def test_renames_follow_the_side_on_which_the_ancestor_lies():
    history = History()
    root = history.commit()
    left = history.commit(root, renames=[{"a": "left"}])
    right = history.commit(root, renames=[{"a": "right"}])
    merge = history.commit(left, right, renames=[{}, {"right": "left"}])
    graph = Graph(history.store)
    ids = history.ids
    assert graph.renames_between(ids[right], ids[merge]) == {"right": "left"}
    assert graph.renames_between(ids[left], ids[merge]) == {}
    assert graph.renames_between(ids[root], ids[merge]) == {"a": "left"}
    assert graph.renames_between(ids[merge], ids[merge]) == {}
    with pytest.raises(ValueError, match="not an ancestor"):
        graph.renames_between(ids[left], ids[right])


def test_a_graph_pickles_to_its_store_and_index():
    graph = pickle.loads(pickle.dumps(Graph(LONG.store)))
    assert graph.commit(LONG.ids[0]).id == LONG.ids[0]


def test_walks_from_many_threads_agree():
    graph = Graph(LONG.store)
    tips = [random.Random(number).randrange(600, 700) for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        logs = list(pool.map(lambda tip: [commit.id for commit in graph.log(LONG.ids[tip])], tips))
    assert logs == [LONG.ids[tip::-1] for tip in tips]


def test_writes_to_the_index_that_are_done_are_forgotten(tmp_path):
    history = build_history([[number - 1] if number else [] for number in range(500)], forwards)
    graph = Graph(history.store, Index(tmp_path / "index.sqlite"))
    for number in range(99, 500, 100):
        assert sum(1 for _ in graph.walk([history.ids[number]])) == number + 1
        assert len(graph._writing) == 1
        wait([writing for _, writing in graph._writing])
    graph.close()
    assert len(Index(tmp_path / "index.sqlite").get_commits(history.ids)) == 500
