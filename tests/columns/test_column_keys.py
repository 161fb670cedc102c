"""Keys, and what may be done to which column when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hangarlake import (
    NodeExistsError,
    NodeNotFoundError,
    ReadOnlyError,
    Repository,
    SampleNotFoundError,
    SchemaError,
)
from hangarlake.storage import LocalStore
from tests.columns.values import exact, reopen

GOOD = [0, -1, 2**63 - 1, -(2**63), "0", "-1", " ", "a/b", "é", "\U0001f600", "z" * 1024, "é" * 512, "\xa0", "None"]
BAD = [
    *(True, False, np.True_, None, 1.0, np.float64(1), b"a", (), ("a",), ("a", "b"), ("a", "b", "c"), ["a"]),
    *("", "\0", "a\nb", "\x7f", "\x80", "\x9f", "\ud800", "z" * 1025, "é" * 513, 2**63, -(2**63) - 1, np.uint64(2**63)),
]


@pytest.fixture
def column(w: Any) -> Any:
    """A column with one sample."""
    found = w.add_ndarray_column("x", (2,), np.int16)
    found["here"] = np.array([1, 2], np.int16)
    return found


def value(seed: int) -> np.ndarray[Any, Any]:
    return np.array([seed, -seed], np.int16)


def test_keys_that_are_allowed_come_back_in_order(column: Any, w: Any, tmp_path: Path, local_store: LocalStore) -> None:
    column.extend(GOOD, [value(n) for n in range(len(GOOD))])
    del column["here"]
    w.commit("keys")
    expected = [-(2**63), -1, 0, 2**63 - 1, *sorted((key for key in GOOD if isinstance(key, str)), key=str.encode)]
    for view in (column, reopen(local_store, tmp_path / "other").checkout()["x"]):
        assert list(view) == list(view.keys()) == expected
        assert [type(key) for key in view] == [type(key) for key in expected]
        for n, key in enumerate(GOOD):
            assert key in view
            assert exact(view[key]) == exact(value(n))
        assert exact(view.batch(GOOD)) == exact(np.stack([value(n) for n in range(len(GOOD))]))


@pytest.mark.parametrize("key", BAD, ids=lambda key: ascii(key)[:20])
def test_keys_that_are_not_allowed_are_refused_everywhere(column: Any, key: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: column[key],
        lambda: column.__setitem__(key, value(1)),
        lambda: column.__delitem__(key),
        lambda: column.extend(["new", key], [value(1), value(2)]),
        lambda: column.extend([key, 5], np.stack([value(1), value(2)])),
        lambda: column.extend((each for each in ("new", key)), [value(1), value(2)]),
        lambda: column.batch(["here", key]),
        lambda: column.shape_of(key),
        lambda: column.lazy(key),
        lambda: column.digest(key),
        lambda: column.pop(key, None),
        lambda: column.get(key),
    ]
    if not isinstance(key, list):
        calls.append(lambda: column.update({"new": value(1), key: value(2)}))
    for call in calls:
        with pytest.raises(SchemaError):
            call()
    assert key not in column
    assert list(column) == ["here"]
    assert len(column) == 1


@pytest.mark.parametrize(
    "keys",
    [
        range(2**63 - 1, 2**63 + 1),
        np.array([True, False]),
        np.array([1.0, 2.0]),
        np.array([1, 2**63], np.uint64),
        np.array([[1, 2]]),
        np.array([b"a", b"b"]),
        np.array(["a", None], object),
        "ab",
    ],
    ids=ascii,
)
def test_containers_of_keys_that_are_not_allowed_are_refused(column: Any, keys: Any) -> None:
    if isinstance(keys, str):
        keys = [keys, 1.5]
    for values in (np.stack([value(1), value(2)]), [value(1), value(2)]):
        with pytest.raises(SchemaError):
            column.extend(keys, values)
    with pytest.raises(SchemaError):
        column.batch(keys)
    assert list(column) == ["here"]


def test_numpy_integers_are_the_integers_that_they_are(column: Any) -> None:
    for dtype in (np.int8, np.uint8, np.int64, np.uint64):
        column[dtype(7)] = value(7)
    column.extend(np.array([8, 9], np.uint16), np.stack([value(8), value(9)]))
    column.extend(np.array([10, 2**62], np.uint64), np.stack([value(1), value(2)]))
    column.extend(np.array(["s", "t"]), np.stack([value(1), value(2)]))
    assert list(column) == [7, 8, 9, 10, 2**62, "here", "s", "t"]
    assert all(type(key) in (int, str) for key in column)
    assert np.int32(8) in column
    assert column.batch(np.array([7, 9], np.int8))[:, 0].tolist() == [7, 9]


def test_an_integer_and_its_digits_are_two_keys(column: Any) -> None:
    column[1] = value(1)
    assert "1" not in column
    with pytest.raises(SampleNotFoundError, match=r"there is one under 1 \(int\)"):
        column["1"]
    column["1"] = value(2)
    assert column[1].tolist() == [1, -1]
    assert column["1"].tolist() == [2, -2]


def test_append_counts_on_from_the_greatest_integer(column: Any, w: Any) -> None:
    assert [column.append(value(n)) for n in range(3)] == [0, 1, 2]
    column[10] = value(10)
    column["99"] = value(1)
    w.commit("ten")
    assert column.append(value(11)) == 11
    column[2**63 - 1] = value(0)
    with pytest.raises(SchemaError):
        column.append(value(1))
    with pytest.raises(SchemaError):
        w["x"].append(np.zeros(3, np.int16))
    negative = w.add_json_column("negative")
    negative[-7] = 1
    assert negative.append(2) == 0


def test_absent_samples_are_key_errors_that_name_column_and_key(column: Any, w: Any) -> None:
    w.commit("x")
    for view in (column, w.repository.checkout()["x"]):
        for call in (
            view.__getitem__,
            view.shape_of,
            view.digest,
            view.lazy,
            lambda key, view=view: view.batch(["here", key]),
        ):
            with pytest.raises(SampleNotFoundError, match="column 'x' has no sample 'gone'"):
                call("gone")
        with pytest.raises(KeyError):
            view.batch([*["here"] * 5000, "gone"])
        assert view.get("gone") is None
        assert view.get("gone", 3) == 3
    with pytest.raises(SampleNotFoundError):
        del column["gone"]
    with pytest.raises(SampleNotFoundError):
        column.pop("gone")
    assert column.pop("gone", 5) == 5


def test_batches_keep_the_order_and_repetitions_asked_for(column: Any, w: Any) -> None:
    column.extend(range(6000), np.stack([value(n) for n in range(6000)]))
    w.commit("many")
    for view in (column, w.repository.checkout()["x"]):
        for keys in ([5, 1, 5], [], list(range(5999, -1, -1)), [3] * 5000, iter([2, 1])):
            listed = list(keys)
            assert view.batch(listed)[:, 0].tolist() == listed
        assert view.batch([]).shape == (0, 2)
        assert view.batch([]).dtype == np.int16
    text = w.add_str_column("text")
    assert text.batch([]) == []


# ---- which column, when ----------------------------------------------------------------------------------------------


def uses(column: Any) -> list[Callable[[], Any]]:
    """Return all that a column can be asked."""
    return [
        lambda: column["here"],
        lambda: "here" in column,
        lambda: len(column),
        lambda: list(column),
        lambda: list(column.keys()),
        lambda: list(column.values()),
        lambda: list(column.items()),
        lambda: column.get("here"),
        lambda: column.batch(["here"]),
        lambda: list(column.scan()),
        lambda: column.shape_of("here"),
        lambda: column.lazy("here"),
        lambda: column.digest("here"),
        lambda: column.nbytes,
        lambda: column.schema,
        lambda: column.dtype,
        lambda: column.encoding,
        lambda: bool(column),
    ]


def changes(column: Any) -> list[Callable[[], Any]]:
    """Return all that can be done to a column."""
    return [
        lambda: column.__setitem__("a", value(1)),
        lambda: column.__delitem__("here"),
        lambda: column.extend(["a"], [value(1)]),
        lambda: column.update({"a": value(1)}),
        lambda: column.append(value(1)),
        lambda: column.pop("here"),
    ]


def test_columns_of_a_closed_checkout_say_so(column: Any, w: Any) -> None:
    w.commit("x")
    checkout = w.repository.checkout()
    reading = checkout["x"]
    w.close()
    checkout.close()
    for call in [*uses(column), *changes(column), *uses(reading)]:
        with pytest.raises(ValueError, match="is closed"):
            call()
    for view, owner in ((column, w), (reading, checkout)):
        assert "closed" in repr(view)
        assert repr(owner)
        with pytest.raises(ValueError, match="is closed"):
            owner["x"]
        with pytest.raises(ValueError, match="is closed"):
            owner.columns["x"]
        with pytest.raises(ValueError, match="is closed"):
            "x" in owner  # noqa: B015 - asking is the test
        owner.close()
    for call in (w.commit, w.flush, w.reset, w.status, lambda: w.rename("x", "y"), lambda: w.remove("x")):
        with pytest.raises((ValueError, TypeError)):
            call("message") if call == w.commit else call()


def test_columns_of_a_reading_checkout_cannot_be_changed(column: Any, w: Any) -> None:
    w.commit("x")
    checkout = w.repository.checkout()
    for call in changes(checkout["x"]):
        with pytest.raises(ReadOnlyError, match="write=True"):
            call()
    with pytest.raises(PermissionError):
        checkout["x"].append(value(1))
    assert list(checkout["x"]) == ["here"]
    for name in ("commit", "add_str_column", "flush", "reset"):
        assert callable(getattr(w, name))


def test_a_column_that_was_removed_is_gone_and_one_that_was_added_anew_is_read_by_its_own_schema(
    column: Any, w: Any
) -> None:
    w.commit("x")
    w.remove("x")
    for call in [*uses(column)[:12], *changes(column)]:
        with pytest.raises(NodeNotFoundError, match="'x'"):
            call()
    assert "x" not in w
    with pytest.raises(NodeNotFoundError):
        del w.columns["x"]
    again = w.add_ndarray_column("x", (2,), np.float32)
    again["here"] = np.array([0.5, 1.5], np.float32)
    w.flush()
    for view in (column, again):
        assert list(view) == ["here"]
        assert exact(view.batch(["here"])[0]) == exact(np.array([0.5, 1.5], np.float32))
        assert exact(view["here"]) == exact(np.array([0.5, 1.5], np.float32))
        assert view.dtype == np.float32


def test_names_that_are_taken_or_impossible_are_refused(column: Any, w: Any) -> None:
    for name in ("x", "x/below"):
        with pytest.raises(NodeExistsError):
            w.add_str_column(name)
    w.add_str_column("a/b")
    with pytest.raises(NodeExistsError):
        w.add_str_column("a")
    for name in ("", "/", "a//b", "a/", "..", "a/../b", "\0", "zarr.json", "\ud800", "n" * 1025, None, 5):
        with pytest.raises((SchemaError, TypeError)):
            w.add_str_column(name)
        with pytest.raises((SchemaError, TypeError)):
            w.rename("x", name)
    assert sorted(w) == ["a/b", "x"]
    for old, new in (("x", "a/b"), ("a", "a/b/d")):
        with pytest.raises(NodeExistsError):
            w.rename(old, new)
    with pytest.raises(NodeNotFoundError):
        w.rename("absent", "y")


def test_renames_may_swap_and_come_back(column: Any, w: Any) -> None:
    w.add_str_column("text")["a"] = "b"
    w.commit("both")
    for old, new in (("x", "tmp"), ("text", "x"), ("tmp", "text")):
        w.rename(old, new)
    assert w["x"]["a"] == "b"
    assert w["text"]["here"].tolist() == [1, 2]
    w.commit("swapped")
    assert w.repository.checkout()["x"]["a"] == "b"
    for old, new in (("x", "tmp"), ("text", "x"), ("tmp", "text")):
        w.rename(old, new)
    w.rename("x", "y")
    w.rename("y", "x")
    w.commit("back")
    checkout = w.repository.checkout()
    assert checkout["x"]["here"].tolist() == [1, 2]
    assert checkout.commit.catalog == w.repository.resolve("main~2").catalog


def test_several_columns_are_read_together(column: Any, w: Any) -> None:
    w.add_str_column("label")["here"] = "cat"
    first, second = w[["x", "label"], "here"]
    assert (first.tolist(), second) == ([1, 2], "cat")
    assert w["label", "here"] == "cat"
    w["label", "there"] = "dog"
    del w["label", "here"]
    assert dict(w["label"].items()) == {"there": "dog"}
    assert set(w.columns) == {"x", "label"}
    with pytest.raises(NodeNotFoundError, match="there are 'label', 'x'"):
        w["absent"]
    with pytest.raises(TypeError):
        w[1]


def test_attributes_are_json_that_nobody_changes_from_outside(w: Any) -> None:
    given = {"list": [1, {"a": None}]}
    w.attrs["x"] = given
    given["list"].append("later")
    w.attrs["x"]["list"].append("outside")
    for wrong in ((1, 2), {1: 2}, float("nan"), object(), {1, 2}):
        with pytest.raises(SchemaError):
            w.attrs["y"] = wrong
    w.commit("attrs")
    w.repository.checkout().attrs["x"]["list"].append("outside")
    w.repository.checkout().attrs["z"] = 1
    assert w.repository.checkout().attrs == dict(w.attrs) == {"x": {"list": [1, {"a": None}]}}
    del w.attrs["x"]
    w.commit("none")
    assert w.repository.checkout().attrs == {}


def test_attributes_of_columns_are_staged_committed_and_merged_name_by_name(w: Any, repo: Repository) -> None:
    column = w.add_ndarray_column("x", (2,), np.int16)
    column["a"] = value(1)
    given: dict[str, Any] = {"unit": "mm", "range": [0, 1]}
    column.attrs.update(given)
    given["range"].append("later")
    column.attrs["range"].append("outside")
    for wrong in ({"unit": (1, 2)}, {"unit": float("nan")}, {"unit": object()}, {1: 2}):
        with pytest.raises(SchemaError, match="attribute"):
            column.attrs.update({"later": 1, **wrong})
    with pytest.raises(KeyError):
        del column.attrs["absent"]
    assert dict(column.attrs) == {"unit": "mm", "range": [0, 1]}
    w.flush()
    w.commit("with attributes")
    repo.create_branch("other")
    repo.checkout()["x"].attrs["unit"] = "of a copy"

    column.attrs["unit"] = "cm"
    column["b"] = value(2)
    assert w.status()
    w.reset("x")
    assert w["x"].attrs["unit"] == "mm"
    w["x"].attrs["unit"] = "cm"
    w.commit("another unit")
    with repo.checkout("other", write=True) as other:
        del other["x"].attrs["range"]
        other["x"].attrs["made by"] = "hand"
        other.commit("other names")
    w.merge("other")
    w["x"].attrs["count"] = 3
    w.close()
    with repo.checkout(write=True) as again:
        assert dict(again["x"].attrs) == {"unit": "cm", "made by": "hand", "count": 3}
    stored = repo.checkout()["x"]
    assert stored.attrs == {"unit": "cm", "made by": "hand"}
    assert stored["a"].tolist() == [1, -1]
    assert list(repo.diff("main~1", "main").columns) == ["x"]


def test_encodings_that_cannot_be_are_refused_before_anything_is_staged(w: Any) -> None:
    wrong: list[Any] = [
        {"compressor": "lzma2"},
        {"level": "high"},
        {"level": 99},
        {"chunk_bytes": 0},
        {"chunk_bytes": "64k"},
        {"chunk_shape": (1,)},
        {"chunk_shape": (0, 1)},
        {"chunk_shape": 5},
        {"chunks": 1},
        {"compressor": {"name": "no such codec"}},
    ]
    for encoding in wrong:
        with pytest.raises(SchemaError):
            w.add_ndarray_column("x", (2, 2), np.uint8, encoding=encoding)
    assert "x" not in w
    column = w.add_ndarray_column(
        "x", (2, 2), np.uint8, encoding={"compressor": "gzip", "level": 1, "chunk_bytes": 100}
    )
    assert column.encoding == {"compressor": "gzip", "level": 1, "chunk_bytes": 100}


def test_a_prototype_gives_shape_and_dtype(w: Any) -> None:
    column = w.add_ndarray_column("x", prototype=np.zeros((2, 3), ">f4"))
    assert (column.shape, column.dtype) == ((2, 3), np.dtype("<f4"))
    for wrong in ({"prototype": np.zeros(2), "shape": (2,)}, {"shape": (2,)}, {"dtype": "u1"}, {}):
        with pytest.raises(SchemaError):
            w.add_ndarray_column("y", **wrong)


def test_a_repository_says_which_columns_it_has(repo: Repository) -> None:
    with repo.checkout() as checkout:
        assert len(checkout) == len(checkout.columns) == 0
        with pytest.raises(NodeNotFoundError, match="nothing yet"):
            checkout["x"]


@pytest.mark.parametrize("nested", [False, True])
def test_many_keys_where_one_is_asked_for_are_sent_to_batch(w: Any, nested: bool) -> None:
    column = w.add_str_column("x", nested=nested)
    for keys in (["a", "b"], slice(0, 3), range(2), np.array([1, 2]), {"a"}):
        words = f"a key is a str or an int, not {type(keys).__name__}; use .batch(keys) for many"
        with pytest.raises(SchemaError) as caught:
            column[keys]
        assert str(caught.value) == words


@pytest.mark.parametrize("nested", [False, True])
def test_the_last_value_of_a_key_counts_and_a_list_that_repeats_one_is_logged(
    w: Any, nested: bool, caplog: pytest.LogCaptureFixture
) -> None:
    column = w.add_ndarray_column("x", (), "i8", nested=nested)

    def key(each: Any) -> Any:
        return ("sample", each) if nested else each

    column.extend([key(each) for each in ("a", "b", "c", "b", "b")], np.arange(5))
    (record,) = caplog.records
    assert f"{key('b')!r} is given more than once (positions 1 and 3)" in record.getMessage()
    assert [int(column[key(each)]) for each in ("a", "b", "c")] == [0, 4, 2]

    caplog.clear()
    column.extend([key(each) for each in ("d", "e")], np.arange(2))
    column.extend(map(key, ["x", "x"]), np.arange(2))  # an iterator is not looked at as a whole
    column.update([(key("y"), np.int64(1)), (key("y"), np.int64(2))])
    assert (column[key("x")], column[key("y")]) == (1, 2)
    assert not caplog.records
    if not nested:
        column.extend(np.array([1, 3, 3]), np.arange(3))
        assert "the key 3 is given" in caplog.text
