"""What a column stores exactly, and what it refuses."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import NothingToCommitError, Repository, SchemaError
from hangarlake.columns import layout
from hangarlake.columns import stage as stage_module
from hangarlake.storage import LocalStore
from tests.columns.values import create, exact, reopen, stored_bytes

DTYPES = [
    *("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"),
    *("M8[ns]", "M8[us]", "M8[D]", "M8[25s]", "m8[ns]", "m8[h]", "S5", "U7", "S1", "U1"),
]


def noise(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Return values of any bits: NaN payloads and NaT come up by themselves."""
    count = int(np.prod(shape, dtype=np.int64))
    raw = np.random.default_rng(seed).integers(0, 256, count * dtype.itemsize, dtype=np.uint8)
    if dtype.kind == "b":
        raw &= 1
    if dtype.kind == "U":
        raw.view("<u4")[:] %= 0xD800
    return raw.view(dtype).reshape(shape)


@pytest.mark.parametrize("variable", [False, True], ids=["fixed", "variable"])
def test_every_dtype_comes_back_to_the_bit(
    repo: Repository, tmp_path: Path, local_store: LocalStore, variable: bool
) -> None:
    expected = {}
    with repo.checkout(write=True) as w:
        for name in DTYPES:
            dtype = np.dtype(name)
            column = w.add_ndarray_column(name, (3, 2), dtype, variable_shape=variable)
            expected[name] = [noise(dtype, (3, 2), seed) for seed in range(5)]
            column.extend(range(4), expected[name][:4])
            column[4] = expected[name][4].astype(dtype.newbyteorder(">"))
            assert exact(column[4]) == exact(expected[name][4])
        w.commit("all")
    checkout = reopen(local_store, tmp_path / "other").checkout()
    for name, values in expected.items():
        column = checkout[name]
        assert column.dtype == np.dtype(name)
        assert exact([column[key] for key in range(5)]) == exact(values)
        assert exact(list(column.batch(range(5)))) == exact(values)
        assert exact(list(column.values())) == exact(values)
        assert column[0].flags.writeable
        assert column.digest(0) == repo.checkout()[name].digest(0)


@pytest.mark.parametrize("rank", [*range(5), 31, 32])
@pytest.mark.parametrize("variable", [False, True], ids=["fixed", "variable"])
def test_samples_have_up_to_32_dimensions(repo: Repository, rank: int, variable: bool) -> None:
    shape = (2,) * min(rank, 5) + (1,) * max(0, rank - 5)
    value = np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)
    with repo.checkout(write=True) as w:
        w.add_ndarray_column("x", (None,) * rank if variable else shape, np.int32, variable_shape=variable)["a"] = value
        assert exact(w["x"]["a"]) == exact(value)
        w.commit("x")
    column = repo.checkout()["x"]
    assert exact(column["a"]) == exact(value)
    assert exact(column.lazy("a")[...]) == exact(value)
    assert column.shape_of("a") == shape


def test_a_sample_without_dimensions_is_an_array_however_it_is_read(w: Any) -> None:
    column = w.add_ndarray_column("s", (), "U5")
    column["k"] = "ab"
    staged = column["k"]
    w.commit("s")
    for value in (
        staged,
        column["k"],
        column.lazy("k")[...],
        *column.values(),
        *dict(column.items()).values(),
        column.pop("k"),
    ):
        assert isinstance(value, np.ndarray)
        assert exact(value) == exact(np.array("ab", "U5"))


def test_a_sample_is_among_the_values_if_shape_and_elements_are_equal(w: Any) -> None:
    arrays, ragged = (
        w.add_ndarray_column("x", (2,), "i4"),
        w.add_ndarray_column("r", (None,), "f8", variable_shape=True),
    )
    texts, documents = w.add_str_column("t"), w.add_json_column("j")
    arrays["a"], ragged["a"], texts["a"], documents["a"] = np.array([1, 2], "i4"), np.ones(1), "x", {"n": [1]}
    assert np.array([1, 2]) in arrays.values()
    assert ("a", np.array([1, 2])) in arrays.items()
    for absent in (np.array([1, 3]), np.zeros(0), np.zeros((0, 2)), np.arange(3), 1, "x", None, [[1], [1, 2]]):
        assert absent not in arrays.values()
        assert absent not in ragged.values()
        assert absent not in documents.values()
        assert ("a", absent) not in arrays.items()
    assert "x" in texts.values()
    assert ("a", "x") in texts.items()
    assert {"n": [1]} in documents.values()
    for wrong in (("b", "x"), ("a", "y"), ("a",), "a", (1.5, "x"), np.zeros(2)):
        assert wrong not in texts.items()


def test_33_dimensions_are_refused(w: Any) -> None:
    with pytest.raises(SchemaError, match="32"):
        w.add_ndarray_column("x", (1,) * 33, np.uint8)
    assert "x" not in w


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 5)])
def test_dimensions_may_have_no_length(repo: Repository, shape: tuple[int, ...]) -> None:
    value = np.empty(shape, np.float64)
    with repo.checkout(write=True) as w:
        fixed = w.add_ndarray_column("fixed", shape, np.float64)
        fixed["a"] = value
        fixed.extend(range(3), np.empty((3, *shape)))
        varied = w.add_ndarray_column("varied", (None,) * len(shape), np.float64, variable_shape=True)
        varied["a"] = value
        varied["b"] = np.ones((1,) * len(shape))
        w.commit("nothing")
    checkout = repo.checkout()
    assert checkout["fixed"].batch([0, 1, 2, "a"]).shape == (4, *shape)
    assert checkout["fixed"]["a"].shape == shape
    assert checkout["fixed"].nbytes == 0
    assert checkout["varied"]["a"].shape == shape
    assert checkout["varied"].lazy("a")[...].shape == shape
    assert [v.shape for v in checkout["varied"].values()] == [shape, (1,) * len(shape)]


def test_nan_payloads_negative_zero_and_infinities_are_kept_apart(repo: Repository) -> None:
    bits = [
        0x7FF8000000000001,
        0x7FF8000000000002,
        0xFFF8000000000000,
        0x7FF0000000000001,
        1 << 63,
        0,
        0x7FF0000000000000,
    ]
    values = [np.frombuffer(struct.pack("<Q", each), "<f8").reshape(()) for each in bits]
    with repo.checkout(write=True) as w:
        column = w.add_ndarray_column("x", (), np.float64)
        column.extend(range(len(values)), values)
        w.commit("odd numbers")
    column = repo.checkout()["x"]
    assert exact(list(column.values())) == exact(values)
    assert len({column.digest(key) for key in column}) == len(values)


def test_strided_transposed_and_big_endian_input_is_stored_by_value(repo: Repository) -> None:
    whole = np.arange(48, dtype=np.int32).reshape(6, 8)
    given = [whole[::2, ::4], whole.T[:3, 1:3], np.asfortranarray(whole[:3, :2]), whole[2::-1, 1::-1]]
    given += [each.astype(">i4") for each in given] + [np.broadcast_to(np.int32(7), (3, 2))]
    with repo.checkout(write=True) as w:
        column = w.add_ndarray_column("x", (3, 2), np.int32)
        for key, value in enumerate(given):
            column[key] = value
        column.extend(range(100, 106), whole.reshape(6, 4, 2)[:, ::-1, ::-1][:, :3])
        w.commit("views")
    column = repo.checkout()["x"]
    for key, value in enumerate(given):
        assert exact(column[key]) == exact(np.ascontiguousarray(value, np.int32))
    assert exact(column.batch(range(100, 106))) == exact(
        np.ascontiguousarray(whole.reshape(6, 4, 2)[:, ::-1, ::-1][:, :3])
    )


def test_what_is_stored_does_not_follow_later_changes_of_the_input(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        fixed = w.add_ndarray_column("fixed", (4,), np.int16, encoding={"chunk_bytes": 16})
        varied = w.add_ndarray_column("varied", (None,), np.int16, variable_shape=True, encoding={"chunk_bytes": 16})
        block = np.arange(28, dtype=np.int16).reshape(7, 4)
        fixed.extend(range(7), block)
        fixed["one"] = block[3]
        varied["small"], varied["large"] = block[0], block.reshape(-1)
        block[...] = -1
        w.commit("before")
    checkout = repo.checkout()
    assert exact(checkout["fixed"].batch(range(7))) == exact(np.arange(28, dtype=np.int16).reshape(7, 4))
    assert checkout["fixed"]["one"].tolist() == [12, 13, 14, 15]
    assert checkout["varied"]["small"].tolist() == [0, 1, 2, 3]
    assert checkout["varied"]["large"].tolist() == list(range(28))


def test_empty_text_and_bytes_are_values(repo: Repository) -> None:
    with repo.checkout(write=True) as w:
        w.add_str_column("text").extend(range(3), ["", "a", ""])
        w.add_bytes_column("raw").update({"a": b"", "b": bytearray(b"\0\0"), "c": memoryview(b"abcdef")[::2]})
        w.commit("little")
    checkout = repo.checkout()
    assert list(checkout["text"].values()) == ["", "a", ""]
    assert list(checkout["raw"].items()) == [("a", b""), ("b", b"\0\0"), ("c", b"ace")]
    assert checkout["text"].shape_of(0) == (0,)


def test_text_of_any_length_and_plane_comes_back(repo: Repository) -> None:
    texts = ["\0", "é\U0001f600", "x" * 100_000, "\r\n\t", "e\u0301", "\ufeffa"]
    with repo.checkout(write=True) as w:
        w.add_str_column("text").extend(range(len(texts)), texts)
        w.commit("text")
    assert list(repo.checkout()["text"].values()) == texts


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        1.5,
        -0.0,
        1e300,
        2**70,
        "",
        "ü\0",
        [],
        {},
        [1, [2, {"a": None}]],
        {"b": 1, "a": [1.0, 1, True]},
    ],
    ids=repr,
)
def test_json_values_come_back_as_they_were(w: Any, value: Any) -> None:
    w.add_json_column("doc")["a"] = value
    w.commit("doc")
    assert exact(w["doc"]["a"]) == exact(value)


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1: "a"}, {None: 1}, float("nan"), float("inf"), {1, 2}, b"a", np.int64(1), 1j, "\ud800", [("a",)]],
    ids=repr,
)
def test_json_refuses_what_it_would_change(w: Any, value: Any) -> None:
    doc = w.add_json_column("doc")
    with pytest.raises(SchemaError, match="'doc', key 'a'"):
        doc["a"] = value
    assert len(doc) == 0


def test_json_that_is_nested_beyond_all_measure_is_refused(w: Any) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SchemaError):
        w.add_json_column("doc")["a"] = deep


def test_a_value_of_more_than_100_megabytes_is_cut_and_read_in_part(repo: Repository, local_store: LocalStore) -> None:
    value = np.zeros((110, 1024, 1024), np.uint8)
    value[:, 7, 9] = np.arange(110)
    with repo.checkout(write=True) as w:
        w.add_ndarray_column("large", (None, 1024, 1024), np.uint8, variable_shape=True)["a"] = value
        w.commit("large")
    lazy = repo.checkout()["large"].lazy("a")
    assert lazy.shape == value.shape
    assert np.prod(lazy.chunks) <= 4 << 20
    assert lazy[:, 7, 9].tolist() == list(range(110))
    assert (repo.checkout()["large"]["a"] == value).all()
    assert stored_bytes(local_store, "packs/") < 1 << 20


@pytest.mark.parametrize("how", ["shared", "grid"])
def test_lazy_slicing_is_numpy_slicing(repo: Repository, how: str) -> None:
    value = np.arange(7 * 6 * 5, dtype=np.int32).reshape(7, 6, 5)
    encoding = {"chunk_shape": (3, 4, 2)} if how == "grid" else {}
    with repo.checkout(write=True) as w:
        w.add_ndarray_column("x", (7, 6, 5), np.int32, encoding=encoding)["a"] = value
        w.commit("x")
    lazy = repo.checkout()["x"].lazy("a")
    assert (lazy.ndim, lazy.size, lazy.nbytes, len(lazy)) == (3, 210, 840, 7)
    parts: list[Any] = [
        ...,
        0,
        -1,
        slice(None),
        slice(1, 5),
        slice(None, None, -2),
        slice(5, 1),
        slice(6, 0, -3),
        slice(9, 99),
    ]
    for first in parts:
        assert exact(lazy[first]) == exact(np.asarray(value[first]))
        for second in parts[1:]:
            for third in parts[1:3] + parts[5:7]:
                if first is not ...:
                    assert exact(np.asarray(lazy[first, second, third])) == exact(
                        np.asarray(value[first, second, third])
                    )
                assert exact(np.asarray(lazy[..., second, third])) == exact(np.asarray(value[..., second, third]))
    assert exact(np.asarray(lazy)) == exact(value)
    assert exact(lazy[np.int64(2), ..., np.uint8(1)]) == exact(value[2, ..., 1])
    for wrong in (7, -8, (0, 0, 0, 0), [0, 1], None, True, np.array([True] * 7), "a", 1.0):
        with pytest.raises(IndexError):
            lazy[wrong]


# ---- fixed-width strings ---------------------------------------------------------------------------------------------


def test_narrower_strings_fit_and_come_back_equal(w: Any) -> None:
    column = w.add_ndarray_column("s", (2,), "U5")
    column[0] = np.array(["a", "bcd"])
    column[1] = ["é", ""]
    assert column[0].tolist() == ["a", "bcd"]
    assert column[0].dtype == np.dtype("U5")
    assert column[1].tolist() == ["é", ""]
    raw = w.add_ndarray_column("b", (), "S3")
    raw["x"] = b"ab"
    assert raw["x"] == b"ab"


@pytest.mark.parametrize("value", [["abcdef", ""], np.array(["abcdef", ""]), [b"a", b"b"], ["a", 1], [1, 2]], ids=repr)
def test_strings_are_neither_cut_nor_made_of_other_things(w: Any, value: Any) -> None:
    column = w.add_ndarray_column("s", (2,), "U5")
    with pytest.raises(SchemaError):
        column["k"] = value
    with pytest.raises(SchemaError):
        column.extend(["j", "k"], [["a", "b"], value])
    assert len(column) == 0


@pytest.mark.parametrize("value", [b"a\0", np.bytes_(b"a\0"), b"\0"], ids=repr)
def test_a_trailing_nul_that_numpy_would_drop_is_refused(w: Any, value: Any) -> None:
    column = w.add_ndarray_column("s", (), "S4")
    with pytest.raises(SchemaError, match="NUL"):
        column["k"] = value
    pair = w.add_ndarray_column("pair", (2,), "S4")
    with pytest.raises(SchemaError, match="NUL"):
        pair["k"] = [b"abcd", value]


def test_an_array_of_padded_strings_is_its_values(w: Any) -> None:
    column = w.add_ndarray_column("s", (2,), "S4")
    column["k"] = np.array([b"a\0", b"bcd"], "S3")
    assert column["k"].tolist() == [b"a", b"bcd"]


# ---- no silent casts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype, value",
    [
        ("f4", np.zeros(2, "f8")),
        ("f8", np.zeros(2, "f4")),
        ("f8", np.zeros(2, "i4")),
        ("i4", np.zeros(2, "i8")),
        ("i8", np.zeros(2, "i4")),
        ("i4", np.zeros(2, "u4")),
        ("u1", np.zeros(2, "?")),
        ("?", np.zeros(2, "u1")),
        ("c8", np.zeros(2, "f4")),
        ("M8[ns]", np.zeros(2, "M8[us]")),
        ("M8[ns]", np.zeros(2, "m8[ns]")),
        ("m8[ns]", np.zeros(2, "i8")),
        ("U4", np.zeros(2, "S4")),
        ("i4", [0.5, 1.5]),
        ("f8", [1, 2]),
        ("i8", [True, 2]),
        ("f8", [2**53 + 1, 0.5]),
        ("u1", [None, 1]),
        ("i8", "ab"),
        ("i8", np.zeros(2, object)),
        ("i8", np.ma.masked_array([1, 2], [True, False])),
    ],
)
def test_no_array_is_cast(w: Any, dtype: str, value: Any) -> None:
    for name, shape in (("fixed", (2,)), ("varied", (None,))):
        column = w.add_ndarray_column(name, shape, dtype, variable_shape=name == "varied")
        with pytest.raises(SchemaError, match=f"column '{name}', key 'k': expected .*, given .*"):
            column["k"] = value
        with pytest.raises(SchemaError, match=name):
            column.extend(["k"], [value])
        if isinstance(value, np.ndarray):
            with pytest.raises(SchemaError, match=name):
                column.extend(["k"], value[None])
        assert len(column) == 0


@pytest.mark.parametrize(
    "dtype, value", [("i8", [1, 2]), ("f8", [1.5, 2.5]), ("?", [True, False]), ("c16", [1j, 2.5j]), ("U3", ["a", "b"])]
)
def test_lists_are_taken_where_numpy_makes_the_columns_own_dtype_of_them(w: Any, dtype: str, value: Any) -> None:
    column = w.add_ndarray_column("x", (2,), dtype)
    column["k"] = value
    assert column["k"].tolist() == value


@pytest.mark.parametrize(
    "dtype, good, bad",
    [
        (
            "f4",
            [0.5, float("nan"), float("inf"), -0.0, np.float32(0.1)],
            [0.1, 1e39, 1, True, "1", 1j, np.float64(0.5)],
        ),
        ("f2", [0.5, 65504.0], [65505.0, 0.1]),
        ("f8", [0.1, np.float64(3)], [1, np.int64(1)]),
        ("u1", [0, 255, np.uint8(3)], [-1, 256, 1.0, True, np.int64(1), None]),
        ("i8", [2**63 - 1, -(2**63)], [2**63, 1.0]),
        ("?", [True, np.False_], [1, 0, 1.0]),
        ("c8", [0.5 + 1j], [0.1j, 1, 1.0]),
        ("M8[s]", [np.datetime64("2026-01-01T00:00:00", "s")], [np.datetime64("2026-01-01"), 0, "2026-01-01"]),
        ("U2", ["ab", "", "é"], ["abc", b"ab", 1]),
    ],
)
def test_scalars_are_taken_if_they_are_exact(w: Any, dtype: str, good: list[Any], bad: list[Any]) -> None:
    column = w.add_ndarray_column("x", (), dtype)
    for value in good:
        column["k"] = value
        assert exact(column["k"]) == exact(np.array(value, dtype))
    for value in bad:
        with pytest.raises(SchemaError, match="column 'x', key 'bad'"):
            column["bad"] = value
    assert list(column) == ["k"]


@pytest.mark.parametrize("variable", [False, True], ids=["fixed", "variable"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3, 4), (3, 3), (2, 4)])
def test_another_shape_is_refused(w: Any, variable: bool, shape: tuple[int, ...]) -> None:
    column = w.add_ndarray_column("x", (2, 3), np.uint8, variable_shape=variable)
    wanted = "2 dimensions" if variable and len(shape) != 2 else r".*\(2, 3\) uint8"
    with pytest.raises(SchemaError, match=rf"column 'x', key 7: expected {wanted}, given \(") as caught:
        column[7] = np.zeros(shape, np.uint8)
    assert ("variable_shape=True" in str(caught.value)) == (not variable and len(shape) == 2)
    with pytest.raises(SchemaError, match="'x'"):
        column.extend(range(4), np.zeros((4, *shape), np.uint8))
    assert len(column) == 0


def test_samples_of_different_sizes_need_a_column_for_them(w: Any) -> None:
    column = w.add_ndarray_column("x", (2, 3), np.uint8)
    for values in ([np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.uint8)], np.zeros((2, 2, 2), np.uint8)):
        with pytest.raises(SchemaError, match="give the column variable_shape=True to take samples of different sizes"):
            column.extend(["a", "b"], values)
    assert len(column) == 0


def test_what_was_given_is_said_shortly(w: Any) -> None:
    column = w.add_ndarray_column("x", (), np.int64)
    said = {
        "1\n": r"the text '1\n'",
        b"1": "the bytes b'1'",
        "long" * 1000: f"the text '{'long' * 9}lon…",
        None: "None",
        (None,): "(1,) object",
        2.5: "the Python float 2.5",
    }
    for value, words in said.items():
        with pytest.raises(SchemaError) as caught:
            column["k"] = value
        assert str(caught.value).endswith(f"given {words}; convert the value first, nothing was staged")
    with pytest.raises(SchemaError, match="given a dict;"):
        column["k"] = {}
    for values in (np.array([1.0, 2.0]), np.array(["1", "2"])):
        with pytest.raises(
            SchemaError, match=rf"expected samples of \(\) int64, given an array \(2,\) {values.dtype};"
        ):
            column.extend(["a", "b"], values)


def test_variable_shapes_are_bounded_by_the_maximum_only(w: Any) -> None:
    column = w.add_ndarray_column("x", (2, None), np.uint8, variable_shape=True)
    for shape in ((0, 0), (1, 1000), (2, 0)):
        column[str(shape)] = np.zeros(shape, np.uint8)
        assert column[str(shape)].shape == shape
    with pytest.raises(SchemaError):
        column["k"] = np.zeros((3, 1), np.uint8)


@pytest.mark.parametrize("value", [b"a", 1, None, ["a"], np.array("a"), "\ud800"], ids=repr)
def test_text_columns_take_text_only(w: Any, value: Any) -> None:
    column = w.add_str_column("text")
    with pytest.raises(SchemaError, match="column 'text', key 'k'"):
        column["k"] = value
    assert len(column) == 0


@pytest.mark.parametrize("value", ["a", 1, None, [1, 2], np.zeros(2, np.uint8)], ids=repr)
def test_bytes_columns_take_bytes_only(w: Any, value: Any) -> None:
    column = w.add_bytes_column("raw")
    with pytest.raises(SchemaError, match="column 'raw', key 'k'"):
        column["k"] = value
    assert len(column) == 0


@pytest.mark.parametrize(
    "dtype",
    [
        object,
        "V4",
        "M8",
        "m8",
        [("a", "i4")],
        "f16" if np.dtype("longdouble").itemsize > 8 else "O",
        "S",
        "U",
        "nonsense",
    ],
)
def test_columns_of_other_dtypes_are_refused(w: Any, dtype: Any) -> None:
    with pytest.raises(SchemaError):
        w.add_ndarray_column("x", (2,), dtype)
    assert "x" not in w


@pytest.mark.parametrize("shape", [(-1,), (1.5,), ("a",), (None,), (True,), (2**63,)])
def test_columns_of_impossible_shapes_are_refused(w: Any, shape: Any) -> None:
    with pytest.raises(SchemaError):
        w.add_ndarray_column("x", shape, "u1")
    assert "x" not in w


# ---- all or nothing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold_at", [4, 1 << 18])
@pytest.mark.parametrize("kind", ["fixed", "varied", "grid"])
@pytest.mark.parametrize("way", ["value", "key", "short", "long", "raises", "block"])
def test_an_extend_that_fails_stages_nothing(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, fold_at: int, kind: str, way: str
) -> None:
    monkeypatch.setattr(stage_module, "_FOLD_AT", fold_at)
    monkeypatch.setattr(stage_module, "_SLICE_BYTES", 256)
    good = [np.full((2, 3), i, np.int32) for i in range(40)]
    with repo.checkout(write=True) as w:
        encoding = {"chunk_bytes": 64} | ({"chunk_shape": (1, 2)} if kind == "grid" else {})
        column = w.add_ndarray_column("x", (2, 3), np.int32, variable_shape=kind == "varied", encoding=encoding)
        column.extend(range(5), good[10:15])
        w.commit("before")
        column[1], column["s"] = good[20], good[21]
        del column[3]
        held = {key: exact(value) for key, value in column.items()}

        def values() -> Any:
            yield from good
            if way == "raises":
                raise ZeroDivisionError
            if way == "value":
                yield np.zeros((2, 3), np.int64)
            if way == "long":
                yield from good

        keys: list[Any] = [*range(41)]
        if way == "key":
            keys[-1] = 1.5
        given: Any = values()
        if way == "block":
            given = np.stack([*good, good[0]])
            keys[30] = "a\0"
        with pytest.raises((SchemaError, ZeroDivisionError)):
            column.extend(keys, given)
        assert {key: exact(value) for key, value in column.items()} == held
        assert len(column) == len(held) == 5
        assert column.append(good[0]) == 5
        column.extend(range(100, 140), good)
        held |= {5: exact(good[0])} | {100 + i: exact(value) for i, value in enumerate(good)}
        w.commit("after")
    assert {key: exact(value) for key, value in repo.checkout()["x"].items()} == held


def test_an_update_that_fails_stages_nothing(w: Any) -> None:
    column = w.add_str_column("text")
    column["a"] = "before"
    for wrong in ([("a", "x"), ("b", 1)], {"a": "x", True: "y"}, [("a", "x"), ("b",)], [("a", "x"), 3]):
        with pytest.raises((SchemaError, ValueError, TypeError)):
            column.update(wrong)
        assert dict(column.items()) == {"a": "before"}


def test_an_extend_may_read_the_column_that_it_extends(w: Any) -> None:
    column = w.add_ndarray_column("x", (2,), np.int64)
    column.extend(range(500), np.arange(1000).reshape(500, 2))
    column.update((key, column[key] * 2) for key in column)
    assert column.batch(range(500)).tolist() == (np.arange(1000).reshape(500, 2) * 2).tolist()

    def failing() -> Any:
        for key in column:
            yield key, column[key] + len(column)
            if key == 300:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        column.update(failing())
    assert column.batch(range(500)).tolist() == (np.arange(1000).reshape(500, 2) * 2).tolist()
    assert len(column) == 500


# ---- equal values ----------------------------------------------------------------------------------------------------


def test_writing_an_equal_value_back_stages_nothing(repo: Repository, local_store: LocalStore) -> None:
    with repo.checkout(write=True) as w:
        column = w.add_ndarray_column("x", (3,), np.float32)
        column.extend(range(300), np.arange(900, dtype=np.float32).reshape(300, 3))
        w.add_json_column("doc")["a"] = {"b": 1, "c": 2}
        w.commit("first")
    with repo.checkout(write=True) as w:
        before = stored_bytes(local_store)
        w["x"][5] = w["x"][5]
        w["x"].extend(range(300), np.arange(900, dtype=">f4").reshape(300, 3))
        w["doc"]["a"] = {"c": 2, "b": 1}
        w["x"]["new"] = w["x"][0]
        del w["x"]["new"]
        assert not w.status()
        with pytest.raises(NothingToCommitError):
            w.commit("nothing")
        assert stored_bytes(local_store) == before


def test_equal_samples_are_stored_once_across_keys_and_commits(repo: Repository, local_store: LocalStore) -> None:
    rng = np.random.default_rng(0)
    values = [rng.integers(0, 256, 50_000, dtype=np.uint8) for _ in range(3)]
    with repo.checkout(write=True) as w:
        fixed = w.add_ndarray_column("fixed", (50_000,), np.uint8)
        for key in range(30):
            fixed[key] = values[key % 3]
        fixed.extend(range(30, 60), np.stack([values[key % 3] for key in range(30)]))
        w.add_bytes_column("raw").extend(range(40), (values[key % 2].tobytes() for key in range(40)))
        w.commit("first")
    assert stored_bytes(local_store, "packs/") < 5 * 50_000 + 5_000
    for number in range(3):
        with repo.checkout(write=True) as w:
            w["fixed"][f"again {number}"] = values[number]
            w["raw"][f"again {number}"] = values[number % 2].tobytes()
            w.commit(f"again {number}")
    assert stored_bytes(local_store, "packs/") < 5 * 50_000 + 5_000
    assert exact(repo.checkout()["fixed"]["again 2"]) == exact(values[2])


def test_a_value_that_was_removed_and_written_again_is_there(tmp_path: Path, local_store: LocalStore) -> None:
    repo = create(local_store, tmp_path / "cache")
    value = np.arange(1000)
    with repo.checkout(write=True) as w:
        w.add_ndarray_column("x", (1000,), np.int64)["a"] = value
        w.commit("written")
        del w["x"]["a"]
        w.commit("removed")
        w["x"]["a"] = value
        w.commit("again")
        w.remove("x")
        w.commit("column removed")
        w.add_ndarray_column("x", (1000,), np.int64)["b"] = value
        w.commit("column again")
    other = reopen(local_store, tmp_path / "other")
    assert exact(other.checkout()["x"]["b"]) == exact(value)
    assert exact(other.checkout("main~2")["x"]["a"]) == exact(value)


def test_large_samples_of_many_shapes_share_a_column(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each is cut on a grid of its own: more kinds of encodings than fit into a byte.
    monkeypatch.setattr(layout, "GRID_BYTES", 16)
    monkeypatch.setattr(layout, "choose_chunk_shape", lambda shape, itemsize: (shape[0] // 2, shape[1]))
    values = [np.full((5 + 2 * key, 4), key % 256, np.uint8) for key in range(300)]
    with repo.checkout(write=True) as w:
        column = w.add_ndarray_column("x", (None, None), np.uint8, variable_shape=True)
        column.extend(range(300), values)
        w.commit("x")
    column = repo.checkout()["x"]
    assert exact(list(column.values())) == exact(values)
    assert {column.lazy(key).chunks for key in column} == {(2 + key, 4) for key in range(300)}


def test_true_is_one_value_whatever_byte_holds_it(tmp_path: Path) -> None:
    repo = Repository.create(tmp_path / "repo", author="A <a@example.org>", cache_dir=tmp_path / "cache")
    odd = np.array([0, 255, 1], np.uint8).view(np.bool_)
    with repo.checkout(write=True) as w:
        column = w.add_ndarray_column("flags", (3,), "bool")
        column["plain"] = np.array([False, True, True])
        column["odd"] = odd
        column.extend(["block"], odd[None])
        assert column.digest("plain") == column.digest("odd") == column.digest("block")
