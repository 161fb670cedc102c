"""Finding the end of a branch's log without listing it (docs/format.md §10). Pure: the caller does the reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

__all__ = ["LAST_SEQ", "search_end"]

#: Sequence numbers have 16 decimal digits.
LAST_SEQ = 10**16 - 1

_STEPS = 3  # probes of one round trip


def search_end(start: int) -> Generator[list[int], dict[int, bytes | None], tuple[int, bytes] | None]:
    """Find the end of a log that has no gaps: yields the numbers to look up, is sent what is there, returns the newest.

    `start` is where it may end; any number will do. What is present stays present, so the greatest number
    seen present and the least seen absent above it close in on the end, however the log grows meanwhile.
    """
    present: tuple[int, bytes] | None = None
    absent = LAST_SEQ + 1  # the least number above `present` that was seen absent

    def learn(reply: Iterable[tuple[int, bytes | None]]) -> None:
        nonlocal present, absent
        pairs = list(reply)
        for seq, data in pairs:
            if data is not None and (present is None or seq > present[0]):
                present = (seq, data)
        low = 0 if present is None else present[0]
        absent = min([absent, *(seq for seq, data in pairs if data is None and seq > low)])

    if start > 0:
        learn((yield [start, start + 1]).items())
    step = 1
    while True:
        low = 0 if present is None else present[0]
        gap = absent - low
        if gap == 1:
            return present
        if absent > LAST_SEQ or gap >= 8 * step:
            # Gallop. An upper bound that a damaged hint gave may be far away; it is not searched towards.
            reach = [low + (step << power) for power in range(_STEPS)]
            step <<= _STEPS
        elif gap <= _STEPS + 1:
            reach = list(range(low + 1, absent))
        else:
            reach = [low + gap * part // (_STEPS + 1) for part in range(1, _STEPS + 1)]
        learn((yield [seq for seq in dict.fromkeys(reach) if low < seq < absent]).items())
