"""What the workers of a Dask cluster do in tests: it has to be importable there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from hangarlake.forking import ChangeSet, ForkedWriter


def write_row(fork: ForkedWriter, row: int, die_first: str | None = None) -> ChangeSet:
    """Write one row of chunks and one sample; with `die_first` (a file to be made) kill this worker the first time."""
    mine = fork.fresh()
    mine.arrays["x"][4 * row : 4 * row + 4] = np.arange(32).reshape(4, 8) + row
    mine["samples", row] = np.full(3, row, "i4")
    if die_first is not None and not Path(die_first).exists():
        Path(die_first).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mine.changes()
