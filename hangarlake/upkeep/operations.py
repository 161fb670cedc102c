"""What a repository does for its own keeping: the methods that :class:`Repository` takes from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from hangarlake.records.models import Commit
from hangarlake.session import Session
from hangarlake.upkeep.results import VerifyReport

if TYPE_CHECKING:
    from hangarlake.upkeep.findings import Told
    from hangarlake.upkeep.verifying import Level

__all__ = ["UpkeepOperations"]


class _WithRemotes(Protocol):
    @property
    def remotes(self) -> Mapping[str, Any]: ...


class UpkeepOperations:
    """Checking a repository."""

    _session: Session

    def verify(
        self,
        rev: str | Commit | None = None,
        *,
        level: Level = "full",
        sample: float | int | None = None,
        seed: int = 0,
        progress: Told | None = None,
    ) -> VerifyReport:
        """Check that the repository holds what it promises. Nothing is written, and a problem does not end the check.

        Parameters
        ----------
        rev : revision, optional
            Check what this commit and its ancestors hold; by default everything that a branch or tag reaches, and every place
            where a branch has ever stood.
        level : "refs", "records" or "full"
            ``"refs"``: the marker, all movements of branches, tags, and the commits that they stand on. ``"records"``: every
            commit, catalog and tree node as well, and how they fit together. ``"full"``: all data as well; each pack is read
            once, and every sample is decoded and compared with its digest.
        sample : int or float, optional
            With ``"full"``: check only so many chunks (an int) or such a share of them (a float from 0 to 1), at random;
            of a share above 0.0 at least one chunk. ``report.checked["chunks_total"]`` tells how many there are.
        seed : int
            Which ones: the same seed chooses the same chunks.
        progress : callable, optional
            Called with what is being read (``"refs"``, ``"commits"``, ``"trees"``, ``"data"``) and a number of bytes, on any thread.

        Returns
        -------
        VerifyReport
            True where no problem was found. In a partial clone, data that is not here and need not be is counted as ``absent``.

        Raises
        ------
        RevisionNotFoundError, AmbiguousRevisionError
        StorageError
            If the store cannot be read: that is no damage, and nothing was found out.
        """
        from hangarlake.upkeep.verifying import verify

        partial = any(not remote.data for remote in cast("_WithRemotes", self).remotes.values())
        return verify(self._session, rev, level=level, sample=sample, seed=seed, partial=partial, told=progress)
