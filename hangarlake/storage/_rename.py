"""Rename without replacing, for file systems that have no hard links."""

from __future__ import annotations

import ctypes
import errno
import os
import sys

__all__ = ["RenameUnsupportedError", "rename_new"]

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1  # Linux
_RENAME_EXCL = 4  # macOS
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM})


class RenameUnsupportedError(OSError):
    """The platform or the file system has no rename that refuses to replace."""


def rename_new(source: str, target: str) -> bool:
    """Give the file `source` the name `target` in one step unless that is taken; tell whether it was free.

    Raises
    ------
    RenameUnsupportedError
        The platform or the file system cannot.
    OSError
        Anything else that the rename failed of.
    """
    if os.name == "nt":
        try:
            os.rename(source, target)  # noqa: PTH104 -- refuses to replace, on this platform
        except FileExistsError:
            return False
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    here, there = os.fsencode(source), os.fsencode(target)
    try:
        if sys.platform == "darwin":
            status = libc.renamex_np(here, there, _RENAME_EXCL)
        else:
            status = libc.renameat2(_AT_FDCWD, here, _AT_FDCWD, there, _RENAME_NOREPLACE)
    except AttributeError as error:
        raise RenameUnsupportedError("the C library has no rename that refuses to replace") from error
    if status == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in _UNKNOWN:
        raise RenameUnsupportedError("the file system has no rename that refuses to replace")
    raise OSError(code, os.strerror(code), source, None, target)
