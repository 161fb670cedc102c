"""Tables and JSON objects: a sample in each row or member, parsed exactly; all of them or none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake.errors import CorruptionError, NodeNotFoundError, SchemaError
from hangarlake.formats import (
    ImportOptions,
    TableColumns,
    UnclearKeysError,
    export_table,
    import_members,
    import_table,
)
from hangarlake.formats.cells import cell_text, kind_of
from hangarlake.write_checkout import WriteCheckout

CREATE = ImportOptions(create=True)
LABELS = TableColumns(key="file", value="label")


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteCheckout]:
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "cache"))
    repo = hl.Repository.create(tmp_path / "repo", author="Ada <ada@example.org>")
    with repo.checkout("main", write=True) as opened:
        yield opened


def table(tmp_path: Path, *rows: str, name: str = "labels.csv", header: str = "file,label") -> Path:
    path = tmp_path / name
    path.write_bytes("\n".join([header, *rows, ""]).encode("utf-8"))
    return path


def test_rows_become_samples_under_the_keys_of_imported_files(tmp_path: Path, writer: WriteCheckout) -> None:
    path = table(tmp_path, "train/0001.png,3", "train/0002.tar.gz,-4", "plain,5")
    result = import_table(writer, path, "labels", LABELS, CREATE, strip_suffix=True)
    assert (result.samples, result.added, result.created) == (3, 3, ("labels",))
    labels = writer.columns["labels"]
    assert (labels.dtype, labels.shape) == (np.int64, ())
    assert {key: int(value) for key, value in labels.items()} == {"train/0001": 3, "train/0002.tar": -4, "plain": 5}


def test_keys_stay_as_they_are_unless_asked(tmp_path: Path, writer: WriteCheckout) -> None:
    import_table(writer, table(tmp_path, "a.png,1", "7,2"), "labels", LABELS, CREATE)
    assert list(writer.columns["labels"]) == ["7", "a.png"]
    import_table(writer, table(tmp_path, "7,2"), "numbers", LABELS, ImportOptions(create=True, key_type="int"))
    assert list(writer.columns["numbers"]) == [7]


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["1", "-2", "0"], np.int64),
        (["9007199254740993"], np.int64),
        (["1", "2.5"], np.float64),
        (["1e3", "nan", "-inf", ".5"], np.float64),
        (["1", ""], None),
        (["007"], None),
        (["1_000"], None),
        (["9007199254740993", "0.5"], None),
        (["9223372036854775808"], np.float64),
        (["9223372036854775809"], None),
        (["cat"], None),
    ],
)
def test_a_column_that_is_made_is_of_integers_else_numbers_else_text(texts: list[str], dtype: Any) -> None:
    value = kind_of(texts)(texts[0])
    assert isinstance(value, str) if dtype is None else value.dtype == dtype


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("int8", ["-128", " 7 ", "007"], ["128", "1.0", "", "x", "1_0"]),
        ("uint8", ["255"], ["-1", "256"]),
        ("bool", ["true", "False", "1", "0"], ["yes", "2", ""]),
        ("float32", ["0.1", "nan", "-inf", "1e-3"], ["1e40", "", "1,5", "1_0"]),
        ("float64", ["1.7976931348623157e308"], ["1e400"]),
        ("complex64", ["1+2j", "(1-2j)"], ["1e60", "i"]),
        ("datetime64[D]", ["2026-11-22", "NaT"], ["2026-11-22T12:00", "today", "now", "", "22.11.2026"]),
        ("datetime64[ns]", ["2026-11-22T12:00"], ["9999-01-01"]),
        ("timedelta64[s]", ["-5", "NaT"], ["5 s", "1.5"]),
        ("<U3", ["cat", ""], ["four"]),
    ],
)
def test_values_are_parsed_to_the_dtype_exactly_or_refused_with_their_line(
    tmp_path: Path, writer: WriteCheckout, dtype: str, good: list[str], bad: list[str]
) -> None:
    column = writer.add_ndarray_column("labels", shape=(), dtype=dtype)
    import_table(writer, table(tmp_path, *(f'{i},"{text}"' for i, text in enumerate(good))), "labels", LABELS)
    assert len(column) == len(good)
    # What is written reads back as the same value.
    for text in [cell_text(value) for value in column.values()]:
        import_table(writer, table(tmp_path, f'again,"{text}"'), "labels", LABELS)
        assert cell_text(column["again"]) == text
    del column["again"]
    for text in bad:
        with pytest.raises(SchemaError, match=r"labels\.csv: line 3: .* is no"):
            import_table(writer, table(tmp_path, f'new,"{good[0]}"', f'x,"{text}"'), "labels", LABELS)
    assert len(column) == len(good)


def test_text_is_taken_as_it_stands(tmp_path: Path, writer: WriteCheckout) -> None:
    column = writer.add_str_column("labels")
    import_table(writer, table(tmp_path, 'a," a, ""big""\ncat "', "b,"), "labels", LABELS)
    assert dict(column.items()) == {"a": ' a, "big"\ncat ', "b": ""}


def test_a_whole_row_is_a_document(tmp_path: Path, writer: WriteCheckout) -> None:
    path = table(tmp_path, "a.png,3\tcat", name="rows.tsv", header="file,label\tname")
    import_table(writer, path, "rows", TableColumns(key="name", delimiter="\t"), CREATE)
    assert dict(writer.columns["rows"].items()) == {"cat": {"file,label": "a.png,3", "name": "cat"}}
    import_table(writer, table(tmp_path, 'x,"[1, 2]"'), "rows", LABELS)
    assert writer.columns["rows"]["x"] == [1, 2]
    with pytest.raises(SchemaError, match="line 2: 'NaN' is not JSON"):
        import_table(writer, table(tmp_path, "x,NaN"), "rows", LABELS)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a,1", "a,2"], "file,label", "lines 2 and 3 both have the key 'a'"),
        (["a.png,1", "a.jpg,2"], "file,label", "lines 2 and 3 both have the key 'a'"),
        (["a,1", "b"], "file,label", "line 3 has 1 cells, and the header 2"),
        (["a,1"], "path,label", "no column 'file'; its first line has: path, label"),
        (["a,1,2"], "file,label,label", "twice a column 'label'"),
        ([",1"], "file,label", "line 2: the key is empty"),
        ([], "file,label", "no sample to import"),
    ],
)
def test_tables_that_make_no_sense_stage_nothing(
    tmp_path: Path, writer: WriteCheckout, rows: list[str], header: str, message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        import_table(writer, table(tmp_path, *rows, header=header), "labels", LABELS, CREATE, strip_suffix=True)
    assert not writer.status()


@pytest.mark.parametrize("data", [b"", b"\n", b'file,label\na,"1', b"file,label\na,\xff\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, writer: WriteCheckout, data: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match=r"labels\.csv"):
        import_table(writer, path, "labels", LABELS, CREATE)
    assert not writer.status()


def test_a_mark_of_byte_order_is_no_part_of_the_header(tmp_path: Path, writer: WriteCheckout) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbffile,label\r\na,1\r\n\r\n")
    import_table(writer, path, "labels", LABELS, CREATE)
    assert list(writer.columns["labels"]) == ["a"]


def test_columns_that_hold_more_than_single_values_are_refused(tmp_path: Path, writer: WriteCheckout) -> None:
    path = table(tmp_path, "a,1")
    writer.add_ndarray_column("images", shape=(2, 2), dtype="uint8")
    writer.add_bytes_column("blobs")
    for name in ("images", "blobs"):
        with pytest.raises(SchemaError, match=name):
            import_table(writer, path, name, LABELS)
    with pytest.raises(SchemaError, match="--value-column"):
        import_table(writer, path, "images", TableColumns(key="file"))
    with pytest.raises(NodeNotFoundError, match="--create"):
        import_table(writer, path, "nosuch", LABELS)


def test_text_beside_integers_is_refused_until_a_type_is_said(tmp_path: Path, writer: WriteCheckout) -> None:
    column = writer.add_ndarray_column("labels", shape=(), dtype="int64")
    column.extend(range(10), np.arange(10))
    path = table(tmp_path, *(f"{i},0" for i in range(5, 15)))
    with pytest.raises(
        UnclearKeysError, match=r"'5', '6', '7' … \(5 keys\) are text, and labels has these as integers"
    ):
        import_table(writer, path, "labels", LABELS)
    assert len(column) == 10
    import_table(writer, path, "labels", LABELS, ImportOptions(key_type="int"))
    assert list(column) == list(range(15))
    import_table(writer, path, "labels", LABELS, ImportOptions(key_type="text"))
    assert len(column) == 25


def test_nested_columns_take_the_last_part_as_the_key_within(tmp_path: Path, writer: WriteCheckout) -> None:
    column = writer.add_ndarray_column("labels", shape=(), dtype="int64", nested=True)
    import_table(writer, table(tmp_path, "a/x.png,1", "a/y.png,2"), "labels", LABELS, strip_suffix=True)
    assert {sub: int(value) for sub, value in column["a"].items()} == {"x": 1, "y": 2}


def test_members_of_an_object_become_samples(tmp_path: Path, writer: WriteCheckout) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"train/1.png": [[1, 2]], "b.png": {"x": None}}))
    import_members(writer, path, "boxes", CREATE, strip_suffix=True)
    assert dict(writer.columns["boxes"].items()) == {"b": {"x": None}, "train/1": [[1, 2]]}
    labels = writer.add_ndarray_column("labels", shape=(), dtype="int64")
    path.write_text(json.dumps({"a": 3, "b": "4"}))
    import_members(writer, path, "labels")
    assert {key: int(value) for key, value in labels.items()} == {"a": 3, "b": 4}
    path.write_text(json.dumps({"c": 3, "d": 4.5}))
    with pytest.raises(SchemaError, match=r"member 'd': '4\.5' is no int64"):
        import_members(writer, path, "labels")
    path.write_text(json.dumps({"c": [3]}))
    with pytest.raises(SchemaError, match="member 'c'"):
        import_members(writer, path, "labels")
    assert list(labels) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[1]", CorruptionError, "no object"),
        ('{"a": 1, "a": 2}', CorruptionError, "'a' twice"),
        ('{"a": NaN}', CorruptionError, "NaN"),
        ("{", CorruptionError, "json"),
        ('{"a.png": 1, "a.jpg": 2}', SchemaError, "both stand for the key 'a'"),
        ("{}", SchemaError, "no sample"),
    ],
)
def test_objects_that_make_no_sense_stage_nothing(
    tmp_path: Path, writer: WriteCheckout, text: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(error, match=message):
        import_members(writer, path, "boxes", CREATE, strip_suffix=True)
    assert not writer.status()


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_text_comes_back_from_a_table_as_it_was(tmp_path: Path, writer: WriteCheckout, format: str) -> None:
    texts = {"a": "x,y\tz", "b": 'say "so"\r\nand\rmore\n', "c": "", "d": " ü "}
    column = writer.add_str_column("notes")
    column.update(texts)
    result = export_table("notes", column, tmp_path / "out", format=format)
    path = tmp_path / "out" / f"notes.{format}"
    assert (result.samples, result.files, result.bytes) == (4, 1, path.stat().st_size)
    columns = TableColumns(key="key", value="value", delimiter="," if format == "csv" else "\t")
    import_table(writer, path, "again", columns, CREATE)
    assert dict(writer.columns["again"].items()) == texts


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path, writer: WriteCheckout) -> None:
    column = writer.add_ndarray_column("labels", shape=(), dtype="int64")
    column.update({1: np.int64(5), "1": np.int64(6)})
    with pytest.raises(SchemaError, match="the integer key 1 and the text '1'"):
        export_table("labels", column, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    del column["1"]
    assert export_table("labels", column, tmp_path / "out", dry_run=True).samples == 1
    export_table("labels", column, tmp_path / "out")
    assert (tmp_path / "out" / "labels.csv").read_bytes() == b"key,value\r\n1,5\r\n"
    with pytest.raises(FileExistsError, match="--force"):
        export_table("labels", column, tmp_path / "out")
    column["b"] = np.int64(7)
    export_table("labels", column, tmp_path / "out", keys=["b"], force=True)
    assert (tmp_path / "out" / "labels.csv").read_bytes() == b"key,value\r\nb,7\r\n"


def test_columns_that_no_table_can_hold_are_refused(tmp_path: Path, writer: WriteCheckout) -> None:
    for name, column in {
        "images": writer.add_ndarray_column("images", shape=(2,), dtype="uint8"),
        "blobs": writer.add_bytes_column("blobs"),
        "nested": writer.add_str_column("nested", nested=True),
    }.items():
        with pytest.raises(SchemaError, match=name):
            export_table(name, column, tmp_path / "out")
    assert not (tmp_path / "out").exists()
