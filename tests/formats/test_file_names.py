"""Keys become file names that stay in their folder, collide with nothing, and lead back to their keys."""

import re
import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.errors import SchemaError
from hangarlake.formats.names import file_names, key_of_name, nested_key_of_name, quote_part

characters = st.one_of(
    st.sampled_from("aAbB01.-_ /\\%:ßéÉ~"),
    st.characters(blacklist_categories=["Cc", "Cs"]),
)
texts = st.one_of(
    st.text(characters, min_size=1, max_size=12),
    st.sampled_from(
        [
            "..",
            ".",
            "/",
            "//",
            "../..",
            "/etc/passwd",
            "CON",
            "con",
            "con.txt",
            "a",
            "A",
            "a/",
            "a.npy/b",
            "1",
            "-1",
            "01",
            "%31",
            "x" * 1024,
            "." * 999,
            "%" * 700,
        ]
    ),
    st.integers(-20, 20).map(str),
)
keys = st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.integers(-20, 20))
DEVICES = {"con", "prn", "aux", "nul"}


def folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def assert_safe(paths: list[str]) -> None:
    files = {folded(path) for path in paths}
    assert len(files) == len(paths)
    folders: dict[str, str] = {}
    for path in paths:
        assert not path.startswith("/")
        assert "\0" not in path
        for part in path.split("/"):
            assert part not in ("", ".", "..")
            assert not part.startswith(".")
            assert not part.endswith((".", " "))
            assert not re.search(r'[\\:*?"<>|]', part)
            assert part.split(".")[0].rstrip(" ").lower() not in DEVICES
            assert len(part.encode()) <= 255
        for folder in map(str, list(PurePosixPath(path).parents)[:-1]):
            assert folded(folder) not in files
            assert folders.setdefault(folded(folder), folder) == folder


@settings(max_examples=400, deadline=None)
@given(st.sets(keys, max_size=12))
def test_names_of_flat_keys_are_safe_distinct_and_lead_back(some: set[str | int]) -> None:
    names = file_names(some, ".npy")
    assert set(names) == some
    assert_safe(list(names.values()))
    for key, name in names.items():
        back = key_of_name(name.removesuffix(".npy"))
        assert (type(back), back) == (type(key), key)


@settings(max_examples=300, deadline=None)
@given(st.sets(st.tuples(keys, keys), max_size=8))
def test_names_of_nested_keys_are_safe_distinct_and_lead_back(some: set[tuple[str | int, str | int]]) -> None:
    names = file_names(some, ".png")
    assert_safe(list(names.values()))
    for key, name in names.items():
        back = nested_key_of_name(name.removesuffix(".png"))
        assert [(type(part), part) for part in back] == [(type(part), part) for part in key]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("cat", "cat.npy"),
        ("train/cat", "train/cat.npy"),
        ("0001", "0001.npy"),
        ("Straße 7", "Straße 7.npy"),
        (7, "7.npy"),
        (-7, "-7.npy"),
        ("7", "%37.npy"),
        ("50%", "50%25.npy"),
        ("../up", "%2E%2E/up.npy"),
        ("/etc/passwd", "%2Fetc%2Fpasswd.npy"),
        ("CON", "%43ON.npy"),
        ("a.npy/b", "a%2Enpy/b.npy"),
    ],
)
def test_ordinary_keys_stay_readable_and_odd_ones_are_escaped(key: str | int, name: str) -> None:
    assert file_names([key], ".npy")[key] == name


def test_keys_that_differ_in_case_only_are_all_escaped() -> None:
    assert file_names(["Cat", "cat", "dog"], ".npy") == {"Cat": "%43at.npy", "cat": "cat.npy", "dog": "dog.npy"}


def test_folders_that_differ_in_case_only_stay_apart() -> None:
    assert file_names(["A/x", "a/y"], ".npy") == {"A/x": "%41/x.npy", "a/y": "a/y.npy"}


def test_an_integer_and_the_text_of_it_get_two_names() -> None:
    assert file_names([1, "1"], ".npy") == {1: "1.npy", "1": "%31.npy"}


def test_a_file_without_a_folder_has_no_nested_key() -> None:
    with pytest.raises(SchemaError, match="no folder to name its sample"):
        nested_key_of_name("cat")


def test_a_column_name_becomes_one_part() -> None:
    assert quote_part("train/images") == "train%2Fimages"
    assert quote_part("..") == "%2E%2E"
