"""Which values an array takes: what it holds exactly, and numbers that floats are rounded to; the rest changes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from hangarlake import SchemaError, WriteCheckout

NAN = float("nan")

REFUSED: list[tuple[str, Any, str]] = [
    ("i2", 3.7, "3.7"),
    ("i2", NAN, "nan"),
    ("i2", np.float32(0.5), "0.5"),
    ("i2", 40000, "40000"),
    ("i2", 1 << 70, "1180591620717411303424"),
    ("i2", np.array([1, 70000, 2]), "70000"),
    ("i2", np.array([1.0, NAN, 2.0]), "nan"),
    ("i2", np.array([0.0, 32768.0, 1.0]), "32768.0"),
    ("i2", [1, 2.5, 3], "2.5"),
    ("i2", ["1", "2", "3"], "'1'"),
    ("i2", [1, None, 2], "None"),
    ("i2", np.array([1j, 2, 3]), "1j"),
    ("i2", np.array(["2026-01-01"], "M8[D]"), "2026-01-01"),
    ("i8", 2.0**63, "9.22"),
    ("i8", np.array([2.0**63, 1, 1]), "9.22"),
    ("i8", [(1 << 53) + 1, 0.5, 0], "0.5"),
    ("u8", np.array([-1, 0, 1]), "-1"),
    ("u8", np.float16(np.inf), "inf"),
    ("b1", 2, "2"),
    ("b1", np.array([0.0, 0.5, 1.0]), "0.5"),
    ("f4", 1j, "1j"),
    ("f4", np.array([1, 2j, 3]), "1+0j"),
    ("f4", "1.5", "'1.5'"),
    ("f4", [1.5, None, 2.5], "None"),
    ("f4", np.array(["1", 2], object), "'1'"),
    ("c8", "1", "'1'"),
    ("M8[s]", np.array(["2026-01-01T00:00:00.5"], "M8[ms]"), "2026-01-01T00:00:00.500"),
    ("M8[s]", datetime(2026, 1, 1, microsecond=1), "2026"),
    ("M8[ns]", np.array(["9999-01-01"], "M8[s]"), "9999-01-01"),
    ("M8[s]", 5, "5"),
    ("M8[s]", "tomorrow-ish", "tomorrow"),
    ("m8[s]", np.timedelta64(1500, "ms"), "1500"),
    ("m8[D]", np.timedelta64(1, "Y"), "1 years"),
    ("m8[s]", 1.5, "1.5"),
    ("U3", "four", "'four'"),
    ("U3", ["a", "b", 1], "1"),
    ("S3", b"four", "b'four'"),
    ("S3", np.array(["abc"]), "'abc'"),
]

TAKEN: list[tuple[str, Any, list[Any]]] = [
    ("i2", 3.0, [3, 3, 3]),
    ("i2", [1, 2.0, True], [1, 2, 1]),
    ("i2", np.array([1, -32768, 32767]), [1, -32768, 32767]),
    ("i2", np.array([1, 2, 3], ">i4"), [1, 2, 3]),
    ("i2", [Decimal(4), 5, 6], [4, 5, 6]),
    ("i8", [(1 << 62) + 1, 1.0, 0], [(1 << 62) + 1, 1, 0]),
    ("u8", (1 << 64) - 1, [(1 << 64) - 1] * 3),
    ("b1", [1, 0, 1.0], [True, False, True]),
    ("f4", np.array([0.1, 1e-300, 2.0]), [float(np.float32(0.1)), 0.0, 2.0]),
    ("f4", [1, True, 2.5], [1.0, 1.0, 2.5]),
    ("f4", [Decimal("0.5"), 1, 2], [0.5, 1.0, 2.0]),
    ("f8", (1 << 53) + 1, [float(1 << 53)] * 3),
    ("c8", [1, 2.5, 3j], [1 + 0j, 2.5 + 0j, 3j]),
    ("U3", ["a", "abc", ""], ["a", "abc", ""]),
    ("U3", np.array(["abc"] * 3, "U9"), ["abc"] * 3),
    ("S3", b"ab", [b"ab"] * 3),
]


@pytest.mark.parametrize(("dtype", "value", "named"), REFUSED)
def test_what_an_array_cannot_hold_is_refused_whichever_way_it_comes(
    w: WriteCheckout, dtype: str, value: Any, named: str
) -> None:
    many = np.ndim(value) > 0
    array = w.create_array("x", shape=(3,), dtype=dtype, chunks=(2,), fill_value=None)
    sharded = w.create_array("s", shape=(4,), dtype=dtype, chunks=(1,), shards=(2,), fill_value=None)
    before = array[...].tolist()
    assigned = value if many and len(value) == 3 else (value[0] if many else value)
    for refuse in (
        lambda: array.__setitem__(..., assigned),
        lambda: array.__setitem__(np.array([True, True, True]), assigned),
        lambda: array.oindex.__setitem__([0, 1, 2], assigned),
        lambda: array.vindex.__setitem__([0, 1, 2], assigned),
        lambda: sharded.oindex.__setitem__([0, 1, 3], assigned),
        lambda: array.append(value if many else [value]),
    ):
        with pytest.raises(SchemaError) as caught:
            refuse()
        message = str(caught.value)
        assert message.startswith(("array 'x' of", "array 's' of"))
        assert f"of {np.dtype(dtype)} cannot hold" in message
        assert named in message
        assert "nothing was staged" in message
    assert array.shape == (3,)
    assert array[...].tolist() == before
    assert array.nchunks_initialized == sharded.nchunks_initialized == 0


@pytest.mark.parametrize(("dtype", "value", "expected"), TAKEN)
def test_what_an_array_holds_exactly_or_rounds_is_taken(
    w: WriteCheckout, dtype: str, value: Any, expected: list[Any]
) -> None:
    for name, chunks, shards in (("x", (2,), None), ("s", (1,), (3,))):
        array = w.create_array(name, shape=(3,), dtype=dtype, chunks=chunks, shards=shards, fill_value=None)
        array[...] = value
        assert array[...].tolist() == expected
        array[::-1] = np.zeros(3, dtype)
        array.oindex[[0, 1, 2]] = value
        assert array[...].tolist() == expected
        array.append(np.zeros(1, "i1") if dtype[0] not in "US" else np.zeros(1, dtype))
        assert array.shape == (4,)


def test_times_change_their_unit_where_that_is_exact(w: WriteCheckout) -> None:
    when = w.create_array("when", shape=(2,), dtype="M8[s]", chunks=(2,), fill_value=None)
    for value in (
        np.datetime64("2026-01-01"),
        np.array(["2026-01-01", "2026-01-01"], "M8[ns]"),
        "2026-01-01",
        ["2026-01-01", "2026-01-01T00"],
        datetime(2026, 1, 1),
        [datetime(2026, 1, 1)] * 2,
    ):
        when[...] = np.datetime64("NaT")
        assert np.isnat(when[...]).all()
        when[...] = value
        assert (when[...] == np.datetime64("2026-01-01")).all()
    span = w.create_array("span", shape=(2,), dtype="m8[s]", chunks=(2,), fill_value=None)
    for value in (np.timedelta64(1, "m"), np.array([60000, 60000], "m8[ms]"), timedelta(minutes=1), 60, [60, 60]):
        span[...] = np.timedelta64("NaT")
        span[...] = value
        assert span[...].tolist() == [timedelta(minutes=1)] * 2
    span[...] = np.array(["NaT", 1], "m8[ms]") * 1000
    assert np.isnat(span[0])


def test_a_mask_is_not_lost_silently(w: WriteCheckout) -> None:
    array = w.create_array("x", shape=(3,), dtype="f4", chunks=(2,))
    hidden = np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False])
    with pytest.raises(SchemaError, match=r"'x': the mask .*filled"):
        array[...] = hidden
    array[...] = np.ma.masked_array([1.0, 2.0, 3.0])
    assert array[...].tolist() == [1, 2, 3]


def test_values_without_elements_are_taken_by_any_array(w: WriteCheckout) -> None:
    for dtype in ("i2", "U3", "M8[s]", "b1"):
        array = w.create_array(dtype, shape=(3,), dtype=dtype, chunks=(2,), fill_value=None)
        array[3:] = []
        assert array.append([]) == (3,)


def test_values_of_the_same_type_are_not_looked_at(w: WriteCheckout, monkeypatch: pytest.MonkeyPatch) -> None:
    from hangarlake.arrays import casting

    def looked(*_: Any) -> None:
        raise AssertionError("the values were looked at")

    array = w.create_array("x", shape=(3,), dtype="i2", chunks=(2,))
    monkeypatch.setattr(casting, "_check_whole", looked)
    monkeypatch.setattr(casting, "_made", looked)
    array[...] = np.array([1, 2, 3], "i2")
    assert array[...].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "bad", [[b"x", "a", "b"], [2.5, "a", "b"], [None, "a", "b"], 5, np.arange(3), b"x", None, float("nan")]
)
def test_text_of_any_length_is_text_alone(w: WriteCheckout, bad: Any) -> None:
    array = w.create_array("text", shape=(3,), dtype=str)
    assert array[:].tolist() == ["", "", ""]
    for good in (["a", "bb", "ccc"], np.array(["a", "bb", "ccc"]), np.array(["a", "bb", "ccc"], object)):
        array[:] = good
        assert array[:].tolist() == ["a", "bb", "ccc"]
    with pytest.raises(SchemaError, match=r"'text'.* cannot hold"):
        array[:] = bad
    if isinstance(bad, list):
        with pytest.raises(SchemaError, match=r"'text'.* cannot hold"):
            array.append(bad)
    assert array[:].tolist() == ["a", "bb", "ccc"]


@pytest.mark.parametrize(
    "dtype, value",
    [("i2", 3.7), ("bool", 2), ("i2", "3"), ("U2", "abc"), (str, 5), ("u1", -1), ("i2", 70_000), ("i2", float("nan"))],
)
def test_a_fill_value_is_one_that_the_array_can_hold(w: WriteCheckout, dtype: Any, value: Any) -> None:
    with pytest.raises(SchemaError, match=r"'a' of .* cannot have the fill value"):
        w.create_array("a", shape=(3,), dtype=dtype, fill_value=value)
    assert "a" not in w.arrays


@pytest.mark.parametrize(
    "dtype, value", [("i2", 3.0), ("bool", 1), ("U3", "abc"), (str, "x"), ("f4", 0.1), ("i8", np.int64(4))]
)
def test_a_fill_value_is_what_was_never_written(w: WriteCheckout, dtype: Any, value: Any) -> None:
    array = w.create_array("a", shape=(2,), dtype=dtype, fill_value=value)
    assert array[:].tolist() == np.full(2, value, array.dtype).tolist()
