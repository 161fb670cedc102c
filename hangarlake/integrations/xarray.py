"""xarray: ``xr.open_dataset(url, engine="hangarlake", rev="main")``, and writing datasets from many workers into one commit."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.backends import BackendEntrypoint
from xarray.backends.zarr import ZarrBackendEntrypoint

from hangarlake.repository import Repository

if TYPE_CHECKING:
    from hangarlake.checkout import BaseCheckout
    from hangarlake.forking import ChangeSet, ForkedWriter
    from hangarlake.write_checkout import WriteCheckout

__all__ = ["HangarlakeBackend", "to_hangarlake"]


class HangarlakeBackend(BackendEntrypoint):  # type: ignore[misc]  # checked as if xarray were not installed
    """Opens the arrays of a repository at a revision; ``engine="hangarlake"``.

    It opens repositories by URL or path, ``Repository`` objects and checkouts. ``chunks={}`` gives Dask arrays with the chunks
    that are stored.
    """

    description = "Open Zarr hierarchies in Hangarlake repositories at any revision"
    url = "https://hangarlake.dev"
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Tell whether something is a folder with a Hangarlake repository (other URLs need ``engine="hangarlake"``)."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = os.fspath(filename_or_obj)
        return isinstance(path, str) and os.path.isfile(os.path.join(path, "hangarlake.json"))  # noqa: PTH113, PTH118

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: bool = True,
        decode_times: Any = True,
        concat_characters: bool = True,
        decode_coords: Any = True,
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: bool | None = None,
        decode_timedelta: Any = None,
        rev: str | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> xr.Dataset:
        """Open one group as a dataset.

        Parameters
        ----------
        filename_or_obj : str, path, Repository or checkout
        rev : revision, optional
            By default the default branch.
        group : str, optional
            Path of the group; by default the root.
        storage_options : mapping, optional
            As fsspec takes them.
        cache_dir : path-like, optional
        """
        dataset: xr.Dataset = self._zarr().open_dataset(
            checkout_of(filename_or_obj, rev, storage_options, cache_dir).store,
            mask_and_scale=mask_and_scale,
            decode_times=decode_times,
            concat_characters=concat_characters,
            decode_coords=decode_coords,
            drop_variables=drop_variables,
            use_cftime=use_cftime,
            decode_timedelta=decode_timedelta,
            group=group,
            consolidated=False,
            zarr_format=3,
        )
        return dataset

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        rev: str | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        **decoding: Any,
    ) -> xr.DataTree:
        """Open a group and everything below it as a tree. Parameters are those of :meth:`open_dataset`."""
        store = checkout_of(filename_or_obj, rev, storage_options, cache_dir).store
        tree: xr.DataTree = self._zarr().open_datatree(
            store, group=group, consolidated=False, zarr_format=3, **decoding
        )
        return tree

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        rev: str | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        **decoding: Any,
    ) -> dict[str, xr.Dataset]:
        """Open a group and everything below it as datasets by path. Parameters are those of :meth:`open_dataset`."""
        store = checkout_of(filename_or_obj, rev, storage_options, cache_dir).store
        groups: dict[str, xr.Dataset] = self._zarr().open_groups_as_dict(
            store, group=group, consolidated=False, zarr_format=3, **decoding
        )
        return groups

    @staticmethod
    def _zarr() -> Any:
        return ZarrBackendEntrypoint()


def checkout_of(
    place: Any,
    rev: str | None,
    storage_options: Mapping[str, Any] | None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> BaseCheckout:
    """Return the checkout that a URL, path, repository or checkout stands for.

    Raises
    ------
    RepositoryNotFoundError, RevisionNotFoundError
    ValueError
        For a revision of a checkout, which has one.
    """
    if hasattr(place, "store") and hasattr(place, "arrays"):
        if rev is not None:
            raise ValueError("a checkout is of one revision; open the repository to choose another")
        checkout: BaseCheckout = place
        return checkout
    if not isinstance(place, Repository):
        place = Repository.open(place, storage_options=storage_options, cache_dir=cache_dir)
    opened: BaseCheckout = place.checkout(rev)
    return opened


# ---- writing from many workers ------------------------------------------------------------------------------------------


def to_hangarlake(
    ds: xr.Dataset,
    w: WriteCheckout,
    *,
    group: str | None = None,
    mode: str | None = None,
    append_dim: Hashable | None = None,
    region: Mapping[str, slice] | None = None,
    encoding: Mapping[str, Any] | None = None,
) -> None:
    """Write a dataset into a write checkout; variables that are Dask arrays are written by Dask's workers, wherever they are.

    Everything is staged together, and committed by ``w.commit``.

    Parameters
    ----------
    ds : xarray.Dataset
    w : WriteCheckout
    group : str, optional
        Path of the group.
    mode : "w", "w-", "a", "a-" or "r+", optional
        As ``Dataset.to_zarr`` takes it.
    append_dim : hashable, optional
        Dimension along which the dataset is appended to what is there.
    region : mapping of str to slice, optional
        The part of what is there that the dataset replaces.
    encoding : mapping, optional
        By variable, as ``Dataset.to_zarr`` takes it.

    Raises
    ------
    ValueError
        Where xarray refuses: blocks of Dask that meet within a chunk, say. Rechunk the dataset before.
    """
    import dask

    before = 0
    if append_dim is not None:
        before = int(xr.open_zarr(w.store, group=group, consolidated=False, chunks=None).sizes[append_dim])
    options: dict[str, Any] = {"group": group, "zarr_format": 3, "consolidated": False, "compute": False}
    given = {"mode": mode, "append_dim": append_dim, "region": region, "encoding": encoding}
    options |= {name: value for name, value in given.items() if value is not None}
    # Writes all metadata, and the variables that are in memory; those of Dask stay to be written.
    ds.to_zarr(w.store, **options)
    lazy = {name: variable for name, variable in ds.variables.items() if dask.is_dask_collection(variable)}
    if not lazy:
        return
    fork = w.fork()
    write = dask.delayed(_write_block, pure=False)
    tasks = []
    starts = {dim: part.start or 0 for dim, part in (region or {}).items()}
    if append_dim is not None:
        starts[str(append_dim)] = before
    for variable_name, variable in lazy.items():
        for where in _blocks(variable):
            part = variable[tuple(where.values())]
            place = {
                str(dim): slice(starts.get(str(dim), 0) + taken.start, starts.get(str(dim), 0) + taken.stop)
                for dim, taken in where.items()
            }
            tasks.append(write(fork, group, variable_name, variable.dims, part.attrs, part.data, place))
    w.join(*dask.compute(*tasks))


def _blocks(variable: xr.Variable) -> list[dict[Hashable, slice]]:
    axes = []
    for sizes in variable.chunks or ():
        starts = [int(n) for n in np.cumsum((0, *sizes[:-1]))]
        axes.append([slice(start, start + n) for start, n in zip(starts, sizes, strict=True)])
    return [dict(zip(variable.dims, block, strict=True)) for block in product(*axes)]


def _write_block(
    fork: ForkedWriter,
    group: str | None,
    name: Hashable,
    dims: tuple[Hashable, ...],
    attrs: dict[str, Any],
    block: Any,
    place: dict[str, slice],
) -> ChangeSet:
    # Threads share the object; each task needs a fork of its own.
    with fork.fresh() as mine:
        part = xr.Dataset({name: (dims, block, attrs)})
        options: dict[str, Any] = {"group": group, "zarr_format": 3, "consolidated": False}
        if place:
            part.to_zarr(mine.store, region=place, mode="r+", **options)
        else:
            part.to_zarr(mine.store, mode="a", **options)
        return mine.changes()
