"""What writers do who lose a race for a branch: give way for a moment, and try again."""

from __future__ import annotations

import random
import time

__all__ = ["ATTEMPTS", "give_way"]

# How often a change is tried on a branch that others keep moving. With jitter each attempt has a fair chance.
ATTEMPTS = 200
_MAX_DELAY = 1.0
_CROWD = 4


def give_way(attempt: int, took: float) -> None:
    """Wait before another attempt; not after the first one (`attempt` 0).

    Not a matter of correctness: others need room to finish, and two that collided should not collide again. How much
    room depends on what an attempt takes here (`took`, in seconds): milliseconds on a disk, more in a bucket.
    """
    if attempt:
        time.sleep(random.uniform(0, min(_MAX_DELAY, took * min(attempt, _CROWD))))
