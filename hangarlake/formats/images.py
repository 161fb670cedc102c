"""Image files through Pillow: PNG and TIFF exactly, JPEG as close as it gets.

Pixels come as they are stored: greyscale as ``(height, width)``, colours as ``(height, width, channels)``; images with a palette
as RGB or RGBA; TIFF files of several pages as ``(pages, height, width, …)``. EXIF orientation is not applied.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hangarlake.errors import SchemaError
from hangarlake.formats.base import Member

__all__ = ["JPEG", "PNG", "TIFF", "ImageFormat"]

# Pillow modes whose pixels np.asarray gives without changing them.
_EXACT_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "I;16L", "I;16B"})
# What an array must be to be stored exactly: (dtype, channels; 0: no such axis).
_GREY8, _GREY_ALPHA8, _RGB8, _RGBA8 = ("|u1", 0), ("|u1", 2), ("|u1", 3), ("|u1", 4)
_GREY16, _GREY32, _FLOAT32, _BILEVEL = ("<u2", 0), ("<i4", 0), ("<f4", 0), ("|b1", 0)


@dataclass(frozen=True)
class ImageFormat:
    """One image per file.

    Attributes
    ----------
    pillow_name : str
        Pillow's name of the format; a file must be of it whatever its suffix says.
    stores : frozenset of (str, int)
        Dtypes and channels that it can hold.
    options : Mapping
        Arguments of Pillow's ``save``.
    """

    name: str
    suffixes: tuple[str, ...]
    pillow_name: str
    stores: frozenset[tuple[str, int]]
    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset({"ndarray"})
    holds_many: bool = False

    def read(self, path: Path) -> Iterator[Member]:
        """Yield the pixels under no name."""
        pillow = _pillow()
        with pillow.open(path, formats=[self.pillow_name]) as image:
            # Checksums and the end of the file, where the format has them: decoding stops at the last pixel.
            image.verify()
        with pillow.open(path, formats=[self.pillow_name]) as image:
            pages = []
            for page in range(getattr(image, "n_frames", 1)):
                image.seek(page)
                pages.append(_pixels(image))
        if any(page.shape != pages[0].shape or page.dtype != pages[0].dtype for page in pages):
            raise ValueError("its pages differ in size or kind")
        yield None, pages[0] if len(pages) == 1 else np.stack(pages)

    def write(self, path: Path, members: Iterable[Member]) -> None:
        """Write one image; ``SchemaError`` if the format has no such pixels."""
        pillow = _pillow()
        for _, value in members:
            array = np.asarray(value)
            if array.ndim == 3 and array.shape[2] == 1:
                array = array[:, :, 0]
            channels = array.shape[2] if array.ndim == 3 else 0
            dtype = array.dtype.newbyteorder("<").str
            if array.ndim not in (2, 3) or (dtype, channels) not in self.stores or 0 in array.shape:
                raise SchemaError(
                    f"{self.pillow_name} cannot hold an array of shape {array.shape} and dtype {array.dtype}; use the format npy"
                )
            image = pillow.fromarray(np.ascontiguousarray(array.astype(dtype, copy=False)))
            image.save(path, format=self.pillow_name, **self.options)


def _pixels(image: Any) -> np.ndarray[Any, Any]:
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode not in _EXACT_MODES:
        raise ValueError(f"its colour mode {image.mode} has no exact array")
    array: np.ndarray[Any, Any] = np.asarray(image)
    if array.dtype == np.bool_:
        # Pillow's “true” is 255, which NumPy prints and compares as True and stores as it is.
        array = array.view(np.uint8) != 0
    return array.astype(array.dtype.newbyteorder("="), copy=True)


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ModuleNotFoundError("image files need Pillow: pip install pillow", name="PIL") from error


PNG = ImageFormat("png", (".png",), "PNG", frozenset({_GREY8, _GREY_ALPHA8, _RGB8, _RGBA8, _GREY16, _BILEVEL}))
JPEG = ImageFormat("jpeg", (".jpg", ".jpeg"), "JPEG", frozenset({_GREY8, _RGB8}), {"quality": 95, "subsampling": 0})
TIFF = ImageFormat(
    "tiff",
    (".tif", ".tiff"),
    "TIFF",
    frozenset({_GREY8, _GREY_ALPHA8, _RGB8, _RGBA8, _GREY16, _GREY32, _FLOAT32, _BILEVEL}),
    {"compression": "tiff_adobe_deflate"},
)
