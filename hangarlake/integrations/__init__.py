"""Dask, xarray and Ray on top of columns and arrays. Each needs its own package, and is imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["load"]

# What to install where it is not the name that is imported.
_PACKAGES = {"dask": "dask[array]", "ray": "ray[data]"}


def load(name: str) -> Any:
    """Import one of the integrations.

    Raises
    ------
    ImportError
        If its package is not installed; says how to install it.
    """
    try:
        import_module(name)
    except ImportError as error:
        raise ImportError(f'this needs {name}: pip install "{_PACKAGES.get(name, name)}"') from error
    return import_module(f"hangarlake.integrations.{name}")
