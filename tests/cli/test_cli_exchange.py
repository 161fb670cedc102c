"""import and export as commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hangarlake as hl
from tests.cli.conftest import Run, one_line


def test_import_stages_a_folder_and_says_how_much(run: Run, repo: Path, images: object) -> None:
    done = run("import", "images", "--column", "images", "--create", "--json").json
    assert (done["samples"], done["added"], done["files"], done["created"]) == (3, 3, 3, ["images"])
    assert run("import", "images/01.npy", "--column", "images", "--key", "new").out.endswith("into images.\n")


def test_import_tells_what_it_added_and_changed_from_what_was_there_already(
    run: Run, committed: str, images: dict[str, np.ndarray]
) -> None:
    again = run("import", "images", "--column", "images")
    assert again.out == "Nothing to stage: images has 3 samples from 3 files already, with the same values.\n"
    assert "Nothing is staged" in run("status").out
    np.save("images/01.npy", images["02"])
    np.save("images/03.npy", images["00"])
    some = run("import", "images", "--column", "images")
    assert some.out == "Staged 4 samples from 4 files into images: 1 added, 1 changed, 2 unchanged.\n"
    # What counts is what was staged before, not what the commit holds.
    np.save("images/01.npy", images["01"])
    done = run("import", "images", "--column", "images", "--json").json
    assert (done["added"], done["changed"], done["unchanged"]) == (0, 1, 3)
    assert run("status", "--json").json["staged"]["columns"]["images"]["added"] == 1


def test_import_names_what_it_skipped(run: Run, repo: Path, images: object) -> None:
    Path("images/notes.md").write_text("x")
    assert "notes.md" in run("import", "images", "--column", "images", "--create").out


@pytest.mark.parametrize(("key", "expected"), [("first", "first"), ("int:7", 7), ("7", "7")])
def test_import_takes_a_key(run: Run, repo: Path, images: object, key: str, expected: str | int) -> None:
    assert run("import", "images/01.npy", "--column", "images", "--create", "--key", key).status == 0
    run("commit", "-m", "x")
    with hl.Repository.open(repo).checkout() as view:
        assert list(view["images"]) == [expected]


def test_import_of_a_sample_into_a_nested_column(run: Run, repo: Path, images: object) -> None:
    args = ["import", "images/01.npy", "--column", "x", "--create", "--nested", "--key", "cat", "--sub", "left"]
    assert run(*args).status == 0
    run("commit", "-m", "x")
    assert run("show", "--column", "x", "--key", "cat", "--json").json["subs"] == ["left"]
    assert run("show", "--column", "x", "--key", "cat", "--sub", "left", "--json").json["shape"] == [4, 4]


def test_import_of_an_archive_without_a_column_makes_one_for_each_array(run: Run, repo: Path) -> None:
    np.savez("digits.npz", images=np.zeros((5, 2, 2), np.uint8), labels=np.arange(5))
    done = run("import", "digits.npz", "--split", "--create", "--json").json
    assert (done["columns"], done["samples"]) == (["images", "labels"], 10)


@pytest.mark.parametrize(
    "args",
    [
        ["nosuch.npy", "--column", "x"],
        ["images"],
        ["images", "--column", "x", "--key", "k"],
        ["images/01.npy", "--key", "k"],
        ["images/01.npy", "--column", "x", "--sub", "s"],
    ],
    ids=" ".join,
)
def test_imports_that_make_no_sense_end_with_2(run: Run, repo: Path, images: object, args: list[str]) -> None:
    one_line(run("import", *args), 2)


def test_a_damaged_file_ends_with_3_one_line_and_nothing_staged(run: Run, repo: Path, images: object) -> None:
    Path("images/01.npy").write_bytes(b"broken")
    line = one_line(run("import", "images", "--column", "images", "--create"), 3)
    assert "01.npy" in line
    assert "Nothing is staged" in run("status").out


def test_without_create_a_missing_column_is_reported(run: Run, repo: Path, images: object) -> None:
    assert "--create" in one_line(run("import", "images", "--column", "x"), 3)


def test_import_goes_to_the_branch_that_is_named(run: Run, committed: str, images: object) -> None:
    run("branch", "work")
    run("import", "images/01.npy", "--column", "images", "--key", "new", "--branch", "work")
    assert "Nothing is staged" in run("status").out
    assert run("commit", "-m", "On work", "--branch", "work").status == 0
    assert run("column", "info", "images", "--json").json["samples"] == 3
    assert run("column", "info", "images", "--rev", "work", "--json").json["samples"] == 4


def test_export_writes_what_import_read(run: Run, committed: str, images: dict[str, np.ndarray]) -> None:
    done = run("export", "out", "--column", "images", "--json").json
    assert (done[0]["files"], done[0]["samples"]) == (3, 3)
    assert {path.name for path in Path("out").iterdir()} == {"00.npy", "01.npy", "02.npy"}
    assert all(np.array_equal(np.load(Path("out") / f"{key}.npy"), array) for key, array in images.items())


def test_export_of_several_columns_makes_a_folder_for_each(run: Run, committed: str) -> None:
    run("column", "add", "names", "--kind", "str")
    Path("a.txt").write_text("A")
    run("import", "a.txt", "--column", "names")
    run("commit", "-m", "names")
    assert run("export", "out").status == 0
    assert sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.*")) == [
        "images/00.npy",
        "images/01.npy",
        "images/02.npy",
        "names/a.txt",
    ]


def test_export_of_some_samples_as_images_of_an_older_revision(run: Run, committed: str) -> None:
    run("column", "remove", "images", "--yes")
    run("commit", "-m", "gone")
    args = ["export", "out", "--column", "images", "--key", "01", "--format", "png", "--rev", "main~1"]
    assert run(*args).status == 0
    assert [path.name for path in Path("out").iterdir()] == ["01.png"]


def test_export_replaces_files_only_with_force_and_a_dry_run_writes_none(run: Run, committed: str) -> None:
    assert run("export", "out", "--column", "images", "--dry-run").status == 0
    assert not Path("out").exists()
    assert run("export", "out", "--column", "images").status == 0
    assert "--force" in one_line(run("export", "out", "--column", "images"), 3)
    assert run("export", "out", "--column", "images", "--force").status == 0


def test_integer_keys_are_found_by_their_number(run: Run, repo: Path) -> None:
    np.save("rows.npy", np.arange(3, dtype=np.int64))
    run("import", "rows.npy", "--column", "x", "--split", "--create")
    run("commit", "-m", "rows")
    assert run("show", "--column", "x", "--key", "2", "--json").json["key"] == 2
    assert run("export", "out", "--column", "x", "--key", "2").status == 0
    assert [path.name for path in Path("out").iterdir()] == ["2.npy"]


def test_export_to_a_file_is_refused_and_names_it(run: Run, committed: str) -> None:
    Path("taken").write_text("x")
    assert "taken is a file" in one_line(run("export", "taken", "--column", "images"), 3)
    assert Path("taken").read_text() == "x"
