"""Renames of several steps as those of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hangarlake.records.renames import compose, inverse

NAMES = "abcdef"


@given(st.data(), st.integers(0, 6))
def test_composed_renames_lead_to_where_every_surviving_node_is(data: st.DataObject, steps: int) -> None:
    start = {name: name for name in data.draw(st.sets(st.sampled_from(NAMES)))}
    now = dict(start)
    composed: dict[str, str] = {}
    for _ in range(steps):
        kept = [node for node in now if data.draw(st.integers(0, 4))]
        moved = dict(zip(kept, data.draw(st.permutations(NAMES)), strict=False))
        after = {node: moved[node] if data.draw(st.booleans()) else now[node] for node in kept}
        if len(set(after.values())) < len(after):
            after = {node: moved[node] for node in kept}
        composed = compose(composed, {now[node]: name for node, name in after.items() if now[node] != name})
        now = after
    assert {composed.get(name, name) for name in now} == set(now.values())
    assert {name: composed.get(name, name) for name in now} == now
    assert all(old != new for old, new in composed.items())
    surviving = {old: new for old, new in composed.items() if old in now}
    assert compose(surviving, inverse(surviving)) == {}


def test_a_name_may_be_taken_over() -> None:
    assert compose({"a": "b"}, {"b": "c"}) == {"a": "c"}
    assert compose({"a": "b"}, {"a": "c"}) == {"a": "b"}  # the second is another node, which was added in between
    assert compose({"a": "b", "b": "a"}, {"a": "b", "b": "a"}) == {}
    assert compose({"a": "b"}, {"b": "a"}) == {}
    assert compose({}, {"a": "b"}) == {"a": "b"}


def test_a_node_whose_name_was_taken_over_was_removed() -> None:
    swapped = {"a": "b", "b": "a"}
    back = compose(swapped, {"b": "a"})  # what was called “a” meanwhile is gone
    assert back == {}
    assert compose(back, {"a": "b"}) == {"a": "b"}
