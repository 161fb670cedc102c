"""What a writable Zarr store is in a process that does not have its write checkout: a store that refuses everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NoReturn

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from hangarlake.errors import ReadOnlyError

__all__ = ["DetachedStore"]


class DetachedStore(Store):
    """A writable store without its write checkout.

    It can be made anywhere, so that it is the task that uses it which fails, and not the transport of the task: Dask waits
    for ever for what cannot be unpickled. Every look at it raises ``ReadOnlyError``.

    Parameters
    ----------
    rebuild : (callable, tuple)
        What its pickle is made of again: back in its own process it is the store of the write checkout.
    read_only : bool
        As the store was.
    """

    supports_writes: bool = True
    supports_deletes: bool = True
    supports_listing: bool = True

    def __init__(self, rebuild: tuple[Callable[..., Any], tuple[Any, ...]], *, read_only: bool) -> None:
        super().__init__(read_only=read_only)
        self._rebuild = rebuild

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DetachedStore) and self._rebuild == other._rebuild

    __hash__ = None  # type: ignore[assignment]  # as the store that it stands for

    def __reduce__(self) -> tuple[Any, ...]:
        return self._rebuild

    def __repr__(self) -> str:
        return "<DetachedStore: the store of a write checkout, of no use without it>"

    def _refuse(self) -> NoReturn:
        raise ReadOnlyError(
            "the store of a write checkout works in its own process only, and as long as the checkout does; with Dask's workers "
            "use hangarlake.integrations.xarray.to_hangarlake(ds, w), or w.fork(); the empty arrays that to_zarr made are staged: "
            "mode='w' replaces them, and w.reset() drops what is staged"
        )

    def _check_writable(self) -> None:
        self._refuse()

    def with_read_only(self, read_only: bool = False) -> DetachedStore:  # noqa: ARG002 - the signature of zarr
        """Return this store: it is of no use either way."""
        return self

    def get_sync(
        self,
        key: str,  # noqa: ARG002 - the signature of zarr
        *,
        prototype: BufferPrototype | None = None,  # noqa: ARG002 - as above
        byte_range: ByteRequest | None = None,  # noqa: ARG002 - as above
    ) -> Buffer | None:
        """Refuse."""
        self._refuse()

    async def get(
        self,
        key: str,  # noqa: ARG002 - the signature of zarr
        prototype: BufferPrototype,  # noqa: ARG002 - as above
        byte_range: ByteRequest | None = None,  # noqa: ARG002 - as above
    ) -> Buffer | None:
        """Refuse."""
        self._refuse()

    async def get_partial_values(
        self,
        prototype: BufferPrototype,  # noqa: ARG002 - the signature of zarr
        key_ranges: Iterable[tuple[str, ByteRequest | None]],  # noqa: ARG002 - as above
    ) -> list[Buffer | None]:
        """Refuse."""
        self._refuse()

    async def exists(self, key: str) -> bool:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()

    def set_sync(self, key: str, value: Buffer) -> None:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()

    async def set(self, key: str, value: Buffer) -> None:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()

    def delete_sync(self, key: str) -> None:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()

    async def delete(self, key: str) -> None:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()

    async def delete_dir(self, prefix: str) -> None:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()

    def list(self) -> AsyncIterator[str]:
        """Refuse."""
        self._refuse()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002 - the signature of zarr
        """Refuse."""
        self._refuse()
