"""import and export in the shell: tables, objects of samples, integer keys, and what is skipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hangarlake as hl
from hangarlake.formats import find_files
from tests.cli.conftest import Run, one_line

TABLE = ["import", "labels.csv", "--column", "labels"]


@pytest.fixture
def numbered(repo: Path) -> Path:
    """A column with integer keys, and one with texts that are numbers; and two files."""
    with hl.Repository.open(repo).checkout("main", write=True) as w:
        w.add_ndarray_column("labels", shape=(), dtype="int64").extend(range(20), np.arange(20))
        w.add_ndarray_column("texts", shape=(), dtype="int64").extend(map(str, range(20)), np.arange(20))
        w.commit("Begin")
    Path("files").mkdir()
    for i in range(5):
        np.save(f"files/{i:03d}.npy", np.int64(i))
    np.save("v.npy", np.int64(70))
    np.save("many.npy", np.arange(3))
    return repo


def staged_keys(run: Run, column: str) -> dict[str, list[str | int]]:
    keys: dict[str, list[str | int]] = run("diff", "--staged", "--keys", "--json").json["columns"][column]["keys"]
    return {state: found for state, found in keys.items() if found}


def test_a_text_key_beside_the_integer_has_to_be_said(run: Run, numbered: Path) -> None:
    into = ["import", "v.npy", "--column", "labels", "--key"]
    line = one_line(run(*into, "17"), 2)
    assert line.startswith("'17' is text, and labels has the integer 17: say --key int:17")
    assert run("diff", "--staged").out == "No differences.\n"
    assert run(*into, "int:17").status == 0
    assert staged_keys(run, "labels") == {"modified": [17]}
    assert run(*into, "str:17").status == 0
    assert run(*into, "17").status == 0, "the text is there by now, and meant"
    assert run(*into, "18", "--key-type", "int").status == 0
    assert staged_keys(run, "labels") == {"added": ["17"], "modified": [17, 18]}
    assert run(*into, "99").status == 0, "no such integer is there"


def test_folders_of_numbers_have_to_say_what_their_names_are(run: Run, numbered: Path) -> None:
    line = one_line(run("import", "files", "--column", "labels"), 2)
    assert line.startswith("'000', '001', '002' … (5 keys) are text, and labels has these as integers")
    assert run("diff", "--staged").out == "No differences.\n"
    assert "Nothing to stage" in run("import", "files", "--column", "labels", "--key-type", "int").out
    assert run("import", "files", "--column", "labels", "--key-type", "text").status == 0
    assert staged_keys(run, "labels") == {"added": ["000", "001", "002", "003", "004"]}


def test_samples_of_a_split_have_to_say_so_beside_text(run: Run, numbered: Path) -> None:
    line = one_line(run("import", "many.npy", "--split", "--column", "texts"), 2)
    assert "0 is of integers, and texts has these as text" in line
    assert "Nothing to stage" in run("import", "many.npy", "--split", "--column", "texts", "--key-type", "text").out
    assert run("import", "many.npy", "--split", "--column", "labels").status == 0
    assert run("import", "many.npy", "--split", "--column", "texts", "--key-type", "int").status == 0
    assert staged_keys(run, "texts") == {"added": [0, 1, 2]}


def test_names_that_are_no_numbers_are_no_integers(run: Run, numbered: Path, images: object) -> None:
    line = one_line(run("import", "v.npy", "--column", "labels", "--key-type", "int"), 3)
    assert "'v' is no whole number" in line


@pytest.mark.parametrize("command", [["show"], ["log", "--oneline"], ["export", "out"]], ids=" ".join)
def test_a_number_finds_the_integer_where_there_is_only_that(run: Run, numbered: Path, command: list[str]) -> None:
    done = run(*command, "--column", "labels", "--key", "17")
    assert done.status == 0, done.err
    assert done.out


def test_labels_from_a_table(run: Run, repo: Path) -> None:
    Path("labels.csv").write_text("file,label\ntrain/0001.png,3\ntrain/0002.png,4\n")
    assert "(file, label)" in one_line(run(*TABLE), 2)
    args = [*TABLE, "--key-column", "file", "--value-column", "label", "--strip-suffix"]
    assert "--create" in one_line(run(*args), 3)
    assert run(*args, "--create").out == "Staged 2 samples from 1 file into labels (new, int64).\n"
    run("commit", "-m", "Label")
    assert run(*args).out == "Nothing to stage: labels has 2 samples from 1 file already, with the same values.\n"
    assert run("show", "--column", "labels", "--key", "train/0002", "--json").json["value"] == 4
    assert run("export", "out", "--column", "labels", "--format", "csv").status == 0
    assert Path("out/labels.csv").read_text() == "key,value\ntrain/0001,3\ntrain/0002,4\n"
    Path("labels.csv").write_text("file,label\ntrain/0001.png,5\ntrain/0002.png,four\n")
    assert one_line(run(*args), 3) == "labels.csv: line 3: 'four' is no int64"
    assert run("diff", "--staged").out == "No differences.\n"


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["3", "", "5"], "text: line 3 has an empty value"),
        (["", "4"], "text: line 2 has an empty value"),
        (["3", "4.5", "n/a"], "text: line 4 has 'n/a'"),
        (["3", "4" * 50], f"text: line 3 has '{'4' * 40}…'"),
        (["cat", "dog"], "text"),
        (["3", "4.5"], "float64"),
    ],
)
def test_a_new_column_of_a_table_says_what_it_holds_and_why(run: Run, repo: Path, cells: list[str], kind: str) -> None:
    rows = [f"{number:04},{cell}" for number, cell in enumerate(cells)]
    Path("labels.csv").write_text("\n".join(["file,label", *rows, ""]))
    args = [*TABLE, "--key-column", "file", "--value-column", "label", "--create"]
    assert f" into labels (new, {kind}).\n" in run(*args).out
    run("reset", "--yes")
    done = run(*args, "--json").json
    assert done["kinds"] == {"labels": kind.partition(":")[0]}
    assert done.get("text_reason") == (kind.partition(": ")[2] or None)


def test_keys_that_are_names_of_files_name_the_option(run: Run, committed: str) -> None:
    Path("labels.csv").write_text("file,label\n00.png,3\n01.png,4\n")
    args = [*TABLE, "--key-column", "file", "--value-column", "label", "--create"]
    hint = "; none of these keys is in 'images', with --strip-suffix all would be."
    assert run(*args).out == f"Staged 2 samples from 1 file into labels (new, int64){hint}\n"
    run("reset", "--yes")
    assert run(*args, "--json").json["suffixed"] == "images"
    run("reset", "--yes")
    assert "suffixed" not in run(*args, "--strip-suffix", "--json").json
    run("reset", "--yes")
    Path("labels.csv").write_text("file,label\n00.png,3\n77.png,4\n")
    assert "--strip-suffix" not in run(*args).out
    run("reset", "--yes")
    Path("labels.csv").write_text("file,label\n00,3\n01,4\n")
    assert "--strip-suffix" not in run(*args).out
    Path("boxes.json").write_text(json.dumps({"00.png": [1], "02.png": []}))
    assert hint in run("import", "boxes.json", "--column", "boxes", "--per-key", "--create").out
    # Where another column has the names as they are, nothing is missing.
    assert "--strip-suffix" not in run("import", "boxes.json", "--column", "more", "--per-key", "--create").out


def test_samples_from_the_members_of_an_object(run: Run, repo: Path) -> None:
    Path("boxes.json").write_text(json.dumps({"train/1.png": [[1, 2, 3, 4]], "b.png": []}))
    done = run("import", "boxes.json", "--column", "boxes", "--per-key", "--strip-suffix", "--create", "--json").json
    assert (done["samples"], done["created"]) == (2, ["boxes"])
    run("commit", "-m", "Boxes")
    assert run("show", "--column", "boxes", "--key", "train/1", "--json").json["value"] == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    "args",
    [
        [*TABLE, "labels.csv", "--key-column", "file"],
        ["import", "labels.csv", "--key-column", "file"],
        [*TABLE, "--key-column", "file", "--split"],
        [*TABLE, "--key-column", "file", "--key", "x"],
        [*TABLE, "--per-key"],
        ["import", "v.npy", "--column", "x", "--key-column", "file"],
        ["import", "v.npy", "--column", "x", "--strip-suffix"],
    ],
    ids=" ".join,
)
def test_options_of_tables_that_make_no_sense_end_with_2(run: Run, repo: Path, args: list[str]) -> None:
    Path("labels.csv").write_text("file,label\na,1\n")
    np.save("v.npy", np.zeros(2))
    one_line(run(*args), 2)


def test_a_repository_in_a_folder_is_skipped_and_what_is_hidden_counted(run: Run, repo: Path, images: object) -> None:
    for name in (".DS_Store", "images/.hidden", "images/notes.md", "images/note.txt"):
        Path(name).write_text("x")
    done = run("import", ".", "--column", "images", "--create", "--format", "npy")
    lines = done.out.splitlines()
    assert lines[0] == "Staged 3 samples from 3 files into images (new, uint8 of shape (4, 4))."
    assert "Skipped 1 file of no known format: images/notes.md" in lines
    assert "Skipped 1 file of another format: images/note.txt" in lines
    assert "Skipped 3 hidden files and folders: .DS_Store, .hangarlake.toml, images/.hidden" in lines
    assert "Skipped 1 repository: repo" in lines
    skipped = run("import", ".", "--column", "images", "--format", "npy", "--json").json["skipped"]
    assert {"path": "repo", "reason": "repository"} in skipped
    assert "is a repository" in one_line(run("import", "repo", "--column", "images"), 3)
    assert not [file for file in find_files(["."])[0] if "repo" in file.path.parts]


def test_pictures_of_several_sizes_name_the_option(run: Run, repo: Path) -> None:
    np.save("a.npy", np.zeros((4, 4, 3), np.uint8))
    np.save("b.npy", np.zeros((6, 4, 3), np.uint8))
    args = ["import", "a.npy", "b.npy", "--column", "x", "--create"]
    assert one_line(run(*args), 3).count("--variable-shape") == 1
    assert run(*args, "--variable-shape").status == 0
    np.save("b.npy", np.zeros((6, 4, 3), np.float32))
    assert "--variable-shape" not in one_line(run("import", "a.npy", "b.npy", "--column", "y", "--create"), 3)


def test_the_help_of_export_says_what_pictures_become(run: Run) -> None:
    assert "written as .npy" in " ".join(run("export", "--help").out.replace("│", " ").split())


def test_several_columns_are_exported_when_all_can_be(run: Run, numbered: Path) -> None:
    run("column", "add", "boxes", "--kind", "json")
    run("column", "add", "zeros", "--dtype", "int8", "--shape", "")
    run("commit", "-m", "Add columns")
    assert "boxes" in one_line(run("export", "out", "--column", "labels", "--column", "boxes", "--format", "csv"), 3)
    assert not Path("out").exists()
    done = run("export", "out", "--column", "labels", "--column", "zeros", "--format", "csv", "--json").json
    assert [(each["column"], each["samples"]) for each in done] == [("labels", 20), ("zeros", 0)]
    assert Path("out/zeros/zeros.csv").read_text() == "key,value\n"
