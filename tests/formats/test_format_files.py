"""Every format reads what it wrote, exactly, and refuses damaged files without unpickling or believing anything in them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hangarlake.errors import SchemaError, UnsupportedFormatError
from hangarlake.formats import Format, base, format_for, format_named, formats
from hangarlake.formats.images import JPEG, PNG, TIFF
from hangarlake.formats.numpy_files import NPY, NPZ
from hangarlake.formats.plain import BYTES, JSON, TEXT

rng = np.random.default_rng(7)
ARRAYS = [
    np.arange(24, dtype=np.int64).reshape(2, 3, 4),
    np.array(3.5, dtype=np.float32),
    np.zeros((0, 4), dtype=np.uint8),
    np.asfortranarray(rng.normal(size=(3, 5))),
    np.array(["2026-11-01", "NaT"], dtype="datetime64[D]"),
    np.array([b"ab", b"c"], dtype="S2"),
    np.array(["ü", "lang"], dtype="U4"),
    np.array([True, False]),
    np.array([1 + 2j], dtype=np.complex64),
    np.arange(6, dtype=">u2").reshape(2, 3),
]


class _Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (self.path,)


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return (
        a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=")
        and a.shape == b.shape
        and a.astype(a.dtype.newbyteorder("<")).tobytes() == b.astype(b.dtype.newbyteorder("<")).tobytes()
    )


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_npy_reads_back_what_it_wrote(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    NPY.write(tmp_path / "a.npy", [(None, array)])
    [(name, back)] = NPY.read(tmp_path / "a.npy")
    assert name is None
    assert same(back, array)


def test_npz_reads_back_what_it_wrote_in_order_and_numpy_does_too(tmp_path: Path) -> None:
    members = [(f"folder/{i}", array) for i, array in enumerate(ARRAYS)]
    NPZ.write(tmp_path / "a.npz", members)
    back = list(NPZ.read(tmp_path / "a.npz"))
    assert [name for name, _ in back] == [name for name, _ in members]
    assert all(same(a, b) for (_, a), (_, b) in zip(back, members, strict=True))
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == [name for name, _ in members]


def test_npz_reads_what_numpy_wrote_compressed(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=ARRAYS[0], labels=ARRAYS[1])
    back = dict(NPZ.read(tmp_path / "a.npz"))
    assert same(back["images"], ARRAYS[0])
    assert same(back["labels"], ARRAYS[1])


def test_equal_arrays_export_to_equal_archives(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        NPZ.write(tmp_path / name, [("x", ARRAYS[0])])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("format", [NPY, NPZ], ids=["npy", "npz"])
def test_pickles_are_refused_and_never_run(tmp_path: Path, format: Format) -> None:
    trace = tmp_path / "unpickled"
    array = np.array([_Bomb(trace)], dtype=object)
    path = tmp_path / "bomb"
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=True) if format is NPY else np.savez(file, x=array)
    with pytest.raises(ValueError, match=r"[Oo]bject|pickle"):
        list(format.read(path))
    path.write_bytes(pickle.dumps(_Bomb(trace)))
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        list(format.read(path))
    assert not trace.exists()


def test_a_header_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    lie = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"short"
    (tmp_path / "a.npy").write_bytes(lie)
    with pytest.raises(ValueError, match="length"):
        list(NPY.read(tmp_path / "a.npy"))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", lie)
    with pytest.raises(ValueError, match="cut short"):
        list(NPZ.read(tmp_path / "a.npz"))


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated_files_are_refused(tmp_path: Path, keep: int) -> None:
    for format, name in ((NPY, "a.npy"), (NPZ, "a.npz"), (PNG, "a.png"), (TIFF, "a.tif"), (JPEG, "a.jpg")):
        path = tmp_path / name
        format.write(path, [("x" if format.holds_many else None, np.zeros((16, 16), np.uint8))])
        path.write_bytes(path.read_bytes()[: keep if keep >= 0 else -20])
        with pytest.raises(Exception):  # noqa: B017  # anything: the importer wraps it
            list(format.read(path))


def test_an_archive_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"readme\.txt"):
        list(NPZ.read(tmp_path / "a.npz"))


def test_arrays_of_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="not objects"):
        NPY.write(tmp_path / "a.npy", [(None, np.array([{}], dtype=object))])


IMAGES = {
    "grey": rng.integers(0, 256, (5, 7), dtype=np.uint8),
    "rgb": rng.integers(0, 256, (5, 7, 3), dtype=np.uint8),
    "rgba": rng.integers(0, 256, (5, 7, 4), dtype=np.uint8),
    "grey and alpha": rng.integers(0, 256, (5, 7, 2), dtype=np.uint8),
    "grey16": rng.integers(0, 65536, (5, 7), dtype=np.uint16),
    "bilevel": rng.integers(0, 2, (5, 7)).astype(bool),
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("format", [PNG, TIFF], ids=lambda format: format.name)
def test_lossless_images_read_back_exactly(tmp_path: Path, format: Format, kind: str) -> None:
    path = tmp_path / f"a{format.suffixes[0]}"
    format.write(path, [(None, IMAGES[kind])])
    [(_, back)] = format.read(path)
    assert same(back, IMAGES[kind])


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_tiff_holds_wide_grey_values(tmp_path: Path, dtype: Any) -> None:
    array = rng.normal(0, 1000, (4, 6)).astype(dtype)
    TIFF.write(tmp_path / "a.tif", [(None, array)])
    [(_, back)] = TIFF.read(tmp_path / "a.tif")
    assert same(back, array)


def test_jpeg_keeps_size_and_kind(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 4
    JPEG.write(tmp_path / "a.jpg", [(None, smooth)])
    [(_, back)] = JPEG.read(tmp_path / "a.jpg")
    assert (back.shape, back.dtype) == (smooth.shape, smooth.dtype)
    assert np.abs(back.astype(int) - smooth).max() < 12


def test_a_last_axis_of_one_is_a_grey_image(tmp_path: Path) -> None:
    PNG.write(tmp_path / "a.png", [(None, IMAGES["grey"][:, :, None])])
    [(_, back)] = PNG.read(tmp_path / "a.png")
    assert same(back, IMAGES["grey"])


@pytest.mark.parametrize(
    ("format", "array"),
    [
        (PNG, np.zeros((4, 4), np.float64)),
        (PNG, np.zeros((4, 4, 5), np.uint8)),
        (JPEG, IMAGES["rgba"]),
        (PNG, np.zeros(4, np.uint8)),
        (PNG, np.zeros((0, 4), np.uint8)),
    ],
)
def test_pixels_that_a_format_lacks_are_refused(tmp_path: Path, format: Format, array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(SchemaError, match="cannot hold"):
        format.write(tmp_path / "a", [(None, array)])


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    image = Image.fromarray(IMAGES["rgb"]).quantize(16)
    image.save(tmp_path / "a.png")
    [(_, back)] = PNG.read(tmp_path / "a.png")
    assert same(back, np.asarray(image.convert("RGB")))


def test_the_pages_of_a_file_are_stacked(tmp_path: Path) -> None:
    pages = [Image.fromarray(IMAGES["grey"]), Image.fromarray(255 - IMAGES["grey"])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    [(_, back)] = TIFF.read(tmp_path / "a.tif")
    assert same(back, np.stack([IMAGES["grey"], 255 - IMAGES["grey"]]))


def test_a_file_of_another_format_than_its_suffix_is_refused(tmp_path: Path) -> None:
    JPEG.write(tmp_path / "a.png", [(None, IMAGES["grey"])])
    with pytest.raises(OSError, match="cannot identify"):
        list(PNG.read(tmp_path / "a.png"))


def test_without_pillow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"pip install pillow"):
        list(PNG.read(tmp_path / "a.png"))


@pytest.mark.parametrize("text", ["", "plain", "Zeilen\r\nund ümläute\n", "\ufeffmark"])
def test_text_keeps_every_character(tmp_path: Path, text: str) -> None:
    TEXT.write(tmp_path / "a.txt", [(None, text)])
    assert list(TEXT.read(tmp_path / "a.txt")) == [(None, text)]


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        list(TEXT.read(tmp_path / "a.txt"))


def test_json_documents_and_bytes_read_back(tmp_path: Path) -> None:
    document = {"ü": [1, 2.5, None, True], "a": {"b": "c"}}
    JSON.write(tmp_path / "a.json", [(None, document)])
    assert list(JSON.read(tmp_path / "a.json")) == [(None, document)]
    BYTES.write(tmp_path / "a.bin", [(None, b"\0\xff")])
    assert list(BYTES.read(tmp_path / "a.bin")) == [(None, b"\0\xff")]


def test_json_without_meaning_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[NaN]")
    with pytest.raises(ValueError, match="NaN"):
        list(JSON.read(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.npy", "npy"),
        ("A.NPZ", "npz"),
        ("x.tar.png", "png"),
        ("b.jpeg", "jpeg"),
        ("b.JPG", "jpeg"),
        ("c.tiff", "tiff"),
        ("d.txt", "text"),
        ("e.json", "json"),
        ("f.bin", "bytes"),
    ],
)
def test_suffixes_name_formats(name: str, format: str) -> None:
    found = format_for(Path(name))
    assert found is not None
    assert found.name == format


@pytest.mark.parametrize("name", ["a", ".npy", "a.xyz", "npy"])
def test_other_names_name_none(name: str) -> None:
    assert format_for(Path(name)) is None


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedFormatError, match="bytes, jpeg, json, npy, npz, png, text, tiff"):
        format_named("nifti")


class _EntryPoint:
    def __init__(self, name: str, thing: Any) -> None:
        self.name = name
        self._thing = thing

    def load(self) -> Any:
        if isinstance(self._thing, Exception):
            raise self._thing
        return self._thing


class _Upper:
    """A plug-in: text in capitals."""

    name = "upper"
    suffixes = (".upper",)
    kinds = frozenset({"str"})
    holds_many = False

    def read(self, path: Path) -> Any:
        yield None, path.read_text().upper()

    def write(self, path: Path, members: Any) -> None:
        for _, value in members:
            path.write_text(value)


class _Npy(_Upper):
    name = "npy"


def test_plugins_are_found_and_broken_ones_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = [
        _EntryPoint("broken", ImportError("no such thing")),
        _EntryPoint("foreign", io.StringIO),
        _EntryPoint("npy", _Npy),
        _EntryPoint("upper", _Upper),
    ]
    monkeypatch.setattr(base, "entry_points", lambda group: points if group == "hangarlake.formats" else [])
    formats.cache_clear()
    try:
        assert isinstance(format_named("upper"), _Upper)
        assert format_for(Path("a.upper")) is format_named("upper")
        assert format_named("npy") is NPY
        assert all(name in caplog.text for name in ("broken", "foreign", "npy"))
    finally:
        formats.cache_clear()
