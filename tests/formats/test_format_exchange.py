"""Imports stage everything or nothing; exports stay in their folder; one undoes the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hangarlake as hl
from hangarlake.errors import (
    CorruptionError,
    NodeNotFoundError,
    SampleNotFoundError,
    SchemaError,
    UnsupportedFormatError,
)
from hangarlake.formats import ImportOptions, export_column, find_files, format_named, import_columns, import_samples
from hangarlake.formats.names import Key
from hangarlake.write_checkout import WriteCheckout

CREATE = ImportOptions(create=True)
HOSTILE: list[str | int] = [
    "../../up",
    "/etc/passwd",
    "..",
    "a",
    "A",
    "a.npy/b",
    "CON",
    1,
    "1",
    "01",
    "x" * 900,
    "ü/ß",
    "%41",
    "-1",
    -1,
    "C:\\x",
    ".hidden",
]


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hl.Repository:
    monkeypatch.setenv("HANGARLAKE_CACHE_DIR", str(tmp_path / "cache"))
    return hl.Repository.create(tmp_path / "repo", author="Ada <ada@example.org>")


@pytest.fixture
def writer(repo: hl.Repository) -> Iterator[WriteCheckout]:
    with repo.checkout("main", write=True) as opened:
        yield opened


def save(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(array))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def staged_nothing(writer: WriteCheckout) -> bool:
    return not writer.status()


def test_a_file_becomes_the_sample_that_is_named_like_it(writer: WriteCheckout, tmp_path: Path) -> None:
    files, _ = find_files([save(tmp_path / "cat.npy", [1, 2, 3])])
    result = import_samples(writer, files, "images", CREATE)
    assert (result.samples, result.added, result.created) == (1, 1, ("images",))
    assert writer["images", "cat"].tolist() == [1, 2, 3]


def test_a_folder_maps_to_keys_by_relative_path_without_suffix(writer: WriteCheckout, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.npy", "train/cat.npy", "train/cat.b.npy", "5.npy"):
        save(folder / name, [1])
    (folder / "notes.md").write_text("skip me")
    save(folder / ".hidden.npy", [1])
    files, skipped = find_files([folder])
    import_samples(writer, files, "images", CREATE)
    assert sorted(writer.columns["images"]) == ["5", "a", "train/cat", "train/cat.b"]
    assert [(each.path.name, each.reason) for each in skipped if each.reason != "hidden"] == [("notes.md", "format")]


def test_two_files_for_one_key_are_refused_before_anything_is_staged(writer: WriteCheckout, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "cat.npy", np.zeros((2, 2), np.uint8))
    format_named("png").write(folder / "cat.png", [(None, np.zeros((2, 2), np.uint8))])
    files, _ = find_files([folder])
    with pytest.raises(SchemaError, match=r"cat.*both stand for the key 'cat'"):
        import_samples(writer, files, "images", CREATE)
    assert staged_nothing(writer)


@pytest.mark.parametrize("bad", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'"])
@pytest.mark.parametrize("create", [True, False])
def test_one_damaged_file_among_many_stages_nothing_and_is_named(
    writer: WriteCheckout, tmp_path: Path, bad: bytes, create: bool
) -> None:
    folder = tmp_path / "in"
    for i in range(20):
        save(folder / f"{i:02d}.npy", np.zeros(4))
    (folder / "13.npy").write_bytes(bad)
    if not create:
        writer.add_ndarray_column("x", shape=(4,), dtype=np.float64)
        writer.columns["x"]["before"] = np.ones(4)
    files, _ = find_files([folder])
    with pytest.raises(CorruptionError, match=r"13\.npy"):
        import_samples(writer, files, "x", CREATE)
    assert staged_nothing(writer) if create else list(writer.columns["x"]) == ["before"]


def test_a_value_that_does_not_fit_stages_nothing_and_its_file_is_named(writer: WriteCheckout, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for i in range(5):
        save(folder / f"{i}.npy", np.zeros(4 if i != 3 else 5))
    files, _ = find_files([folder])
    with pytest.raises(SchemaError, match=r"3\.npy"):
        import_samples(writer, files, "x", CREATE)
    assert staged_nothing(writer)


def test_a_column_is_made_only_on_request(writer: WriteCheckout, tmp_path: Path) -> None:
    files, _ = find_files([save(tmp_path / "a.npy", [1])])
    with pytest.raises(NodeNotFoundError, match="--create"):
        import_samples(writer, files, "x")


def test_an_import_adds_and_replaces(writer: WriteCheckout, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "a.npy", [1])
    import_samples(writer, find_files([folder])[0], "x", CREATE)
    save(folder / "a.npy", [2])
    save(folder / "b.npy", [3])
    result = import_samples(writer, find_files([folder])[0], "x")
    assert (result.samples, result.added) == (2, 1)
    assert writer["x", "a"].tolist() == [2]


def test_splitting_numbers_samples_through_all_files(writer: WriteCheckout, tmp_path: Path) -> None:
    first, second = save(tmp_path / "a.npy", [[1, 1], [2, 2]]), save(tmp_path / "b.npy", [[3, 3]])
    files, _ = find_files([first, second])
    result = import_samples(writer, files, "x", ImportOptions(create=True, split=True, start=10))
    assert result.samples == 3
    assert {key: value.tolist() for key, value in writer.columns["x"].items()} == {10: [1, 1], 11: [2, 2], 12: [3, 3]}


def test_splitting_a_vector_gives_scalars(writer: WriteCheckout, tmp_path: Path) -> None:
    files, _ = find_files([save(tmp_path / "labels.npy", np.arange(4, dtype=np.int16))])
    import_samples(writer, files, "labels", ImportOptions(create=True, split=True))
    assert writer.columns["labels"].shape == ()
    assert int(writer["labels", 3]) == 3


def test_what_has_no_first_axis_is_not_split(writer: WriteCheckout, tmp_path: Path) -> None:
    files, _ = find_files([save(tmp_path / "a.npy", 5.0)])
    with pytest.raises(SchemaError, match=r"a\.npy"):
        import_samples(writer, files, "x", ImportOptions(create=True, split=True))
    assert staged_nothing(writer)


def test_big_endian_and_fortran_order_are_stored_as_the_values_they_are(writer: WriteCheckout, tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    import_samples(writer, find_files([save(tmp_path / "a.npy", array)])[0], "x", CREATE)
    assert np.array_equal(writer["x", "a"], array)
    assert writer.columns["x"].dtype == np.dtype("=f4")


def test_a_bilevel_image_is_the_array_that_it_shows(writer: WriteCheckout, tmp_path: Path) -> None:
    array = np.eye(4, dtype=bool)
    format_named("png").write(tmp_path / "a.png", [(None, array)])
    import_samples(writer, find_files([tmp_path / "a.png"])[0], "x", CREATE)
    digest = writer.columns["x"].digest("a")
    writer.columns["x"]["b"] = array
    assert writer.columns["x"].digest("b") == digest


def test_the_members_of_an_archive_become_samples_of_one_column(writer: WriteCheckout, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(2), y=np.ones(2))
    import_samples(writer, find_files([tmp_path / "a.npz"])[0], "arrays", CREATE)
    assert sorted(writer.columns["arrays"]) == ["x", "y"]


@pytest.mark.parametrize("split", [True, False])
def test_the_members_of_an_archive_become_columns(writer: WriteCheckout, tmp_path: Path, split: bool) -> None:
    np.savez(tmp_path / "digits.npz", images=np.zeros((3, 2, 2), np.uint8), labels=np.arange(3))
    file = find_files([tmp_path / "digits.npz"])[0][0]
    result = import_columns(writer, file, ImportOptions(create=True, split=split))
    assert result.columns == ("images", "labels")
    assert list(writer.columns["labels"]) == ([0, 1, 2] if split else ["digits"])
    assert writer.columns["images"].shape == ((2, 2) if split else (3, 2, 2))


def test_an_archive_with_one_array_that_does_not_fit_stages_no_column(writer: WriteCheckout, tmp_path: Path) -> None:
    writer.add_ndarray_column("labels", shape=(), dtype=np.int64)
    writer.commit("labels")
    np.savez(tmp_path / "d.npz", images=np.zeros((3, 2, 2), np.uint8), labels=np.arange(3.0))
    file = find_files([tmp_path / "d.npz"])[0][0]
    with pytest.raises(SchemaError, match=r"d\.npz.*labels"):
        import_columns(writer, file, ImportOptions(create=True, split=True))
    assert staged_nothing(writer)


def test_text_json_and_bytes_make_columns_of_their_kind(writer: WriteCheckout, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("grüße", "utf-8")
    (tmp_path / "a.json").write_text('{"boxes": [1, 2]}')
    (tmp_path / "a.bin").write_bytes(b"\0\1")
    for suffix, kind, value in (
        ("txt", "str", "grüße"),
        ("json", "json", {"boxes": [1, 2]}),
        ("bin", "bytes", b"\0\1"),
    ):
        import_samples(writer, find_files([tmp_path / f"a.{suffix}"])[0], kind, CREATE)
        assert writer.columns[kind].kind == kind
        assert writer.columns[kind]["a"] == value


def test_samples_of_various_shapes_need_a_column_for_them(writer: WriteCheckout, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "a.npy", np.zeros((2, 3)))
    save(folder / "b.npy", np.zeros((4, 1)))
    import_samples(writer, find_files([folder])[0], "x", ImportOptions(create=True, variable_shape=True))
    assert [value.shape for value in writer.columns["x"].values()] == [(2, 3), (4, 1)]


def test_in_a_nested_column_the_last_part_of_a_path_is_the_sub_key(writer: WriteCheckout, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "scan/1/left.npy", [1])
    save(folder / "scan/1/right.npy", [2])
    import_samples(writer, find_files([folder])[0], "x", ImportOptions(create=True, nested=True))
    assert {sub: value.tolist() for sub, value in writer.columns["x"]["scan/1"].items()} == {"left": [1], "right": [2]}


def test_what_cannot_be_found_or_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nosuch"):
        find_files([tmp_path / "nosuch"])
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(UnsupportedFormatError, match=r"a\.xyz"):
        find_files([tmp_path / "a.xyz"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsupportedFormatError, match="no file of a known format"):
        find_files([tmp_path / "empty"])


# ---- export --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(repo: hl.Repository) -> hl.Repository:
    with repo.checkout("main", write=True) as writer:
        column = writer.add_ndarray_column("x", shape=(), dtype=np.int64)
        column.update({key: np.int64(i) for i, key in enumerate(HOSTILE)})
        writer.commit("Add keys of every kind")
    return repo


def test_whatever_the_keys_no_file_lies_outside_the_folder(hostile: hl.Repository, tmp_path: Path) -> None:
    with hostile.checkout() as view:
        result = export_column("x", view.columns["x"], tmp_path / "deep" / "out")
    files = contents(tmp_path / "deep")
    assert result.files == len(HOSTILE)
    assert len(files) == len(HOSTILE)
    assert all(name.startswith("out/") and name.endswith(".npy") for name in files)
    assert {path.name for path in tmp_path.iterdir()} <= {"repo", "deep", "cache"}


@pytest.mark.parametrize("format", ["npy", "npz"])
def test_an_export_imports_to_the_same_samples_under_the_same_keys(
    hostile: hl.Repository, tmp_path: Path, format: str
) -> None:
    out = tmp_path / "out"
    with hostile.checkout() as view:
        export_column("x", view.columns["x"], out, format=format_named(format))
    paths = [out] if format == "npy" else [out / "x.npz"]
    with hostile.checkout("main", write=True) as writer:
        import_samples(writer, find_files(paths)[0], "y", ImportOptions(create=True, exported=True))
        original = {key: int(value) for key, value in writer.columns["x"].items()}
        copy = {key: int(value) for key, value in writer.columns["y"].items()}
    assert copy == original
    assert [type(key) for key in copy] == [type(key) for key in original]


def test_nested_columns_export_and_import_to_the_same(repo: hl.Repository, tmp_path: Path) -> None:
    pairs: list[Key] = [("a/b", "x/y"), ("a/b", 2), ("A/b", "x/y"), (5, "5"), (5, 5), ("5", "..")]
    with repo.checkout("main", write=True) as writer:
        column = writer.add_ndarray_column("x", shape=(), dtype=np.int64, nested=True)
        column.update((pair, np.int64(i)) for i, pair in enumerate(pairs))
        result = export_column("x", column, tmp_path / "out")
        assert result.samples == len(pairs)
        options = ImportOptions(create=True, nested=True, exported=True)
        imported = import_samples(writer, find_files([tmp_path / "out"])[0], "y", options)
        assert (imported.samples, imported.added) == (len(pairs), len(pairs))
        assert [int(value) for value in writer.columns["y"].batch(pairs)] == list(range(len(pairs)))


def test_no_file_is_replaced_without_force(hostile: hl.Repository, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "01.npy").write_text("mine")
    with hostile.checkout() as view:
        with pytest.raises(FileExistsError, match="--force"):
            export_column("x", view.columns["x"], out)
        assert contents(out) == {"01.npy": b"mine"}
        export_column("x", view.columns["x"], out, force=True)
    assert len(contents(out)) == len(HOSTILE)
    assert contents(out)["01.npy"] != b"mine"


def test_a_link_inside_the_folder_is_not_followed(repo: hl.Repository, tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "a").symlink_to(outside)
    (outside / "mine").write_text("mine")
    (out / "c.npy").symlink_to(outside / "mine")
    with repo.checkout("main", write=True) as writer:
        column = writer.add_ndarray_column("x", shape=(), dtype=np.int64)
        column["a/b"] = np.int64(1)
        with pytest.raises(SchemaError, match="link"):
            export_column("x", column, out, force=True)
        del column["a/b"]
        column["c"] = np.int64(1)
        export_column("x", column, out, force=True)
    assert contents(outside) == {"mine": b"mine"}
    assert not (out / "c.npy").is_symlink()


def test_a_failed_export_leaves_no_half_written_file(repo: hl.Repository, tmp_path: Path) -> None:
    with repo.checkout("main", write=True) as writer:
        column = writer.add_ndarray_column("x", shape=(2,), dtype=np.float64)
        column["a"] = np.zeros(2)
        with pytest.raises(SchemaError, match=r"a\.png"):
            export_column("x", column, tmp_path / "out", format=format_named("png"))
    assert contents(tmp_path / "out") == {}


def test_a_dry_run_writes_nothing(hostile: hl.Repository, tmp_path: Path) -> None:
    with hostile.checkout() as view:
        result = export_column("x", view.columns["x"], tmp_path / "out", dry_run=True)
    assert result.files == len(HOSTILE)
    assert not (tmp_path / "out").exists()


def test_only_the_samples_that_were_asked_for_are_written(hostile: hl.Repository, tmp_path: Path) -> None:
    with hostile.checkout() as view:
        export_column("x", view.columns["x"], tmp_path / "out", keys=["1", 1])
        with pytest.raises(SampleNotFoundError, match="nosuch"):
            export_column("x", view.columns["x"], tmp_path / "other", keys=["nosuch"])
    assert sorted(contents(tmp_path / "out")) == ["%31.npy", "1.npy"]
    assert not (tmp_path / "other").exists()


def test_a_format_for_other_kinds_is_refused(repo: hl.Repository, tmp_path: Path) -> None:
    with repo.checkout("main", write=True) as writer:
        column = writer.add_str_column("names")
        column["a"] = "x"
        with pytest.raises(SchemaError, match="str values"):
            export_column("names", column, tmp_path / "out", format=format_named("npy"))
        export_column("names", column, tmp_path / "out")
    assert contents(tmp_path / "out") == {"a.txt": b"x"}
