from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hangarlake.records.logsearch import LAST_SEQ, search_end


def run(length, start, grow=lambda round_number: 0):
    """Search a log; return what was found, the rounds, the probes, and how long the log is in the end."""
    search = search_end(start)
    wanted = next(search)
    rounds = probes = 0
    while True:
        rounds += 1
        probes += len(wanted)
        assert wanted
        assert all(1 <= seq <= LAST_SEQ for seq in wanted)
        reply = {seq: (str(seq).encode() if seq <= length else None) for seq in wanted}
        length += grow(rounds)
        try:
            wanted = search.send(reply)
        except StopIteration as stop:
            return stop.value, rounds, probes, length


lengths = st.integers(0, 50) | st.integers(0, 10**6) | st.integers(0, 10**9)
starts = st.integers(0, 60) | st.integers(0, LAST_SEQ - 1)


@settings(deadline=None)
@given(lengths, starts)
@example(0, LAST_SEQ - 1)
@example(1, LAST_SEQ - 1)
@example(0, 8)
@example(10**6, 0)
def test_the_end_is_found_from_anywhere(length, start):
    found, rounds, _, _ = run(length, start)
    assert found == ((length, str(length).encode()) if length else None)
    assert rounds <= 2 + length.bit_length()


@settings(deadline=None)
@given(st.integers(1, 1000))
def test_a_right_hint_costs_one_round_of_two_probes(length):
    assert run(length, length)[1:3] == (1, 2)


@settings(deadline=None)
@given(st.integers(1, 1000))
def test_a_hint_that_is_one_behind_costs_one_round_more(length):
    assert run(length + 1, length)[1] == 2


@settings(deadline=None)
@given(st.integers(0, 200), starts, st.lists(st.integers(0, 5), max_size=20))
def test_a_log_that_grows_meanwhile_gives_an_end_that_it_had_meanwhile(length, start, growth):
    found, _, _, final = run(
        length, start, lambda round_number: growth[round_number - 1] if round_number <= len(growth) else 0
    )
    assert length <= (found[0] if found else 0) <= final
