"""What is written to arrays and read from them, beyond what random layouts reach: odd numbers, shapes and selections."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import zarr

from hangarlake import Repository, SchemaError, WriteCheckout


def test_python_numbers_that_the_data_type_lacks_are_refused(w: WriteCheckout) -> None:
    array = w.create_array("x", shape=(6,), dtype="u1", chunks=(4,))
    sharded = w.create_array("s", shape=(8,), dtype="u1", chunks=(2,), shards=(4,))
    array[...], sharded[...] = 7, 7
    for wrong in (300, -1, [300], [1, -1]):
        with pytest.raises(SchemaError, match="of uint8 cannot hold"):
            array[:2] = wrong
        with pytest.raises(SchemaError, match="of uint8 cannot hold"):
            array.append(np.ravel(np.array(wrong, object)).tolist())
        with pytest.raises(SchemaError, match="of uint8 cannot hold"):
            sharded.oindex[[0, 1]] = wrong
    assert array[...].tolist() == [7] * 6
    assert sharded[...].tolist() == [7] * 8
    array[:3] = [1, 2.0, True]
    array[3:] = np.array([255, 1, 2])
    assert array[...].tolist() == [1, 2, 1, 255, 1, 2]


def test_an_append_that_fails_changes_nothing(w: WriteCheckout, monkeypatch: pytest.MonkeyPatch) -> None:
    array = w.create_array("x", shape=(6,), dtype="u1", chunks=(4,))
    array[...] = 7
    with pytest.raises(SchemaError, match="cannot hold 'a'"):
        array.append(np.array(["a", "b"]))
    assert array.shape == (6,)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(w.pending, "add", full)
    with pytest.raises(OSError, match="no space left"):
        array.append(np.arange(9))
    monkeypatch.undo()
    assert array.shape == (6,)
    assert array[...].tolist() == [7] * 6
    assert array.append([8]) == (7,)
    assert array[...].tolist() == [7] * 6 + [8]


@pytest.mark.parametrize("shape", [None, 2.5, (2.5,), (None,), "2", (-1,), -1])
def test_what_is_no_shape_is_refused(w: WriteCheckout, shape: Any) -> None:
    array = w.create_array("x", shape=(6,), dtype="u1", chunks=(4,))
    with pytest.raises(SchemaError, match="'x': a shape is"):
        array.resize(shape)
    with pytest.raises(SchemaError, match="'y': a shape is"):
        w.create_array("y", shape=shape, dtype="u1")
    assert array.shape == (6,)
    array.resize(np.int64(5))
    array.resize(np.array([4]))
    assert array.shape == w.create_array("y", shape=np.int64(4), dtype="u1", chunks=np.int64(2)).shape == (4,)


def test_an_array_that_cannot_be_made_is_named_in_the_error(w: WriteCheckout) -> None:
    wrong: list[dict[str, Any]] = [
        *({"dimension_names": "tx"}, {"dimension_names": ["t"]}, {"fill_value": 300}, {"fill_value": "x"}),
        *({"chunks": (0, 1)}, {"chunks": 2.5}, {"shards": (3, 1)}, {"dtype": object}),
        *({"attributes": [1]}, {"attributes": {1: 2}}, {"attributes": {"a": {1}}}),
    ]
    for options in wrong:
        with pytest.raises(SchemaError, match="'x'"):
            w.create_array("x", **{"shape": (4, 4), "dtype": "u1", "chunks": (2, 2), **options})
    for attributes in ([1], {"a": object()}):
        with pytest.raises(SchemaError, match="group 'g'"):
            w.create_group("g", attributes=attributes)  # type: ignore[arg-type]  # what is tested
    assert not list(w)


def test_a_grid_that_coordinates_of_32_bits_do_not_reach_is_refused(w: WriteCheckout) -> None:
    array = w.create_array("x", shape=(1 << 32,), dtype="u1", chunks=(1,))
    array[-1] = 1
    assert array[-3:].tolist() == [0, 0, 1]
    with pytest.raises(SchemaError, match=r"'x' would have 4,294,967,297 chunks along axis 0.*choose larger chunks"):
        array.resize((1 << 32) + 1)
    with pytest.raises(SchemaError, match="'y' would have"):
        w.create_array("y", shape=(2, 1 << 40), dtype="u1", chunks=(1, 1))
    with pytest.raises(SchemaError, match="'z' would have"):
        zarr.create_array(w.store, name="z", shape=(1 << 40,), dtype="u1", chunks=(1,))
    array.resize((1 << 32) - 1)
    assert array.nchunks_initialized == 0


@pytest.mark.parametrize("shards", [None, (4,)])
def test_parts_of_complex_numbers_are_never_taken_for_the_fill_value(repo: Repository, shards: Any) -> None:
    nan = float("nan")
    given = {
        0j: [complex(-0.0, 0.0), complex(0.0, -0.0), complex(-0.0, -0.0)],
        complex(nan, nan): [complex(nan, 5), complex(5, nan), complex(1, 2)],
        complex(1, nan): [complex(1, 2), complex(2, nan), complex(nan, nan)],
    }
    with repo.checkout(write=True) as w:
        for i, (fill, values) in enumerate(given.items()):
            for j, value in enumerate(values):
                array = w.create_array(f"{i}/{j}", shape=(4,), dtype="c16", chunks=(2,), shards=shards, fill_value=fill)
                array[...] = value
            plain = w.create_array(f"{i}/fill", shape=(4,), dtype="c16", chunks=(2,), shards=shards, fill_value=fill)
            plain[...] = fill
            assert plain.nchunks_initialized == 0
        w.commit("complex")
    stored = repo.checkout()
    for i, values in enumerate(given.values()):
        for j, value in enumerate(values):
            assert repr(stored.arrays[f"{i}/{j}"][...].tolist()) == repr([value] * 4)


STRUCTURED = np.dtype([("a", "<i4"), ("b", "<f8")])


@pytest.mark.parametrize("kind", ["structured", "text", "large shards"])
def test_what_zarr_reads_and_writes_for_arrays_is_indexed_as_other_arrays_are(w: WriteCheckout, kind: str) -> None:
    shape = (7, 3)
    if kind == "structured":
        expected = np.array([[(i * 3 + j, i) for j in range(3)] for i in range(7)], STRUCTURED)
        array = w.create_array("x", shape=shape, dtype=STRUCTURED, chunks=(2, 2), fill_value=None)
    elif kind == "text":
        expected = np.array([[f"{i}-{j}" for j in range(3)] for i in range(7)], np.dtypes.StringDType())
        array = w.create_array("x", shape=shape, dtype=str, chunks=(2, 2), fill_value="")
    else:
        shape = (1024, 300)
        expected = np.arange(1024 * 300, dtype="f8").reshape(shape)
        array = w.create_array("x", shape=shape, dtype="f8", chunks=(16, 30), shards=shape)
    array[...] = expected
    for selection in (
        (-1, 2),
        np.array(3),
        (slice(None, None, -3), 1),
        (slice(5, 1, -2), slice(None, None, -1)),
        (slice(1, 5, -1), slice(None)),
        (..., slice(2, None, -2)),
        (0, slice(0, 0)),
    ):
        got, wanted = array[selection], expected[selection]
        assert type(got) is type(wanted)
        assert np.shape(got) == np.shape(wanted)
        assert got.tolist() == wanted.tolist() if isinstance(wanted, np.ndarray) else got == wanted
        changed = expected.copy()
        changed[selection] = expected[: np.shape(wanted)[0], 0] if np.ndim(wanted) == 1 else expected[0, 0]
        array[selection] = changed[selection]
        assert array[...].tolist() == changed.tolist()
        array[...] = expected


def test_a_listing_shows_what_there_was_when_it_began(w: WriteCheckout) -> None:
    array = w.create_array("x", shape=(2000,), dtype="i4", chunks=(1,))
    array[...] = np.arange(1, 2001)
    keys = w.hierarchy.list_prefix("")
    first = next(keys)
    array[...] = np.arange(2001, 4001)
    w.flush()  # what the new tree does not use is forgotten
    assert len({first, *keys}) == 2002


def test_threads_that_ask_for_an_array_at_once_share_one_view(
    w: WriteCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.create_array("x", shape=(2,), dtype="i4", chunks=(2,))
    w._views.clear()
    both = threading.Barrier(2)
    make = w._make_view

    def made(name: str, node: Any) -> Any:
        view = make(name, node)
        both.wait()  # neither finds the other's view
        return view

    monkeypatch.setattr(w, "_make_view", made)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(w["x"])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1], "two views of one array would not take turns"


def test_differences_of_large_integers_are_exact(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        for dtype in ("i8", "u8", "i1"):
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            w.create_array(dtype, shape=(2,), dtype=dtype)[...] = [high - 1, low]
        w.commit("before")
        for dtype in ("i8", "u8", "i1"):
            w.arrays[dtype][0] = np.iinfo(dtype).max
        w.commit("by one")
        w.arrays["i1"][...] = [-128, 127]
        w.commit("by all there is")
    by_one = repo.diff("main~2", "main~1").arrays
    assert [by_one[dtype].stats().max_abs_difference for dtype in ("i8", "u8", "i1")] == [1, 1, 1]
    assert repo.diff("main~1", "main").arrays["i1"].stats().max_abs_difference == 255
