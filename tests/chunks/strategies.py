"""Arrays of every storable dtype, and the golden rule of comparing them: by dtype, shape and bytes."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

DTYPES = [
    "|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16",
    "<M8[ns]", "<M8[D]", "<m8[25s]", "|S1", "|S5", "<U1", "<U7",
]  # fmt: skip


def random_array(dtype: str, shape: tuple[int, ...], seed: int = 0, *, alike: bool = False) -> np.ndarray:
    """Return an array of random bits (few different ones with `alike`), so that NaNs and NaTs of all kinds occur."""
    native = np.dtype(dtype)
    size = math.prod(shape) * native.itemsize
    bits = np.random.default_rng(seed).integers(0, 3 if alike else 256, size, dtype=np.uint8)
    if native.kind == "b":
        bits &= 1
    if native.kind == "U":
        bits.view("<u4")[:] %= 0xD800
    return bits.view(native).reshape(shape)


@st.composite
def arrays(draw: st.DrawFn, *, max_dims: int = 3, max_side: int = 7, min_dims: int = 0) -> np.ndarray:
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, max_side), min_size=min_dims, max_size=max_dims)))
    return random_array(dtype, shape, draw(st.integers(0, 2**32)), alike=draw(st.booleans()))


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()
